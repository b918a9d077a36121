"""Fixtures of the harness's tests. Nothing is mocked: stages run in a workspace of their own, on files made there."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import HARNESS, ROOT

# A test is named as what it tests: without the file in a bake there is nothing to test.
collect_ignore_glob = [
    f"**/test_*{kind}*.py"
    for room, kind in (
        ("inputs", "images"),
        ("inputs", "tables"),
        ("targets", "classification"),
        ("targets", "regression"),
    )
    if not (HARNESS / room / f"{kind}.py").exists()
]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory for one test, with the bake's conf/ and dvc.yaml and nothing else."""
    for name in list(os.environ):
        if name.startswith(("DVC_", "MLFLOW_", "HYDRA_")):
            monkeypatch.delenv(name)
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store with nothing in it, to be copied: making its tables takes seconds."""
    from my_experiment.harness.tracking import store

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
        store.client()
    return path


@pytest.fixture
def draw() -> Callable[..., Path]:
    """Makes a picture file that no other seed gives: `draw("cats/1.png", seed=1, size=(9, 7), mode="RGB")`."""
    from PIL import Image

    def draw(
        path: Path | str, seed: int = 0, size: tuple[int, int] = (9, 7), mode: str = "RGB", **options: Any
    ) -> Path:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        width, height = size
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).convert(mode).save(path, **options)
        return path

    return draw
