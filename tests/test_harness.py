"""Tests of the harness, run inside bakes: all of them in one of pictures, those of tables in two of tables."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import BakedProject

TESTS = Path(__file__).parent / "harness"
SLOW = {"automation", "batch", "contracts", "evaluation", "lineage", "packaging", "release", "sweep", "training"}
ROOMS = sorted(folder.name for folder in TESTS.iterdir() if any(folder.glob("test_*.py")))
# One process for many rooms: each new one imports TensorFlow and MLflow for ten seconds.
SHARES = [
    pytest.param([room for room in ROOMS if room in SLOW], id="slow", marks=pytest.mark.slow),
    pytest.param([room for room in ROOMS if room not in SLOW], id="fast"),
]


@pytest.mark.parametrize("rooms", SHARES)
@pytest.mark.parametrize(
    ("task", "pattern"),
    [
        ("image-classification", "test_*.py"),
        ("tabular-classification", "test_*tables*.py"),
        ("tabular-regression", "test_*regression*.py"),
    ],
)
def test_rooms(bake: Callable[..., BakedProject], task: str, pattern: str, rooms: list[str]) -> None:
    project = bake(task=task)
    environment = {"BAKED_PROJECT": str(project.path), "PYTHONPATH": str(project.path / "src")}
    # Folders and not files: pytest collects a file that it is given, even if conftest.py ignores it.
    folders = [TESTS / room for room in rooms if any((TESTS / room).glob(pattern))]
    assert folders
    options: list[str | Path] = ["-q", "-c", TESTS / "pytest.ini", "-o", f"python_files={pattern}", *folders]
    project.run(sys.executable, "-m", "pytest", *options, env=environment)
