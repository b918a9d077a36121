"""What the tests share. Nothing is mocked: they use this project's own configuration, data and model."""

import os
import shutil
from pathlib import Path

import pytest

from . import ROOT


@pytest.fixture(autouse=True)
def _project(monkeypatch: pytest.MonkeyPatch) -> None:
    """The project's root is the working directory, without variables of an outer DVC experiment or MLflow run."""
    for name in list(os.environ):
        if name.startswith(("DVC_", "MLFLOW_", "HYDRA_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(ROOT)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a copy of conf/ and dvc.yaml, to write into."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
