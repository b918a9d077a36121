"""Signatures of models, by the real model-signing: what holds, and what is refused."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from locks import record
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.release import signing, versions
from my_experiment.harness.tracking import store


@pytest.fixture
def version(empty_store: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A registered version of a run, two pairs of keys, and the outputs of a pipeline."""
    shutil.copy(empty_store, workspace / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workspace / 'mlflow.db'}")
    for name in ("ours", "other"):
        made = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.pem"]
        subprocess.run(made, check=True)
        subprocess.run(["openssl", "ec", "-in", f"{name}.pem", "-pubout", "-out", f"{name}.pub"], check=True)
    record()
    client = store.client()
    run = client.create_run(client.create_experiment("x", artifact_location=f"file://{workspace}/artifacts"))
    client.create_registered_model(versions.MODEL)
    return client.create_model_version(versions.MODEL, "file:///1", run.info.run_id)


def test_a_signature_holds_for_its_files_and_its_key(version: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    models = Path("models")
    (models / "weights.npz").write_bytes(b"of which a Bento has none")
    signing.verify(version, models)  # nothing is asked for
    monkeypatch.setenv("MODEL_VERIFY_KEY", "ours.pub")
    with pytest.raises(UserError, match=rf"^{versions.MODEL}/1 is not signed, and MODEL_VERIFY_KEY is set: register"):
        signing.verify(version, models)
    monkeypatch.setenv("MODEL_SIGNING_KEY", "ours.pem")
    private = signing.key(signing.SIGNING)
    assert private
    store.client().log_text(version.run_id, signing.sign(private), signing.SIGNATURE)
    (models / "weights.npz").unlink()
    signing.verify(version, models)
    monkeypatch.setenv("MODEL_VERIFY_KEY", "other.pub")
    with pytest.raises(UserError, match=rf"^{versions.MODEL}/1: its signature does not hold for other\.pub: .+$"):
        signing.verify(version, models)
    monkeypatch.setenv("MODEL_VERIFY_KEY", "ours.pub")
    (models / "decision.json").write_text('{"threshold": 0.01}')
    with pytest.raises(UserError, match=r"does not hold for ours\.pub: .*decision\.json"):
        signing.verify(version, models)
    with pytest.raises(UserError, match=r"different from dvc\.lock: models/decision\.json"):
        signing.sign(private)


def test_a_bento_is_what_was_signed_and_nothing_beside(version: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bento = Path("bento")
    (bento / "src").mkdir(parents=True)
    (bento / "bento.yaml").write_text("name: x")
    (bento / "src/service.py").write_text("pass")
    signing.verify_bento("x:1", bento)  # nothing is asked for
    monkeypatch.setenv("MODEL_VERIFY_KEY", "ours.pub")
    with pytest.raises(UserError, match=r"^x:1 is not signed, and MODEL_VERIFY_KEY is set: .*BENTO=x:1`$"):
        signing.verify_bento("x:1", bento)
    signing.sign_bento(Path("ours.pem"), bento)
    signing.verify_bento("x:1", Path(shutil.copytree(bento, "elsewhere")))  # it is there, too
    added = (bento / ".gitignore", bento / "src/more.py")
    for file in added:
        file.write_text("pass")
    with pytest.raises(UserError, match=r"its signature does not hold for ours\.pub: .*\.gitignore.*src/more\.py"):
        signing.verify_bento("x:1", bento)
    for file in added:
        file.unlink()
    monkeypatch.setenv("MODEL_VERIFY_KEY", "other.pub")
    with pytest.raises(UserError, match=r"^x:1: its signature does not hold for other\.pub: .*Key mismatch"):
        signing.verify_bento("x:1", bento)


def test_a_wrong_key_is_one_line(version: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert signing.key(signing.SIGNING) is None
    monkeypatch.setenv("MODEL_SIGNING_KEY", "gone.pem")
    with pytest.raises(UserError, match=r"^MODEL_SIGNING_KEY: there is no file gone\.pem$"):
        signing.key(signing.SIGNING)
    with pytest.raises(UserError, match=r"Signing failed with error: .*private key"):
        signing.sign(Path("ours.pub"))
