"""Tests of the harness, run inside bakes: all of them in one of pictures, those of tables in two of tables."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import BakedProject

TESTS = Path(__file__).parent / "harness"
SLOW = {"automation", "batch", "contracts", "evaluation", "lineage", "packaging", "release", "sweep", "training"}
ROOMS = [
    pytest.param(folder.name, marks=pytest.mark.slow if folder.name in SLOW else [])
    for folder in sorted(TESTS.iterdir())
    if any(folder.glob("test_*.py"))
]


@pytest.fixture(scope="module")
def projects(bake: Callable[..., BakedProject]) -> Callable[[str], BakedProject]:
    """One bake a task."""
    return functools.cache(lambda task: bake(task=task))


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize(
    ("task", "pattern"),
    [
        ("image-classification", "test_*.py"),
        ("tabular-classification", "test_*tables*.py"),
        ("tabular-regression", "test_*regression*.py"),
    ],
)
def test_room(projects: Callable[[str], BakedProject], task: str, pattern: str, room: str) -> None:
    if not any((TESTS / room).glob(pattern)):
        return
    project = projects(task)
    environment = {"BAKED_PROJECT": str(project.path), "PYTHONPATH": str(project.path / "src")}
    # The folder and not its files: pytest collects a file that it is given, even if conftest.py ignores it.
    options: list[str | Path] = ["-q", "-c", TESTS / "pytest.ini", "-o", f"python_files={pattern}", TESTS / room]
    done = project.run(sys.executable, "-m", "pytest", *options, env=environment, check=False)
    assert done.returncode in (0, pytest.ExitCode.NO_TESTS_COLLECTED), done.stdout + done.stderr
