"""Signatures of registered models, Bentos and statements, by model-signing: https://github.com/sigstore/model-transparency.

A model's signature covers the files of models/ that a Bento holds. It is an artifact of the version's run, `model.sig`.
A Bento's covers all its files. It lies among them, so that it goes wherever the Bento does; the image has none.
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
SIGNATURE, BENTO_SIGNATURE = "model.sig", "bento.sig"
# In an environment of its own: sigstore and its dependencies have no place beside the pipeline.
PACKAGES = ("--from", "model-signing==1.1.1", "--with", "pyopenssl==26.4.0")
ENVIRONMENT = (sys.executable, "-m", "uv", "tool", "run", "--quiet", *PACKAGES)
TOOL = (*ENVIRONMENT, "model_signing")
ENVELOPE = (*ENVIRONMENT, "python", "-I", str(Path(__file__).with_name("envelope.py")))


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
        _require_signature(label, public, "--signature", signature, folder)


def sign_bento(private: Path, folder: Path) -> None:
    """Signs a Bento.

    Args:
        private: The private key.
        folder: Its folder.

    Raises:
        UserError: If it cannot be signed.
    """
    programs.run(*TOOL, "sign", "key", "--private_key", private, *_all_but_signature(folder))


def verify_bento(tag: str, folder: Path) -> None:
    """Verifies the signature of a Bento, if a key is named.

    Args:
        tag: How it is called.
        folder: Its folder.

    Raises:
        UserError: If there is none, or it does not hold.
    """
    public = key(VERIFYING)
    if public is None:
        return
    if not (folder / BENTO_SIGNATURE).is_file():
        raise UserError(
            f"{tag} is not signed, and {VERIFYING} is set: build it where {SIGNING} is set, or `make sign BENTO={tag}`"
        )
    _require_signature(tag, public, *_all_but_signature(folder))


def sealed(private: Path, statement: str) -> str:
    """A statement in a signed envelope.

    Args:
        private: The private key.
        statement: The statement.

    Raises:
        UserError: If it cannot be signed.
    """
    told = programs.complete(*ENVELOPE, "sign", private, text=statement)
    if told.returncode:
        raise UserError(f"{private}: {programs.reason(told).removeprefix('error: ')}")
    return told.stdout


def opened(key: Path, envelope: str) -> str:
    """The statement in an envelope.

    Args:
        key: The public key, or the private one.
        envelope: The envelope.

    Raises:
        UserError: If its signature does not hold.
    """
    told = programs.complete(*ENVELOPE, "verify", key, text=envelope)
    if told.returncode:
        raise UserError(f"its signature does not hold for {key}: {programs.reason(told).removeprefix('error: ')}")
    return told.stdout


def _require_signature(label: str, public: Path, *signed: str | Path) -> None:
    """Raises if a signature does not hold; `signed` are the arguments that name it and the folder."""
    told = programs.complete(*TOOL, "verify", "key", "--public_key", public, *signed)
    if told.returncode:
        raise UserError(f"{label}: its signature does not hold for {public}: {one_line(programs.reason(told), 150)}")


def _all_but_signature(folder: Path) -> list[str | Path]:
    """Arguments that name a Bento and its signature; without the option, files of git could be added."""
    signature = folder / BENTO_SIGNATURE
    return ["--no-ignore-git-paths", "--ignore-paths", signature, "--signature", signature, folder]
