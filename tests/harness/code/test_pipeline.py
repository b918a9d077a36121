"""dvc.yaml against the code: what a stage imports and reads is what DVC watches for it.

A module that is missing under `deps` is a change that `dvc repro` does not see; one too many is a run for nothing.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
import pytest
import yaml
from support import PACKAGE, ROOT

SRC = ROOT / "src" / PACKAGE
STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
MODALITIES = [module(f"data.{file.stem}") for file in SRC.glob("inputs/[!_]*.py")]
# Imported, yet no output depends on them.
NO_INPUT = {
    "cli.py": "prints errors and waits for locks",
    "tracking.py": "sends what is on disk to MLflow",
}
INPUTS = [file.relative_to(SRC).as_posix() for file in SRC.glob("inputs/[!_]*.py")]
DRAWN_LATER = {"plots.py": "what data modules and targets draw is drawn in `evaluate`"}
NO_INPUT_OF = {
    "config": dict.fromkeys(INPUTS, "imported for the signatures of what can be configured, none of it runs"),
    "prepare": DRAWN_LATER if "inputs/images.py" in INPUTS else {},
    "train": DRAWN_LATER,
    "evaluate": {"stages/train.py": "imported for two paths, which dvc.yaml names as well"},
}
# Which stage calls the functions of a section's `_target_`; `config` reads the signatures of all.
CALLED_BY = {"data": "prepare", "model": "train", "train": "train", **{m.SECTION: "train" for m in MODALITIES}}
# What `data.prepared` finds by the name in the manifest.
FOUND_BY_NAME = [*SRC.glob("targets/[!_]*.py"), *(SRC / "data" / file.name for file in SRC.glob("inputs/[!_]*.py"))]


@cache
def imported(name: str, at_start: bool) -> frozenset[str]:
    """Modules of the package that one of its files imports, as paths below the package.

    Args:
        name: The file.
        at_start: Leaves out what only a call imports.
    """

    def statements(node: ast.AST) -> Iterator[ast.ImportFrom]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ImportFrom) and child.level:
                yield child
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            elif not (at_start and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)):
                yield from statements(child)

    found = set()
    for statement in statements(ast.parse((SRC / name).read_text(encoding="utf-8"))):
        base = (SRC / name).parents[statement.level - 1].joinpath(*(statement.module or "").split("."))
        for file in (base.with_suffix(".py"), *(base / f"{alias.name}.py" for alias in statement.names)):
            if file.is_file():
                found.add(file.relative_to(SRC).as_posix())
    return frozenset(found)



def targets(section: str) -> set[str]:
    """Files of the functions that the options of a section name."""
    options = [yaml.safe_load(file.read_text("utf-8")) for file in ROOT.glob(f"conf/{section}/*.yaml")]
    # An option that chooses one of another group as well holds its own section under its name.
    names = [option.get(section, option)["_target_"] for option in options]
    return {"/".join(name.split(".")[1:-1]) + ".py" for name in names}



def read_by(stage: str) -> set[str]:
    """Every module of the package on which the outputs of a stage depend."""
    found: set[str] = set()
    start = {f"stages/{stage}.py"} | {
        file for section, caller in CALLED_BY.items() if stage in (caller, "config") for file in targets(section)
    }
    if stage in ("train", "evaluate"):
        start |= {file.relative_to(SRC).as_posix() for file in FOUND_BY_NAME}
    waiting = sorted(start)
    while waiting:
        name = waiting.pop()
        if name not in found and name not in NO_INPUT and name not in NO_INPUT_OF.get(stage, {}):
            found.add(name)
            waiting += imported(name, at_start=stage == "config")
    return found



def watched_by(stage: str) -> list[Path]:
    """What dvc.yaml says of the package."""
    dependencies = [ROOT / dependency for dependency in STAGES[stage]["deps"]]
    return [path for path in dependencies if path.is_relative_to(ROOT / "src")]



@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_imports_is_watched(stage: str) -> None:
    missing = [name for name in read_by(stage) if not any((SRC / name).is_relative_to(d) for d in watched_by(stage))]
    assert missing == [], f"add to stages.{stage}.deps in dvc.yaml"



@pytest.mark.parametrize("stage", STAGES)
def test_what_is_watched_is_imported(stage: str) -> None:
    files = [SRC / name for name in read_by(stage)]
    unused = [str(d) for d in watched_by(stage) if not any(file.is_relative_to(d) for file in files)]
    assert unused == [], f"remove from stages.{stage}.deps in dvc.yaml"



def test_exceptions_are_still_needed() -> None:
    for name in NO_INPUT:
        assert any(name in imported(file, False) for stage in STAGES for file in read_by(stage))
    for stage, names in NO_INPUT_OF.items():
        for name in names:
            assert any(name in imported(file, stage == "config") for file in read_by(stage))



def test_packages_hold_no_code() -> None:
    """`import a.b` runs a/__init__.py, which dvc.yaml does not name."""
    for file in SRC.rglob("__init__.py"):
        docstring, *code = ast.parse(file.read_text(encoding="utf-8")).body
        assert isinstance(docstring, ast.Expr)
        assert not code or file.parent == SRC  # which keeps a library from telling others: no result depends on it



def test_every_stage_is_a_module_and_a_section() -> None:
    from my_experiment.harness import configuration
    modules = {file.stem for file in SRC.glob("stages/[!_]*.py")}
    assert modules == set(STAGES)
    assert {*configuration.SCHEMAS, *configuration.REQUIRED} >= modules - {"config"}
    for name, stage in STAGES.items():
        assert stage["cmd"].endswith(f"python -m {PACKAGE}.stages.{name}")



def sections_of(node: ast.AST) -> Iterator[ast.expr]:
    """What is picked from the whole configuration: `config.read()[...]`, `sections[...]`."""
    for child in ast.walk(node):
        if isinstance(child, ast.Subscript) and ast.unparse(child.value) in ("config.read()", "sections"):
            yield child.slice



@pytest.mark.parametrize("stage", ["prepare", "train"])
def test_the_sections_that_a_stage_reads_are_watched(stage: str) -> None:
    tree = ast.parse((SRC / f"stages/{stage}.py").read_text(encoding="utf-8"))
    read = {
        ast.literal_eval(node.args[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "config.load"
    }
    for picked in sections_of(tree):
        # A data module says which section concerns what it reads.
        read |= {m.SECTION for m in MODALITIES} if "SECTION" in ast.unparse(picked) else {ast.literal_eval(picked)}
    assert set(STAGES[stage]["params"]) == read



def test_the_model_card_shows_every_section(workspace: Path) -> None:
    from my_experiment.harness.core import config
    assert set(STAGES["evaluate"]["params"]) == set(yaml.safe_load(config.compose()))



def test_only_train_imports_tensorflow() -> None:
    names = [f"{PACKAGE}.{name}" for name in (*(f"stages.{stage}" for stage in STAGES), "training", "tracking")]
    loaded = "[name for name in ('tensorflow', 'keras', 'mlflow', 'sklearn') if name in sys.modules]"
    script = f"import sys, {', '.join(names)}; print({loaded})"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT / "src", capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"



