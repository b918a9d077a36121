"""Data under version control as people meet it: added, imported, updated, shared by a folder or by S3, compared."""

import functools
import http.server
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import httpx
import numpy as np
import pytest
from conftest import BakedProject, Copy, clone, digests, edit, stages_run
from moto.server import ThreadedMotoServer
from PIL import Image
from sklearn.datasets import load_digits

pytestmark = pytest.mark.pipeline

IMAGES = "data/raw/images"
CLASSES = ("zero", "one", "two")
AWS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


def draw(folder: Path) -> None:
    """Writes sixty small pictures of each of three digits, one sub-folder a class."""
    digits = load_digits()
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for row, image in enumerate(digits.images[digits.target == label][:60]):
            Image.fromarray((image * 15).astype(np.uint8)).save(folder / name / f"{row}.png")


@pytest.fixture(scope="module")
def pictures(default_project: BakedProject, copy: Copy) -> BakedProject:
    """A project that was run on its own pictures, in one commit. Do not change it: `copy` it."""
    project = copy(default_project)
    draw(project.path / IMAGES)
    project.run("dvc", "add", IMAGES)
    edit(project, "conf/config.yaml", "- data: digits", "- data: image_folder")
    edit(project, "conf/config.yaml", "- model: cnn", "- model: mlp")
    edit(project, "conf/config.yaml", "- explain: default", "- explain: none")
    edit(project, "conf/data/image_folder.yaml", "image_size: [64, 64]", "image_size: [8, 8]")
    edit(project, "conf/train/default.yaml", "epochs: 60", "epochs: 10")
    project.run("dvc", "repro")
    project.commit("Pictures")
    return project


@pytest.fixture
def s3() -> Iterator[str]:
    """An S3 server on the loopback interface, with an empty bucket named `bucket`; gives its address."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    address, port = server.get_host_and_port()
    url = f"http://{address}:{port}"
    httpx.put(f"{url}/bucket").raise_for_status()
    yield url
    httpx.post(f"{url}/moto-api/reset")  # it keeps what it holds in this process
    server.stop()


@pytest.fixture
def website(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on the loopback interface: its address, and the folder that it shows."""
    folder = tmp_path / "website"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()


def content(folder: Path) -> dict[str, bytes]:
    """Gives what the files of a folder hold."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_git_gets_the_hash_and_dvc_the_pictures(pictures: BakedProject) -> None:
    tracked = pictures.run("git", "ls-files", "data").stdout.splitlines()
    assert "data/raw/images.dvc" in tracked
    assert not [name for name in tracked if name.endswith(".png")]
    assert "nfiles: 180" in pictures.read("data/raw/images.dvc")


def test_two_versions_can_be_compared(pictures: BakedProject, copy: Copy) -> None:
    """A class that is labelled wrongly in part, then a parameter: a commit each."""
    project = copy(pictures)
    for row in range(25):
        (project.path / IMAGES / "one" / f"{row}.png").rename(project.path / IMAGES / "zero" / f"once-one-{row}.png")
    done = project.run("dvc", "repro")  # it also tracks what changed in the folder
    assert stages_run(done.stdout) == ["prepare", "train", "explain", "robustness", "evaluate"]
    assert "data/raw/images.dvc" in project.git_status()
    project.commit("Wrong labels")
    edit(project, "conf/config.yaml", "confidence: 0.95", "confidence: 0.9")
    assert stages_run(project.run("dvc", "repro").stdout) == ["config", "robustness", "evaluate"]
    project.commit("Narrower intervals")
    assert project.git_status() == ""

    files = {
        Path(entry["path"]) for entry in json.loads(project.run("dvc", "diff", "HEAD~2", "--json").stdout)["modified"]
    }
    assert {Path("data/raw/images"), Path("models/model.onnx"), Path("reports/metrics.json")} <= files

    table = project.run("dvc", "params", "diff", "HEAD~2").stdout.splitlines()
    assert [line.split() for line in table[1:] if line] == [["params.yaml", "evaluate.confidence", "0.95", "0.9"]]

    (metrics,) = json.loads(project.run("dvc", "metrics", "diff", "--json", "HEAD~2").stdout).values()
    assert next(change for name, change in metrics.items() if name.startswith("accuracy"))["diff"] < 0
    assert next(change for name, change in metrics.items() if name.startswith("log_loss"))["diff"] > 0

    project.run("dvc", "plots", "diff", "--out", "build/plots", "HEAD~2")
    page = project.read("build/plots/index.html")
    for name in ("Loss", "Accuracy", "Confusion", "HEAD~2", "workspace"):
        assert name in page
    static = project.path / "build/plots/static"
    mistakes = {(static / f"{commit}_reports_plots_mistakes.png").read_bytes() for commit in ("HEAD~2", "workspace")}
    assert len(mistakes) == 2
    assert project.git_status() == ""  # build/ is ignored

    # And back: the first commit's data, model and reports are in the cache.
    project.run("git", "checkout", "--quiet", "HEAD~2")
    project.run("dvc", "checkout")
    assert digests(project) == digests(pictures)
    assert content(project.path / IMAGES) == content(pictures.path / IMAGES)
    assert stages_run(project.run("dvc", "repro").stdout) == []


def check_shared(project: BakedProject, colleague: BakedProject) -> None:
    """Checks that a clone, after `dvc pull`, holds what the project holds and has nothing left to run."""
    assert digests(colleague) == digests(project)
    assert content(colleague.path / IMAGES) == content(project.path / IMAGES)
    assert stages_run(colleague.run("dvc", "repro").stdout) == []
    assert colleague.git_status() == ""


def test_a_colleague_gets_everything_from_a_folder(pictures: BakedProject, copy: Copy) -> None:
    project = copy(pictures)
    project.run("dvc", "push")
    colleague = clone(project, project.path.parent / "colleague")
    colleague.run("dvc", "pull")
    check_shared(project, colleague)
    again = colleague.run("dvc", "push")
    assert "Everything is up to date" in again.stdout + again.stderr


def test_a_colleague_gets_everything_from_s3(
    pictures: BakedProject, bake: Callable[..., BakedProject], s3: str, tmp_path: Path
) -> None:
    project = bake(dvc_remote="s3", dvc_remote_url="s3://bucket/my-experiment")
    assert project.has_file("requirements/remote-s3.lock")  # which `make setup` installs as well
    # What was run with another remote holds here: where data are shared is no input of the pipeline.
    for folder in ("conf", "data", ".dvc/cache"):
        shutil.copytree(pictures.path / folder, project.path / folder, dirs_exist_ok=True)
    for file in ("params.yaml", "dvc.lock"):
        shutil.copy(pictures.path / file, project.path / file)
    project.run("dvc", "checkout")
    assert "up to date" in project.run("dvc", "status").stdout
    project.commit("Pictures")

    refused = project.run("dvc", "push", check=False)
    assert refused.returncode != 0
    assert "Unable to locate credentials" in refused.stderr and "Traceback" not in refused.stderr

    # A server that speaks S3's protocol; written to .dvc/config.local, which git ignores.
    project.run("dvc", "remote", "modify", "--local", "storage", "endpointurl", s3)
    # Encrypted with a key of the owner's, as docs/remote-s3.md says.
    project.run("dvc", "remote", "modify", "storage", "sse", "aws:kms")
    project.run("dvc", "remote", "modify", "storage", "sse_kms_key_id", "alias/my-experiment")
    project.commit("Key")
    project.run("dvc", "push", env=AWS)
    assert project.git_status() == ""
    bucket = boto3.resource(
        "s3", endpoint_url=s3, aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1"
    ).Bucket("bucket")
    stored = [each.Object() for each in bucket.objects.all()]
    assert len(stored) > 180  # each picture, and the outputs
    assert {(each.server_side_encryption, each.ssekms_key_id) for each in stored} == {
        ("aws:kms", "alias/my-experiment")
    }

    colleague = clone(project, tmp_path / "colleague")
    colleague.run("dvc", "pull", env={**AWS, "AWS_ENDPOINT_URL": s3})  # the other way to say where it is
    check_shared(project, colleague)

    colleague.run("dvc", "remote", "modify", "--local", "storage", "url", "s3://no-such-bucket/x")
    refused = colleague.run("dvc", "push", check=False, env={**AWS, "AWS_ENDPOINT_URL": s3})
    assert refused.returncode != 0
    assert "The specified bucket does not exist" in refused.stderr and "Traceback" not in refused.stderr


def test_imported_data_follow_their_origin(pictures: BakedProject, copy: Copy, tmp_path: Path) -> None:
    project = copy(pictures)
    origin = tmp_path / "origin"
    (project.path / IMAGES).rename(origin)
    project.run("dvc", "remove", "data/raw/images.dvc")
    project.run("dvc", "import-url", origin, IMAGES)
    # Other words in the .dvc file, the same data: nothing is trained again.
    assert stages_run(project.run("dvc", "repro").stdout) == ["prepare"]
    project.commit("Import")
    project.run("dvc", "update", "data/raw/images.dvc")
    assert project.git_status() == ""

    (origin / "one/0.png").unlink()
    shutil.copy(origin / "zero/1.png", origin / "zero/new.png")
    assert "up to date" in project.run("dvc", "status").stdout  # nothing changes before somebody asks for it
    project.run("dvc", "update", "data/raw/images.dvc")
    assert project.git_status().split() == ["M", "data/raw/images.dvc"]
    assert content(project.path / IMAGES) == content(origin)
    assert list(json.loads(project.run("dvc", "status", "--json").stdout)) == ["prepare"]
    project.commit("Update")

    # The copy is shared like any other data: a colleague needs no access to the origin.
    project.run("dvc", "push", "data/raw/images.dvc")
    updated = content(origin)
    shutil.rmtree(origin)
    colleague = clone(project, project.path.parent / "colleague")
    colleague.run("dvc", "pull", "data/raw/images.dvc")
    assert content(colleague.path / IMAGES) == updated
    gone = colleague.run("dvc", "update", "data/raw/images.dvc", check=False)
    assert gone.returncode != 0 and "does not exist" in gone.stderr and "Traceback" not in gone.stderr


def test_a_file_is_imported_from_a_web_server(
    default_project: BakedProject, copy: Copy, website: tuple[str, Path]
) -> None:
    project = copy(default_project)
    url, folder = website
    (folder / "table.csv").write_text("a,b\n1,2\n")
    project.run("dvc", "import-url", f"{url}/table.csv", "data/raw/table.csv")
    assert project.read("data/raw/table.csv") == "a,b\n1,2\n"
    project.commit("Import")
    (folder / "table.csv").write_text("a,b\n1,2\n3,4\n")
    project.run("dvc", "update", "data/raw/table.csv.dvc")
    assert project.read("data/raw/table.csv") == "a,b\n1,2\n3,4\n"
    assert project.git_status().split() == ["M", "data/raw/table.csv.dvc"]


def test_a_folder_is_imported_from_s3(default_project: BakedProject, copy: Copy, s3: str) -> None:
    project = copy(default_project)
    env = {**AWS, "AWS_ENDPOINT_URL": s3}
    objects = {"one/1.png": b"first", "two/2.png": b"second"}
    for name, data in objects.items():
        httpx.put(f"{s3}/bucket/pictures/{name}", content=data).raise_for_status()
    project.run("dvc", "import-url", "s3://bucket/pictures", IMAGES, env=env)
    assert content(project.path / IMAGES) == objects
    project.commit("Import")
    objects["two/3.png"] = b"third"
    httpx.put(f"{s3}/bucket/pictures/two/3.png", content=b"third").raise_for_status()
    project.run("dvc", "update", "data/raw/images.dvc", env=env)
    assert content(project.path / IMAGES) == objects
    assert project.git_status().split() == ["M", "data/raw/images.dvc"]
