"""What tests share. Nothing is mocked: stages run in a workspace of their own, on files made there."""

import os
import shutil
from pathlib import Path
import pytest
from tests import ROOT, module



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



@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store with nothing in it, to be copied: making its tables takes seconds."""
    from my_experiment.harness.tracking import store
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
        store.client()
    return path



