"""dvc.yaml against the code: dependencies and parameters of every stage.

`dvc repro` misses changes of a module that is not under `deps`, and runs a stage in vain for one that is not needed.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from ..harness.core import config
from . import ROOT

SRC = Path(__file__).resolve().parents[1]
STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
KINDS = {"images", "tables", "classification", "regression"}  # modules that the manifest names
CALLED_BY = {"data": "prepare", "robustness": "robustness"} | dict.fromkeys(
    ("model", "train", "features", "augmentation"), "train"
)
# Imported, yet no output depends on them.
NO_INPUT = {
    "harness/executors": "where a stage computes, not what",
    "harness/tracking": "logs the outputs to MLflow, and the machine to machine.json",
}
NO_INPUT_OF = {
    "config": {"harness": "only the signatures of configurable functions count, not their code"},
    **dict.fromkeys(
        ("explain", "robustness"),
        dict.fromkeys(("harness/evaluation/__init__.py", "harness/preparation/__init__.py"), "of a few stages"),
    ),
    "evaluate": {"harness/preparation/__init__.py": "a package of the schema"},
}


@cache
def imports(name: str) -> frozenset[str]:
    """Modules of the package that a module imports, as relative paths."""
    modules: set[str] = set()
    path = SRC / name
    for node in runtime(ast.parse(path.read_text(encoding="utf-8"))):
        base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
        candidates = [base.with_suffix(".py"), base / "__init__.py"]
        candidates += [base / f"{alias.name}.py" for alias in node.names]
        candidates += [base / alias.name / "__init__.py" for alias in node.names]
        modules |= {file.relative_to(SRC).as_posix() for file in candidates if file.is_file()}
    if "import_module" in path.read_text(encoding="utf-8"):
        modules |= {f.relative_to(SRC).as_posix() for f in path.parent.glob("*.py") if f.stem in KINDS}
    return frozenset(modules)


def runtime(node: ast.AST) -> Iterator[ast.ImportFrom]:
    """The relative imports below a node, except those under TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ImportFrom) and child.level:
            yield child
        elif not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield from runtime(child)


def configured(section: str) -> set[str]:
    """Modules of the functions that a section's options name in `_target_`."""
    options = [yaml.safe_load(file.read_text("utf-8")) for file in ROOT.glob(f"conf/{section}/*.yaml")]
    names = [option.get(section, option)["_target_"] for option in options]
    return {"/".join(name.split(".")[1:-1]) + ".py" for name in names}


def read_by(stage: str) -> set[str]:
    """Modules on which the outputs of a stage depend."""
    exempt = [*NO_INPUT, *NO_INPUT_OF.get(stage, {})]
    waiting = [f"stages/{stage}.py"]
    waiting += [f for section, by in CALLED_BY.items() if stage in (by, "config") for f in configured(section)]
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in reached and not any(Path(name).is_relative_to(path) for path in exempt):
            reached.add(name)
            waiting += imports(name)
    return reached


def watched_by(stage: str) -> list[Path]:
    """Files and folders of the package under `deps` of a stage."""
    dependencies = [ROOT / dependency for dependency in STAGES[stage]["deps"]]
    return [path for path in dependencies if path.is_relative_to(SRC)]


@pytest.mark.parametrize("stage", STAGES)
def test_every_module_that_a_stage_imports_is_watched(stage: str) -> None:
    missing = [
        name
        for name in sorted(read_by(stage))
        if (SRC / name).name != "__init__.py" and not any((SRC / name).is_relative_to(d) for d in watched_by(stage))
    ]
    assert missing == [], f"add to stages.{stage}.deps in dvc.yaml"


@pytest.mark.parametrize("stage", [name for name in STAGES if name != "config"])
def test_every_module_that_a_stage_watches_is_imported(stage: str) -> None:
    files = [SRC / name for name in read_by(stage)]
    unused = [str(d) for d in watched_by(stage) if not any(file.is_relative_to(d) for file in files)]
    assert unused == [], f"remove from stages.{stage}.deps in dvc.yaml"


def test_every_stage_is_a_module() -> None:
    assert {file.stem for file in SRC.glob("stages/[!_]*.py")} == set(STAGES)
    for name, stage in STAGES.items():
        assert stage["cmd"].endswith(f"python -m {SRC.name}.stages.{name}")


@pytest.mark.parametrize("stage", ["prepare", "train"])
def test_every_section_that_a_stage_reads_is_watched(stage: str) -> None:
    text = (SRC / f"stages/{stage}.py").read_text(encoding="utf-8")
    sections = set(yaml.safe_load(config.compose()))
    read = {name for name in sections if f'"{name}"' in text}
    if ".SECTION]" in text:
        read |= sections & {"features", "augmentation"}
    assert set(STAGES[stage]["params"]) == read


def test_the_model_card_shows_every_section() -> None:
    assert set(STAGES["evaluate"]["params"]) == set(yaml.safe_load(config.compose()))
