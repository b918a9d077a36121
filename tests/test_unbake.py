"""Work in a baked project, brought back into the template's sources: rebaked, it is the same tree."""

import shutil
from pathlib import Path

import pytest
from conftest import TEMPLATE, VENV, BakedProject, Result, edit, execute, template

PACKAGE = "src/my_experiment"
SOURCE_PACKAGE = "src/{{cookiecutter.package}}"


class Maintainer:
    """A clone of the template and the project that `make bake` makes in it."""

    def __init__(self, root: Path, task: str) -> None:
        self.root = root / "template"
        self.task = task
        execute("git", "clone", "--quiet", template(), self.root, cwd=root)
        (self.root / ".venv").symlink_to(VENV, target_is_directory=True)
        self.bake()

    def make(self, target: str, check: bool = True) -> Result:
        """Runs a target of the template's Makefile; what the environment holds counts as installed."""
        return execute("make", "--assume-old=.venv/.installed", target, f"TASK={self.task}", cwd=self.root, check=check)

    def bake(self) -> None:
        """Bakes."""
        self.make("bake")
        self.project = BakedProject(self.root / "build/bake/my-experiment")

    def changed(self) -> set[str]:
        """Lists what differs in the template's generated project, as git has it."""
        told = execute("git", "status", "--porcelain", "-z", "--untracked-files=all", cwd=self.root).stdout
        return {line.replace(f"{TEMPLATE.name}/", "") for line in told.split("\0")[:-1]}

    def source(self, name: str) -> str:
        """Reads a file of the template's generated project."""
        return (self.root / TEMPLATE.name / name).read_text(encoding="utf-8")


def contents(project: BakedProject) -> dict[str, bytes]:
    """Reads what a project holds."""
    return {
        name: (project.path / name).read_bytes()
        for name in project.files() - {"dvc.lock", "machine.json", "params.yaml"}
    }


@pytest.fixture
def maintainer(tmp_path: Path) -> Maintainer:
    return Maintainer(tmp_path, "image-classification")


def test_a_change_in_the_bake_comes_back(maintainer: Maintainer) -> None:
    project = maintainer.project
    # A stage: its code, its entry in dvc.yaml beside lines that Jinja makes, a new module, a file that it read before.
    edit(project, f"{PACKAGE}/stages/evaluate.py", '"""', '"""(New.) ')
    (project.path / f"{PACKAGE}/slices.py").write_text('"""Slices."""\n')
    edit(
        project,
        "dvc.yaml",
        f"      - {PACKAGE}/harness/evaluation\n",  # stands in one stage
        f"      - {PACKAGE}/harness/evaluation\n      - {PACKAGE}/slices.py # of My Experiment\n",
    )
    (project.path / "conf/slices").mkdir()
    (project.path / "conf/slices/default.yaml").write_text("_target_: my_experiment.slices.slices\n")
    edit(project, "README.md", "## Start\n", "## Start here\n")
    (project.path / "conf/debug/profile.yaml").unlink()
    shutil.move(project.path / "conf/gates/default.yaml", project.path / "conf/gates/usual.yaml")  # holds Jinja
    (project.path / "logo.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00{{ no jinja }}")
    # What a pipeline leaves there stays there.
    (project.path / "dvc.lock").write_text("schema: '2.0'\n")
    (project.path / "params.yaml").write_text("train: {}\n")
    (project.path / "machine.json").write_text("{}\n")

    told = maintainer.make("unbake").stdout
    assert maintainer.changed() == {
        f" M {SOURCE_PACKAGE}/stages/evaluate.py",
        f"?? {SOURCE_PACKAGE}/slices.py",
        " M dvc.yaml",
        "?? conf/slices/default.yaml",
        " M README.md",
        " D conf/debug/profile.yaml",
        " D conf/gates/default.yaml",
        "?? conf/gates/usual.yaml",
        "?? logo.png",
    }
    assert "tests/test_bake.py" in told
    lines = maintainer.source("dvc.yaml").splitlines()
    assert "      - src/{{cookiecutter.package}}/slices.py # of {{cookiecutter.project_name}}" in lines
    assert maintainer.source("conf/slices/default.yaml") == "_target_: {{cookiecutter.package}}.slices.slices\n"
    assert maintainer.source("conf/gates/usual.yaml").startswith("{% set regression")
    diff = execute("git", "diff", "--numstat", "--", f"{TEMPLATE.name}/dvc.yaml", cwd=maintainer.root).stdout
    assert diff.split()[:2] == ["1", "0"], "nothing but the change"

    # More work in the same bake: only what is new comes back.
    edit(project, "Makefile", "dvc repro: run", "dvc repro: really run")
    assert maintainer.make("unbake").stdout.splitlines()[-1] == f"M {TEMPLATE.name}/Makefile"
    assert maintainer.make("unbake").stdout.splitlines()[-1] == "Nothing has changed in the bake."
    before = contents(project)
    maintainer.bake()
    assert contents(maintainer.project) == before


REFUSED = [
    # A value that Jinja chose, a line of some answers only, a text that is included, and what cannot be rendered.
    ("conf/config.yaml", "- data: digits", "- data: image_folder", "conf/config.yaml: @@ -"),
    ("dvc.yaml", "      - data/weights\n", "      - data/heavy\n", "dvc.yaml: @@ -"),
    ("LICENSE", "free of charge", "for free", "LICENSE: @@ -"),
    (f"{PACKAGE}/service.py", '"""', '"""For my_experiment. ', f"{PACKAGE}/service.py: holds the name my_experiment"),
    ("bentofile.yaml", "service:", "# {{ x }}\nservice:", "bentofile.yaml: @@ -"),
]


def test_what_has_no_place_in_the_template_is_refused(maintainer: Maintainer) -> None:
    project = maintainer.project
    edit(project, "Makefile", "dvc repro: run", "dvc repro: really run")  # has one, and waits for the others
    for name, old, new, _ in REFUSED:
        edit(project, name, old, new)
    done = maintainer.make("unbake", check=False)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(told) == len(REFUSED)
    for (_, _, _, said), line in zip(sorted(REFUSED), sorted(told), strict=True):
        assert line.startswith(f"error: {said}"), line
    assert maintainer.changed() == set()

    # The template moved on meanwhile: its change is not undone by an older bake.
    project.run("git", "checkout", "--quiet", ".")
    edit(project, "Makefile", "dvc repro: run", "dvc repro: really run")
    makefile = maintainer.root / TEMPLATE.name / "Makefile"
    makefile.write_text(makefile.read_text() + "# newer\n")
    done = maintainer.make("unbake", check=False)
    assert "error: Makefile: the template's file is another since `make bake" in done.stderr
    assert makefile.read_text().endswith("# newer\n") and maintainer.changed() == {" M Makefile"}


def test_without_a_bake(tmp_path: Path) -> None:
    done = execute("python", "docs/unbake.py", tmp_path, "image-classification", cwd=template(), check=False)
    assert done.returncode != 0 and done.stderr.count("\n") == 1 and "make bake" in done.stderr
