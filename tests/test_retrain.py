"""Retraining as a schedule runs it: real git with a bare repository, real DVC with a remote, real MLflow, real gates.

One training is all it takes: what the gates refuse first is proposed afterwards, from DVC's cache.
"""

import os
import re
import signal
import sqlite3
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from clusters import wait_until
from conftest import VENV, BakedProject, Copy, Result, edit, execute, package_python
from PIL import Image
from sklearn.datasets import load_digits

pytestmark = pytest.mark.pipeline

IMAGES = "data/raw/images"


def draw(folder: Path, rows: range) -> None:
    """Writes handwritten digits as pictures, one sub-folder a class."""
    digits = load_digits()
    for row in rows:
        (folder / str(digits.target[row])).mkdir(parents=True, exist_ok=True)
        pixels = np.rint(digits.images[row] * (255 / 16)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / str(digits.target[row]) / f"{row}.png")


def retrain(project: BakedProject, *gates: str) -> Result:
    """Runs `make retrain`, and checks that it leaves everything as it was but build/."""

    def state() -> list[str]:
        commands = ("rev-parse --abbrev-ref HEAD", "rev-parse HEAD", "status --porcelain")
        return [project.run("git", *command.split()).stdout for command in commands]

    before = state()
    done = project.run("make", "retrain", f"ARGS={' '.join(gates)}", check=False)
    assert state() == before
    assert len(project.run("git", "worktree", "list").stdout.splitlines()) == 1
    assert not list((project.path / ".dvc/tmp/retrain").iterdir())
    assert "Traceback" not in done.stderr
    return done


def refs(repository: Path) -> dict[str, str]:
    """Gives branch -> commit of a bare repository."""
    output = execute(
        "git", "for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads", cwd=repository
    ).stdout
    return dict(line.split() for line in output.splitlines())


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare repository."""
    path = tmp_path_factory.mktemp("origin") / "project.git"
    execute("git", "init", "--quiet", "--bare", "--initial-branch=main", path, cwd=path.parent)
    return path


@pytest.fixture(scope="module")
def project(
    quick_project: BakedProject, copy: Copy, origin: Path, tmp_path_factory: pytest.TempPathFactory
) -> BakedProject:
    """A project with a champion, which has then been given imported pictures; where they come from are now more."""
    project = copy(quick_project)
    (project.path / "mlflow.db").unlink()  # it names the other project's folder
    package_python(
        project,
        "from my_experiment.harness.release import registry, versions\n"
        "from my_experiment.harness.tracking import log, store\n"
        "log.log()\nregistry.register()\n"
        "store.client().set_registered_model_alias(versions.MODEL, versions.CHAMPION, '1')",
    )
    pictures = tmp_path_factory.mktemp("pictures") / "digits"
    draw(pictures, range(500))
    project.run("dvc", "import-url", pictures, IMAGES)
    edit(project, "conf/config.yaml", "- data: digits", "- data: image_folder")
    edit(project, "conf/data/image_folder.yaml", "image_size: [64, 64]", "image_size: [8, 8]")
    edit(project, "conf/data/image_folder.yaml", "channels: 3", "channels: 1")
    edit(project, "conf/train/default.yaml", "epochs: 3", "epochs: 30")
    project.commit("Our own pictures")
    project.run("git", "remote", "add", "origin", origin)
    project.run("dvc", "push")  # as the hook does, before it is pushed
    project.run("git", "push", "--quiet", "origin", "main")
    draw(pictures, range(500, 700))
    return project


def test_a_killed_one_leaves_the_workspace_as_it_was(project: BakedProject) -> None:
    env = {**os.environ, "PATH": f"{VENV / 'bin'}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        ["make", "retrain"], cwd=project.path, env=env, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    trees = project.path / ".dvc/tmp/retrain"
    try:
        wait_until(lambda: bool(list(trees.glob("*/tree/.dvc/config.local"))), "it has started", 60)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert project.git_status() == ""
    assert project.run("git", "rev-parse", "--abbrev-ref", "HEAD").stdout == "main\n"
    (left,) = trees.iterdir()
    assert left.stat().st_mode & 0o077 == 0  # it holds what .dvc/config.local does: credentials


def test_a_model_that_fails_a_gate_is_not_proposed(project: BakedProject, origin: Path) -> None:
    before = refs(origin)
    done = retrain(project, "gates.size_mb=0.001")
    assert done.returncode == 2  # make's, for the 1 of what it ran
    (message,) = re.findall(r"^error: .*", done.stderr, re.M)
    assert message == "error: the new model does not pass: size; see build/report.md; no branch was made"
    report = project.read("build/report.md").splitlines()
    assert report[0] == "# Retraining (conf, data/raw changed) does NOT pass: size"
    assert report[2].startswith("Compared with my_experiment/1, the champion")
    assert any(re.fullmatch(r"\| FAILED \| size \| [\d.]+ MB \| at most 0.001 MB \|", line) for line in report)
    assert not project.has_file("build/branch")
    assert refs(origin) == before
    assert list(before) == ["main"]


def test_what_passes_is_pushed_as_a_branch_with_its_data(project: BakedProject, origin: Path, tmp_path: Path) -> None:
    before = refs(origin)
    project.run("git", "checkout", "--quiet", "--detach")  # as CI does
    done = retrain(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is cached - skipping run" in done.stdout and "Running stage 'train'" not in done.stdout
    (branch,) = set(refs(origin)) - {"main"}
    assert re.fullmatch(r"retrain/[0-9a-f]{12}", branch)
    assert project.read("build/branch") == f"{branch}\n"
    assert refs(origin)["main"] == before["main"]
    assert project.run("git", "branch", "--format=%(refname:short)").stdout.splitlines()[-1] == "main"

    report = project.read("build/report.md")
    assert report.startswith("# Retraining (conf, data/raw changed) passes every gate\n")
    for line in (
        r"Compared with my_experiment/1, the champion, .* It was trained on other data, .*",
        r"\| passed \| accuracy and champion \| better by .* \|",
        r"\| data/raw/images.dvc \| 500 files, [\d,]+ bytes \| 700 files, [\d,]+ bytes \|",
        r"\| reports/metrics.json +\| accuracy +\| [\d.]+ +\| [\d.]+ +\| -?[\d.]+ +\|",
        r"\| params.yaml +\| train.epochs +\| 3 +\| 30 +\|",
        r"Loss, Accuracy, .*reports/plots/confusion_matrix.png.* build/plots/index.html\.",
    ):
        assert re.search(f"^{line}$", report, re.M), line
    assert "Loss" in project.read("build/plots/index.html")

    # What a reviewer gets: all data are on the remote, and the commits say what was trained on what.
    execute("git", "clone", "--quiet", "--branch", branch, origin, tmp_path / "reviewed", cwd=tmp_path)
    reviewed = BakedProject(tmp_path / "reviewed")
    storage = project.path.parent / "my-experiment-dvc/files/md5"
    outs = yaml.safe_load(reviewed.read("data/raw/images.dvc"))["outs"]
    for stage in yaml.safe_load(reviewed.read("dvc.lock"))["stages"].values():
        outs += [out for out in stage["outs"] if out["path"] != "params.yaml"]
    assert all((storage / out["md5"][:2] / out["md5"][2:]).is_file() for out in outs)
    log = reviewed.run("git", "log", "--format=%s", f"{before['main']}..HEAD").stdout
    assert log.splitlines() == [report.splitlines()[0].removeprefix("# "), "Update imported data"]
    assert report == f"# {reviewed.run('git', 'log', '-1', '--format=%B').stdout}"[: len(report)]
    changed = reviewed.run("git", "diff", "--name-only", before["main"]).stdout.split()
    assert changed == ["data/raw/images.dvc", "dvc.lock", "machine.json", "params.yaml"]
    # MLflow's run, in the project's own store, is of the commit that holds the data.
    with sqlite3.connect(project.path / "mlflow.db") as store:
        runs = store.execute("SELECT key, value FROM tags ORDER BY rowid DESC").fetchall()
    data = reviewed.run("git", "rev-parse", "HEAD~1").stdout.strip()
    assert ("git_commit", data) in runs
    assert ("git_dirty", "true") not in runs


def test_the_same_is_not_proposed_again(project: BakedProject, origin: Path) -> None:
    before, report = refs(origin), project.read("build/report.md")
    done = retrain(project)
    (branch,) = set(before) - {"main"}
    assert (done.returncode, done.stdout.splitlines()[-1]) == (
        0,
        f"{branch} already proposes a model for these inputs: nothing was trained",
    )
    assert "Running stage" not in done.stdout
    assert refs(origin) == before
    # A workflow that died before it opened the pull request finds what it needs.
    assert project.read("build/branch") == f"{branch}\n"
    assert project.read("build/report.md").strip() == report.strip()


def test_what_failed_is_not_trained_again(project: BakedProject, origin: Path) -> None:
    """Not by a schedule, with the gates of the commit; those on the command line, above, are a person's."""
    proposed = project.run("make", "news").stdout
    assert proposed.endswith(" already proposes a model for these inputs: nothing was trained\n")
    edit(project, "conf/gates/default.yaml", "size_mb: 500", "size_mb: 0.001")
    project.commit("A gate that nothing passes")
    before = refs(origin)
    done = retrain(project)
    assert "Running stage 'train'" not in done.stdout
    assert done.returncode == 2 and "error: the new model does not pass: size; " in done.stderr
    again = retrain(project)
    assert again.returncode == 0 and "Running stage" not in again.stdout
    told = again.stdout.splitlines()[-1]
    assert told.startswith("Retraining (conf, data/raw changed) does NOT pass: size (20"), told
    assert project.run("make", "news").stdout == f"{told}\n"
    assert not project.has_file("build/news") and refs(origin) == before
    project.run("git", "reset", "--quiet", "--hard", "HEAD~1")
    assert project.run("make", "news").stdout == proposed


def test_without_news_nothing_happens(project: BakedProject, origin: Path) -> None:
    (branch,) = set(refs(origin)) - {"main"}
    project.run("git", "checkout", "--quiet", "main")
    project.run("git", "merge", "--quiet", f"origin/{branch}")
    project.run("dvc", "checkout", "--quiet")
    project.run("git", "push", "--quiet", "origin", "main")
    execute("git", "branch", "--delete", "--force", branch, cwd=origin)
    done = retrain(project)
    head = project.run("git", "rev-parse", "HEAD").stdout[:12]
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"nothing changed: the results are those of {head}")
    assert list(refs(origin)) == ["main"]
    assert not project.has_file("build/report.md") and not project.has_file("build/branch")


def test_data_that_are_in_no_commit_are_one_line(project: BakedProject) -> None:
    draw(project.path / IMAGES, range(700, 701))
    done = retrain(project)
    assert done.returncode == 2
    (line,) = re.findall(r"^error: .*", done.stderr, re.M)
    assert line.startswith(
        f"error: {IMAGES} differs from the commit: `dvc checkout {IMAGES}` restores the committed data, `dvc "
    )
