"""Shared fixtures. Nothing is mocked: tests use this project's data and model."""

import os
import shutil
from pathlib import Path

import pytest

from . import ROOT


@pytest.fixture(autouse=True)
def _project(monkeypatch: pytest.MonkeyPatch) -> None:
    """Working directory: the project's root, without variables of DVC, MLflow or Hydra."""
    for name in list(os.environ):
        if name.startswith(("DVC_", "MLFLOW_", "HYDRA_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(ROOT)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary working directory with a copy of conf/ and dvc.yaml."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
