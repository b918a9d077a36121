"""Signatures of registered models, by model-signing: https://github.com/sigstore/model-transparency.

A signature covers the files of models/ that a Bento holds. It is an artifact of the version's run, `model.sig`.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..core import programs
from ..core.errors import UserError, one_line
from ..tracking import lockfile
from .versions import MODEL

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

SIGNING, VERIFYING = "MODEL_SIGNING_KEY", "MODEL_VERIFY_KEY"  # variables: PEM files of the private and the public key
SIGNATURE = "model.sig"
# In an environment of its own: sigstore and its dependencies have no place beside the pipeline.
PACKAGES = ("--from", "model-signing==1.1.1", "--with", "pyopenssl==26.4.0")
TOOL = (sys.executable, "-m", "uv", "tool", "run", "--quiet", *PACKAGES, "model_signing")


def key(variable: str) -> Path | None:
    """The file of a key; None without one.

    Args:
        variable: The variable of the environment that names it.

    Raises:
        UserError: If there is no such file.
    """
    name = os.environ.get(variable)
    if not name:
        return None
    path = Path(name).expanduser()
    if not path.is_file():
        raise UserError(f"{variable}: there is no file {name}")
    return path


def sign(private: Path) -> str:
    """The signature of the model in the workspace.

    Args:
        private: The private key.

    Raises:
        UserError: If the files are not those of dvc.lock, or cannot be signed.
    """
    recorded = lockfile.outputs(lockfile.read_lock())
    paths = [path for path in lockfile.PACKED if path.startswith("models/")]
    paths = [path for path in paths if path in recorded or path not in lockfile.SHIPPED]
    lockfile.check(paths)
    with tempfile.TemporaryDirectory() as temporary:
        folder, signature = Path(temporary, "models"), Path(temporary, SIGNATURE)
        folder.mkdir()
        for path in paths:
            shutil.copy(path, folder)  # the content of what DVC may have linked
        programs.run(*TOOL, "sign", "key", "--private_key", private, "--signature", signature, folder)
        return signature.read_text(encoding="utf-8")


def verify(version: "ModelVersion", folder: Path) -> None:
    """Verifies the signature of a version, if a key is named.

    Args:
        version: The version.
        folder: Folder that holds the model, and nothing else.

    Raises:
        UserError: If there is none, or it does not hold.
    """
    public = key(VERIFYING)
    if public is None:
        return
    import mlflow

    label = f"{MODEL}/{version.version}"
    if SIGNATURE not in [item.path for item in mlflow.MlflowClient().list_artifacts(str(version.run_id))]:
        raise UserError(f"{label} is not signed, and {VERIFYING} is set: register it again where {SIGNING} is set")
    with tempfile.TemporaryDirectory() as temporary:
        signature = mlflow.artifacts.download_artifacts(
            run_id=version.run_id, artifact_path=SIGNATURE, dst_path=temporary
        )
        told = programs.complete(*TOOL, "verify", "key", "--public_key", public, "--signature", signature, folder)
    if told.returncode:
        raise UserError(f"{label}: its signature does not hold for {public}: {one_line(programs.reason(told), 150)}")
