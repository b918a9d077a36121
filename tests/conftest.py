"""Fixtures that bake projects with the real tools.

Nothing here installs anything: a baked project's `.venv` is a link to one environment that holds the tools of
the template and of generated projects, the one that runs pytest unless TEMPLATE_VENV names another.
"""

import atexit
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from debian import apt_install
from filelock import FileLock
from processes import kill, running, session
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from engine import Engine, Image

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "{{cookiecutter.project}}"
VENV = Path(os.environ.get("TEMPLATE_VENV", sys.prefix))

collect_ignore = ["harness", "types"]  # test_harness.py runs them in bakes

OUTPUTS = ("data/prepared", "models", "reports")  # folders of the pipeline

# Files whose tests share nothing, or what `once` has made: any process takes any of them. The tests of another file
# share what its fixtures have made, so that a process takes the whole file.
SPREAD = ("test_docs.py", "test_harness.py")
# What takes longest, and so begins first; the other tests of SPREAD begin last: the processes end together.
LONGEST = (
    "test_harness.py",
    "test_ci_others.py",
    "test_readme.py",
    "test_tabular.py",
    "test_pipeline.py",
)

Result = subprocess.CompletedProcess[str]

# A shell gives its background jobs an ignored SIGINT, which every process started here would inherit and never end by.
signal.signal(signal.SIGINT, signal.default_int_handler)


class Scheduling(LoadScopeScheduling):
    """Scheduling of pytest-xdist: whole files, and single tests of SPREAD."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return nodeid if Path(file).name in SPREAD else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Gives pytest-xdist the scheduling above."""
    return Scheduling(config, log)


@pytest.hookimpl(tryfirst=True)  # before -m looks at the markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that need a pipeline's run; puts the longest files first, and what any process takes last."""
    for item in items:
        if isinstance(item, pytest.Function) and "once" in item.fixturenames:
            item.add_marker(pytest.mark.pipeline)
    items.sort(key=lambda item: (item.path.name not in LONGEST, item.path.name in SPREAD))


def execute(*command: str | Path, cwd: Path, env: Mapping[str, str | None] | None = None, check: bool = True) -> Result:
    """Runs a command with the tools of the environment first on PATH.

    Args:
        command: The program and its arguments.
        cwd: Where it runs.
        env: Changes to the environment; None removes a variable.
        check: Whether an exit status other than 0 fails the test.
    """
    changes: dict[str, str | None] = {
        "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PWD": str(cwd),
        **(env or {}),
    }
    merged = {**os.environ, **changes}
    with running(
        *command,
        cwd=cwd,
        env={name: value for name, value in merged.items() if value is not None},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    ) as process:
        output, errors = process.communicate()
    result = Result(process.args, process.returncode, output, errors)
    if check and result.returncode != 0:
        told = f"{result.stdout[-6000:]}\n{result.stderr[-6000:]}"
        pytest.fail(f"{' '.join(str(part) for part in command)} ended with {result.returncode}\n{told}")
    return result


@cache
def template() -> Path:
    """Copies what git tracks of the template, or would, to a repository of its own, with one commit.

    Projects are baked from this copy: what tools leave in the working tree is no part of the template, and
    cruft wants a repository.
    """
    folder = Path(tempfile.mkdtemp(prefix="template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    names = execute("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    execute("git", "init", "--quiet", cwd=folder)
    execute("git", "add", "--all", cwd=folder)
    execute("git", "commit", "--quiet", "--message", "Template", cwd=folder)
    return folder


def cookiecutter(
    into: Path, *options: str, env: Mapping[str, str | None] | None = None, check: bool = True, **answers: str
) -> Result:
    """Runs the real `cookiecutter --no-input` on the template as it is now."""
    given = [f"{question}={answer}" for question, answer in answers.items()]
    command = ["cookiecutter", "--no-input", *options, "--output-dir", str(into), str(template()), *given]
    return execute(*command, cwd=into, env=env, check=check)


@dataclass(frozen=True)
class BakedProject:
    """A generated project on disk."""

    path: Path

    def run(self, *command: str | Path, check: bool = True, env: Mapping[str, str | None] | None = None) -> Result:
        """Runs a command in the project, with its tools first on PATH."""
        return execute(*command, cwd=self.path, env=env, check=check)

    def has_file(self, name: str) -> bool:
        """Says whether the project has this file."""
        return (self.path / name).is_file()

    def read(self, name: str) -> str:
        """Reads a text file of the project."""
        return (self.path / name).read_text(encoding="utf-8")

    def files(self) -> set[str]:
        """Lists what was generated: every file, without the repository of git and the environment."""
        return {
            path.relative_to(self.path).as_posix()
            for path in self.path.rglob("*")
            if path.is_file() and path.relative_to(self.path).parts[0] not in (".git", ".venv")
        }

    def git_status(self) -> str:
        """Gives what git finds changed or new."""
        return self.run("git", "status", "--porcelain").stdout

    def commit(self, message: str) -> None:
        """Commits everything that git shows."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def link_venv(self) -> None:
        """Gives the project the shared environment instead of installing one."""
        (self.path / ".venv").symlink_to(VENV, target_is_directory=True)


Copy = Callable[[BakedProject], BakedProject]
Once = Callable[..., BakedProject]


def packed_files(project: BakedProject) -> set[str]:
    """The files that a Bento of a project packs: model, lock, and the rooms that a service needs."""
    source = project.path / "src"
    (package,) = source.glob("*/service.py")
    harness = package.parent / "harness"
    locks = {f"requirements/{lock.name}" for lock in (project.path / "requirements").glob("serve-*.lock")}
    files = [package.parent / name for name in ("__init__.py", "__main__.py", "page.html", "service.py")]
    files += [harness / name for name in ("__init__.py", "contracts.py", "exported/__init__.py")]
    names = ("attribution", "counterfactuals", "explainer", "golden", "images", "images_grid", "model", "tables")
    files += [file for name in names if (file := harness / f"exported/{name}.py").exists()]
    files += [harness / "packaging/symbols.py"]  # for the build of the image
    files += [harness / "serving/static" / name for name in ("docs.html", "page.css", "page.js")]
    rooms = ("audit", "capture", "core", "drift", "inputs", "protection", "serving", "targets")
    files += [file for room in rooms for file in (harness / room).glob("*.py")]
    stems = ("decision", "explain", "model", "page", "reference")
    models = {"models/model.onnx", *(f"models/{stem}.json" for stem in stems)}
    return {"bentofile.yaml", *locks, *models, *(file.relative_to(source).as_posix() for file in files)}


def said(answer: Any) -> dict[str, Any]:
    """A JSON answer of the service without its id, which is another one each time."""
    content: dict[str, Any] = answer.json()
    assert answer.status_code == 200 and re.fullmatch("[0-9a-f]{32}", content.pop("id")), answer.text
    return content


def package_python(project: BakedProject, code: str) -> str:
    """Runs Python in the project with its package importable."""
    return project.run(sys.executable, "-c", code, env={"PYTHONPATH": "src"}).stdout


def quiet(done: Result) -> None:
    """Fails where a run told something that a user could not act on."""
    told = done.stdout + done.stderr
    assert not re.search(r"warning|traceback|deprecat|cuda|error", told, re.IGNORECASE), told


def stages_run(output: str) -> list[str]:
    """Gives the stages that a `dvc repro` or `dvc exp run` has run, in order."""
    return re.findall(r"Running stage '(\w+)'", output)


def digests(project: BakedProject) -> dict[str, str]:
    """Gives the SHA-256 of every output of the pipeline."""
    return {
        path.relative_to(project.path).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in OUTPUTS
        for path in sorted((project.path / folder).rglob("*"))
        if path.is_file() and path.name != ".gitignore"
    }


def edit(project: BakedProject, file: str, old: str, new: str) -> None:
    """Replaces text in a file as a user would."""
    text = project.read(file)
    assert old in text
    (project.path / file).write_text(text.replace(old, new), encoding="utf-8")


def clone(project: BakedProject, target: Path) -> BakedProject:
    """Clones a project, without its cache and outputs."""
    execute("git", "clone", "--quiet", project.path, target, cwd=target.parent)
    cloned = BakedProject(target)
    cloned.link_venv()
    return cloned


def need_curl() -> None:
    """Has curl, with which pages send their examples."""
    if not shutil.which("curl"):
        apt_install("curl", "ca-certificates")


def need_rsync() -> None:
    """Has rsync, with which pages copy folders."""
    if not shutil.which("rsync"):
        apt_install("rsync")


def free_port() -> int:
    """Gives a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(
    url: str, server: subprocess.Popen[Any], seconds: float = 120, trusted: Path | None = None
) -> None:
    """Waits until an address answers 200; `trusted` is the certificate of the authority that it is known by."""
    deadline = time.monotonic() + seconds
    verify = ssl.create_default_context(cafile=trusted)
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(url, timeout=5, verify=verify).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)  # between two looks at the condition
    kill(server)
    server.kill()
    pytest.fail(f"{url} did not answer:\n{server.communicate()[0]}")


def work_off_queue(project: BakedProject, count: int) -> None:
    """Waits until `count` experiments of DVC's started queue have succeeded, then stops its workers."""
    deadline = time.monotonic() + 900
    while (status := project.run("dvc", "queue", "status").stdout).count("Success") < count:
        assert "Failed" not in status, project.run("dvc", "queue", "logs", status.split("Failed")[0].split()[-4]).stdout
        assert time.monotonic() < deadline, status
        time.sleep(2)  # between two looks at the condition
    project.run("dvc", "queue", "stop")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all processes of the suite have."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


@pytest.fixture(scope="session", autouse=True)
def _isolated(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[None]:
    """Keeps the developer's configuration out of the tests, the tests out of the developer's caches, and ends all."""
    home = tmp_path_factory.mktemp("home")
    (home / "gitconfig").write_text("[user]\n\tname = Test\n\temail = test@example.org\n")
    (home / "cookiecutter.yaml").write_text(f"cookiecutters_dir: {home}/cookiecutters\nreplay_dir: {home}/replay\n")
    (home / "aws").touch()
    with session(), pytest.MonkeyPatch.context() as patch:
        # `make test` may itself run inside a git hook, a DVC experiment or an activated environment, and a project's
        # make says of itself where it is when it is called by another make.
        for name in list(os.environ):
            if name.startswith(("GIT_", "DVC_", "MLFLOW_", "HYDRA_", "BENTOML_", "AWS_")):
                patch.delenv(name)
        for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
            patch.delenv(name, raising=False)
        patch.setenv("GIT_CONFIG_GLOBAL", str(home / "gitconfig"))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        # BentoML would start a worker that ends again and again, also where its supervisor does not see that it runs.
        patch.setenv("BENTOML_CONTAINERIZED", "true")
        patch.setenv("COOKIECUTTER_CONFIG", str(home / "cookiecutter.yaml"))
        patch.setenv("DVC_GLOBAL_CONFIG_DIR", str(home / "dvc-global"))
        patch.setenv("DVC_SYSTEM_CONFIG_DIR", str(home / "dvc-system"))
        patch.setenv("DVC_SITE_CACHE_DIR", str(home / "dvc-site"))
        patch.setenv("DVC_NO_ANALYTICS", "1")
        patch.setenv("CUDA_VISIBLE_DEVICES", "-1")  # a GPU computes other bytes
        patch.setenv("AWS_CONFIG_FILE", str(home / "aws"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "aws"))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("PRE_COMMIT_HOME", str(home / "pre-commit"))
        # A project has no schemathesis, whose plugin takes half a second in each pytest of this environment.
        patch.setenv("PYTEST_ADDOPTS", "-p no:schemathesis")
        # Most of mypy's time goes to libraries that all projects share.
        patch.setenv("MYPY_CACHE_DIR", str(shared / "mypy"))
        yield


@pytest.fixture(scope="session")
def venv() -> Path:
    """Gives the environment that holds every tool."""
    return VENV


@pytest.fixture(scope="session")
def bake(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., BakedProject]:
    """Generates a project, each in a folder of its own: `bake(license="MIT", ...)`."""

    def baker(**answers: str) -> BakedProject:
        into = tmp_path_factory.mktemp("bake")
        cookiecutter(into, **answers)  # type: ignore[arg-type]
        (path,) = into.iterdir()
        project = BakedProject(path)
        project.link_venv()
        return project

    return baker


@pytest.fixture(scope="session")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """Copies a shared project, so that a test can change it: `copy(reproduced_project)`."""

    def copier(project: BakedProject) -> BakedProject:
        target = tmp_path_factory.mktemp("copy") / project.path.name
        shutil.copytree(project.path, target, symlinks=True)
        return BakedProject(target)

    return copier


@pytest.fixture(scope="session")
def default_project(bake: Callable[..., BakedProject]) -> BakedProject:
    """A project with the default answers, not run. Do not change it: `copy` it."""
    return bake()


@pytest.fixture(scope="session")
def once(default_project: BakedProject, copy: Copy, shared: Path) -> Once:
    """Runs a pipeline once for all processes of the suite; each gets a copy: `once("quick", prepare)`.

    It runs in a copy of the default project, or in what a third argument gives.
    """

    def make(
        name: str, prepare: Callable[[BakedProject], None], start: Callable[[], BakedProject] | None = None
    ) -> BakedProject:
        made = shared / name  # says where: MLflow knows the project by its path, so that it stays there
        with FileLock(f"{made}.lock"):
            if not made.exists():
                project = start() if start else copy(default_project)
                prepare(project)
                made.write_text(str(project.path))
        return copy(BakedProject(Path(made.read_text())))

    return make


@pytest.fixture(scope="session")
def reproduced_project(once: Once) -> BakedProject:
    """The default project after `dvc repro` and a commit. Do not change it: `copy` it."""

    def prepare(project: BakedProject) -> None:
        quiet(project.run("dvc", "repro"))
        project.commit("Reproduce")

    return once("reproduced", prepare)


@pytest.fixture(scope="session")
def quick_project(once: Once) -> BakedProject:
    """A reproduced project that trains a small model for three epochs. Do not change it: `copy` it."""

    def prepare(project: BakedProject) -> None:
        edit(project, "conf/train/default.yaml", "epochs: 60", "epochs: 3")
        edit(project, "conf/config.yaml", "- model: cnn", "- model: mlp")
        edit(project, "conf/config.yaml", "- explain: default", "- explain: none")
        quiet(project.run("dvc", "repro"))
        project.commit("Quick")

    return once("quick", prepare)


@pytest.fixture(scope="session")
def table_project(once: Once, bake: Callable[..., BakedProject]) -> BakedProject:
    """A reproduced project with a table of its own, for production. Do not change it: `copy` it."""
    from loop import prepare  # here, because matplotlib takes a second

    start = partial(bake, task="tabular-classification", scope="production", deploy="ansible")
    return once("own-table", lambda project: prepare(project.path), start)


@pytest.fixture(scope="session")
def tools(shared: Path) -> Path:
    """The folder of prometheus, promtool, prometheus-alertmanager and amtool."""
    import watching

    with FileLock(shared / "prometheus.lock"):
        try:
            return watching.tools(shared / "prometheus")
        except SystemExit as missing:
            pytest.skip(str(missing))


@pytest.fixture(scope="session")
def engine(shared: Path) -> "Engine":
    """Builds and runs containers."""
    from engine import find

    with FileLock(shared / "engine.lock"):
        return find()


@pytest.fixture(scope="session")
def image(
    reproduced_project: BakedProject,
    copy: Copy,
    engine: "Engine",
    shared: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> "Image":
    """The image of the default project, built once for all processes of the suite. Do not change its project."""
    from engine import Image, make_image

    made = shared / "image.json"
    with FileLock(f"{made}.lock"):
        if not made.exists():
            project = copy(reproduced_project)
            project.run("git", "remote", "add", "origin", "https://me:" + "secret@git.example.org/team/experiment.git")
            built = make_image(project, engine, tmp_path_factory.mktemp("bentos"))
            made.write_text(json.dumps({**vars(built), "project": str(project.path), "env": dict(built.env)}))
    found = json.loads(made.read_text())
    return Image(**{**found, "project": BakedProject(Path(found["project"]))})
