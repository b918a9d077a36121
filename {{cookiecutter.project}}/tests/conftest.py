"""What tests share. Nothing is mocked: stages run in a workspace of their own, on files made there."""

import os
import shutil
from pathlib import Path

import pytest

from tests import ROOT


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory for one test, with this project's conf/ and dvc.yaml and nothing else."""
    for name in list(os.environ):
        if name.startswith(("DVC_", "MLFLOW_", "HYDRA_")):
            monkeypatch.delenv(name)
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
