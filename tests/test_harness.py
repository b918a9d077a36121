"""Tests of the harness, run inside bakes: all of them in one of pictures, those of tables in two of tables."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import BakedProject

TESTS = Path(__file__).parent / "harness"
ROOMS = sorted(folder.name for folder in TESTS.iterdir() if any(folder.glob("test_*.py")))


@pytest.fixture(scope="module")
def projects(bake: Callable[..., BakedProject]) -> Callable[[str], BakedProject]:
    """One bake a task."""
    made: dict[str, BakedProject] = {}
    return lambda task: made.setdefault(task, None) or made.setdefault(task, bake(task=task))  # type: ignore


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
    files = sorted((TESTS / room).glob(pattern))
    if not files:
        return
    project = projects(task)
    environment = {"BAKED_PROJECT": str(project.path), "PYTHONPATH": str(project.path / "src")}
    command = [sys.executable, "-m", "pytest", "-q", "-c", TESTS / "pytest.ini", *files]
    project.run(*command, env=environment)
