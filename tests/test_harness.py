"""Tests of the harness, run inside bakes: all of them in one of pictures, those of tables in two of tables."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import BakedProject

TESTS = Path(__file__).parent / "harness"
PATTERNS = {
    "image-classification": "test_*.py",
    "tabular-classification": "test_*tables*.py",
    "tabular-regression": "test_*regression*.py",
}
SLOW = {"automation", "batch", "contracts", "evaluation", "lineage", "preparation", "release", "sweep", "training"}


def shares() -> Iterator[Any]:
    """The rooms of a task in one process or two: each new one imports TensorFlow and MLflow for ten seconds."""
    for task, pattern in PATTERNS.items():
        rooms = {folder.name for folder in TESTS.iterdir() if any(folder.glob(pattern))}
        for name, share, marks in (("slow", rooms & SLOW, [pytest.mark.slow]), ("fast", rooms - SLOW, [])):
            if share:
                yield pytest.param(task, sorted(share), id=f"{task}-{name}", marks=marks)


@pytest.mark.parametrize(("task", "rooms"), list(shares()))
def test_rooms(bake: Callable[..., BakedProject], task: str, rooms: list[str]) -> None:
    project = bake(task=task, scope="production", deploy="ansible")
    environment = {"BAKED_PROJECT": str(project.path), "PYTHONPATH": str(project.path / "src")}
    # Folders and not files: pytest collects a file that it is given, even if conftest.py ignores it.
    options: list[str | Path] = [
        "-q",
        "-c",
        TESTS / "pytest.ini",
        "-o",
        f"python_files={PATTERNS[task]}",
        *(TESTS / room for room in rooms),
    ]
    project.run(sys.executable, "-m", "pytest", *options, env=environment)
