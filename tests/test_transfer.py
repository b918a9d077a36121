"""The slow tests of models on large bases, run inside a bake."""

import sys
from pathlib import Path

import pytest
from conftest import BakedProject

pytestmark = pytest.mark.pipeline
HARNESS = Path(__file__).parent / "harness"


def test_models_on_large_bases(default_project: BakedProject) -> None:
    # MobileNet goes the same way as ResNet-50, to the same bytes, in a third of the time.
    files = [HARNESS / "training" / name for name in ("test_transfer_images.py", "test_models_images.py")]
    environment = {"BAKED_PROJECT": str(default_project.path), "PYTHONPATH": str(default_project.path / "src")}
    chosen = ("-m", "slow", "-k", "not (exported and resnet50)")
    done = default_project.run(
        sys.executable, "-m", "pytest", "-q", "-c", HARNESS / "pytest.ini", *chosen, *files, env=environment
    )
    assert "2 passed" in done.stdout.splitlines()[-1]
