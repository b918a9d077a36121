"""Other Pythons and machines than the one that runs the tests: the wheels there, what bakes and sets up with them."""

import platform
import re
import shutil
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, TEMPLATE, BakedProject, Copy, Result, execute, template
from test_hooks import hook

PYTHONS = ("3.11", "3.12", "3.13")
MACHINE = platform.machine()
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
# As the READMEs say it: Linux with glibc 2.28 or later, macOS 14 or later.
MACHINES = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin")
TOGETHER = [*sorted((TEMPLATE / "requirements").glob("*.lock")), ROOT / "requirements" / "template.lock"]
ALONE = [ROOT / "requirements" / "checkov.lock"]  # its versions do not fit beside those of the others


def test_the_pythons_are_the_same_everywhere() -> None:
    oldest, newest = PYTHONS[0], PYTHONS[-1]
    end = f"3.{int(newest.partition('.')[2]) + 1}"
    for folder in (ROOT, TEMPLATE):
        text = (folder / "pyproject.toml").read_text(encoding="utf-8")
        assert f'requires-python = ">={oldest},<{end}"\n' in text
        (fits,) = re.findall(r"sys.exit\(not (.*)\)'", (folder / "Makefile").read_text(encoding="utf-8"))
        assert fits == f"({oldest.replace('.', ', ')}) <= sys.version_info < ({end.replace('.', ', ')})"
    pages = [ROOT / "README.md", ROOT / "docs/tutorial.md", ROOT / "docs/how-to/new-project.md", TEMPLATE / "README.md"]
    for page in pages:
        assert f"Python {oldest} to {newest}" in page.read_text(encoding="utf-8"), page
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))["jobs"]
    tested = {row["python"] for row in jobs["machines"]["strategy"]["matrix"]["include"]}
    assert tested | {oldest} == set(PYTHONS)


def uv_pip_install(*arguments: str | Path, check: bool = False) -> Result:
    """Runs `uv pip install` with what uv's cache holds, else with the package index; skips the test without both."""
    command = ["uv", "pip", "install", "--no-config", *arguments]
    env = {"MACOSX_DEPLOYMENT_TARGET": "14.0", "UV_HTTP_RETRIES": "0"}
    done = execute(*command, "--offline", cwd=ROOT, env=env, check=False)
    if done.returncode:  # the cache lacks a package, or knows its versions of an earlier day
        done = execute(*command, cwd=ROOT, env=env, check=False)
    if "error: Failed to fetch" in done.stderr:
        pytest.skip(f"no package index: {done.stderr.splitlines()[-1].strip()}")
    assert not check or done.returncode == 0, done.stderr
    return done


def wheels(machine: str, python: str, locks: list[Path], folder: Path) -> Result:
    """Asks uv for a wheel of each locked package; LIME is published as source code only, without extensions."""
    asked = ["--dry-run", "--require-hashes", "--only-binary=:all:", "--no-binary=lime"]
    asked += [f"--python={sys.executable}", f"--target={folder}"]
    asked += [f"--python-platform={machine}", f"--python-version={python}"]
    return uv_pip_install(*asked, *(f"--requirements={lock}" for lock in locks))


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("machine", MACHINES)
def test_every_locked_package_has_a_wheel(tmp_path: Path, machine: str, python: str) -> None:
    for locks in (TOGETHER, ALONE):
        done = wheels(machine, python, locks, tmp_path)
        assert done.returncode == 0, done.stderr
        found = set(re.findall(r"^ \+ (.*)==", done.stderr, re.M))
        named = set(re.findall(r"^([a-z\d][a-z\d.-]*)==", "".join(lock.read_text() for lock in locks), re.M))
        assert len(found) > 0.9 * len(named)  # the rest is for other machines and Pythons


def test_a_missing_wheel_is_found(tmp_path: Path) -> None:
    done = wheels("i686-pc-windows-msvc", PYTHONS[0], [TEMPLATE / "requirements/images.lock", *TOGETHER], tmp_path)
    assert done.returncode == 1 and re.search("no (usable )?wheels", done.stderr)


@cache
def others() -> list[str]:
    """The paths of the Pythons of this machine that do not run the tests, the newest first; pyenv's are found, too."""
    found = []
    for version in reversed(PYTHONS):
        program = shutil.which(f"python{version}")
        if program and version != HERE:
            code = "import sys; print(sys.executable)"
            done = execute(program, "-c", code, cwd=ROOT, env={"PYENV_VERSION": version}, check=False)
            found += done.stdout.splitlines()
    return found


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of the newest Python that is not the one that runs the tests, with cookiecutter."""
    if not others():
        pytest.skip(f"no Python of {', '.join(PYTHONS)} besides {HERE}")
    environment = tmp_path_factory.mktemp("other")
    execute(others()[0], "-m", "venv", "--without-pip", environment, cwd=environment)
    locked = f"--constraints={ROOT / 'requirements/template.lock'}"
    uv_pip_install("--compile-bytecode", f"--python={environment}", locked, "cookiecutter", check=True)
    return environment / "bin"


@pytest.mark.parametrize(
    "answers",
    [
        {"task": "image-classification", "scope": "production", "ci": "gitlab", "project_name": "Été à l'ombre"},
        {"task": "tabular-regression", "scope": "experiment", "ci": "jenkins", "license": "Apache-2.0"},
    ],
    ids=lambda answers: answers["task"],
)
def test_another_python_bakes_the_same_tree(
    other: Path, bake: Callable[..., BakedProject], tmp_path: Path, answers: dict[str, str]
) -> None:
    here = bake(**answers)
    given = [f"{name}={text}" for name, text in answers.items()]
    done = execute(other / "cookiecutter", template(), "--no-input", *given, cwd=tmp_path)
    assert done.stdout.endswith("  make setup\n  make repro\n")
    there = BakedProject(tmp_path / here.path.name)
    assert there.files() == here.files()
    for name in here.files():
        assert (there.path / name).read_bytes() == (here.path / name).read_bytes(), name
    assert there.git_status() == "" and there.run("git", "log", "--format=%s").stdout == "Start from template\n"
    # A syntax that this Python warns of is an error in a later one.
    folders = [name for name in ("src", "notebooks") if (there.path / name).is_dir()]
    execute(other / "python", "-W", "error", "-m", "compileall", "-q", *folders, cwd=there.path)


def test_a_program_that_is_too_old_is_named() -> None:
    programs = hook({})["programs"]
    advice = ", for instance by `uvx cookiecutter` or `pipx run cookiecutter`"
    assert programs((3, 9, 2), "2.7.1") == [f"Python 3.9: cookiecutter must run with Python 3.10 or later{advice}"]
    assert programs((3, 11, 2), "1.7.3") == [f"cookiecutter 1.7.3: version 2.2 or later is needed{advice}"]
    assert programs((3, 10, 0), "2.2.3") == programs((3, 14, 0), "") == programs((3, 13, 5), "3.0rc1") == []


def program(folder: Path, name: str, line: str) -> None:
    """Writes a program of one line of shell."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{line}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine's programs: no uv, and no Python that fits."""
    for name in ("python3", *(f"python{version}" for version in PYTHONS)):
        program(tmp_path / "bin", name, "exit 1")
    (tmp_path / "bin/grep").symlink_to(shutil.which("grep") or "")
    return tmp_path / "bin"


def setup(project: BakedProject, machine: Path, *options: str) -> Result:
    """Runs `make setup` on a machine."""
    command = [shutil.which("make") or "make", *options, "setup"]
    return project.run(*command, env={"PATH": str(machine)}, check=False)


@pytest.fixture
def project(default_project: BakedProject, copy: Copy) -> BakedProject:
    """A project without an environment."""
    project = copy(default_project)
    (project.path / ".venv").unlink()
    return project


WHY = "error: the locks are for Python 3.11 to 3.13, and"


def test_no_python_that_fits_is_one_line(project: BakedProject, machine: Path) -> None:
    (line, _) = setup(project, machine).stderr.splitlines()  # the second is make's
    assert line == f"{WHY} python3 is none: make setup PYTHON=PATH, or install uv"
    assert f"{WHY} /opt/python3 is none: make" in setup(project, machine, "PYTHON=/opt/python3").stderr
    assert not (project.path / ".venv").exists()
    program(project.path / ".venv/bin", "python", "exit 1")  # an editor's, say
    assert f"{WHY} .venv/bin/python is none: rm -r .venv, then make setup" in setup(project, machine).stderr
    (line, _) = setup(BakedProject(template()), machine).stderr.splitlines()
    assert line == f"{WHY} python3 is none: make setup PYTHON=PATH"


def test_the_first_python_that_fits_makes_the_environment(project: BakedProject, machine: Path) -> None:
    program(machine, "python3.12", "exit 0")
    assert "python3.12 -m venv .venv" in setup(project, machine, "--dry-run").stdout
    assert "python3.12 -m venv .venv" in setup(BakedProject(template()), machine, "--dry-run").stdout
    program(machine, "python3.12", "exit 1")
    assert "uv venv --quiet  .venv" in setup(project, machine, "--dry-run").stdout  # uv finds or fetches one


def test_a_python_without_venv_is_one_line(project: BakedProject, machine: Path) -> None:
    """Debian and Ubuntu ship venv in a separate package, which venv says on standard output."""
    program(machine, "python3.12", 'test "$1" = -c || { echo apt install; exit 1; }')
    done = setup(project, machine)
    assert done.stderr.splitlines()[0].startswith("error: python3.12 has no complete venv: install python3-venv")
    done = setup(BakedProject(template()), machine)
    assert done.stderr.splitlines()[0].startswith("error: python3.12 has no complete venv: install python3-venv")
    assert "apt" not in done.stdout


@pytest.mark.skipif(sys.platform != "linux" or MACHINE != "x86_64", reason="there are no GPUs for TensorFlow here")
def test_the_libraries_for_gpus_are_chosen_and_stay_chosen(project: BakedProject, machine: Path) -> None:
    """They are 2.7 GB, of no use without a GPU."""
    project.run(sys.executable, "-m", "venv", "--without-pip", ".venv")
    (installed, lock) = (project.path / ".venv/.installed", "requirements/gpu.lock")
    runs = partial(setup, project, machine, "--dry-run")

    def remembered(told: str) -> bool:
        (line,) = (line for line in told.splitlines() if line.startswith("printf"))
        assert (lock in line) == (f"-r {lock} " in told)
        return lock in line

    installed.write_text(f"{project.path}\n")
    assert "nothing to be done" in runs().stdout.lower() and "nothing to be done" in runs("GPU=0").stdout.lower()
    more = runs("GPU=1").stdout
    assert remembered(more) and "rm -rf" not in more
    installed.write_text(f"{project.path}\n{lock}\n")
    assert "nothing to be done" in runs().stdout.lower() and "nothing to be done" in runs("GPU=1").stdout.lower()
    less = runs("GPU=0").stdout
    assert not remembered(less) and less.startswith("rm -rf .venv\n")
    installed.write_text(f"/home/somebody/else\n{lock}\n")
    assert remembered(runs().stdout) and not remembered(runs("GPU=0").stdout)
    (project.path / ".venv").rename(project.path / "build")
    assert remembered(runs("GPU=1").stdout) and not remembered(runs().stdout)


def test_gpus_that_tensorflow_does_not_use_are_one_line(project: BakedProject, machine: Path) -> None:
    program(machine, "uname", "echo Darwin arm64")
    (line, _) = setup(project, machine, "GPU=1").stderr.splitlines()
    told = "GPU=1: TensorFlow computes on NVIDIA GPUs on Linux x86-64 alone (WSL2 is one), and this is Darwin arm64"
    assert line == f"error: {told}"


def test_the_lock_for_gpus_has_the_versions_of_training() -> None:
    train, gpu = ((TEMPLATE / f"requirements/{name}.lock").read_text() for name in ("train", "gpu"))
    lines = [line for line in gpu.splitlines() if re.match("[a-z]", line)]
    others = [pin for pin in (line.split(" ;")[0] for line in lines) if f"\n{pin} " not in train]
    assert len(others) > 8 and all(pin.startswith("nvidia-") for pin in others)
    assert all("platform_machine == 'x86_64' and sys_platform == 'linux'" in line for line in lines)


def test_after_a_change_of_the_systems_python_the_environment_is_new(project: BakedProject, machine: Path) -> None:
    project.run(sys.executable, "-m", "venv", "--without-pip", ".venv")
    (project.path / ".venv/.installed").write_text(f"{project.path}\n")
    assert "rm -rf .venv" not in setup(project, machine, "--dry-run").stdout
    (project.path / ".venv/lib").rename(project.path / ".venv/of-the-old-python")
    assert setup(project, machine, "--dry-run").stdout.startswith("rm -rf .venv\n")
