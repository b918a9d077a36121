"""Bentos: that of a registered version, whatever the workspace holds, and their signatures.

Code, configuration and locked requirements come from the version's commit, the model comes from the registry:
`bentoml build` runs in a temporary git work tree that holds both.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import audit
from ..core import files
from ..core.errors import UserError
from ..release import judge, signing, versions
from ..tracking import git, lockfile, store

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

TAG = Path("build/bento")  # for a CI job: name and version of the Bento of a version that was built last


def stored_bentos() -> dict[str, dict[str, str]]:
    """Tag -> labels of each Bento in the local store."""
    import bentoml

    return {str(bento.tag): dict(bento.info.labels) for bento in bentoml.bentos.list()}


def folder_of(tag: str) -> Path:
    """The folder of a Bento in the local store.

    Args:
        tag: Its name and version.

    Raises:
        UserError: If there is none.
    """
    import bentoml

    if tag not in stored_bentos():
        raise UserError(f"there is no Bento {tag!r}: `bentoml list` lists them")
    return Path(bentoml.bentos.get(tag).path)


def sign_built(tag: str) -> None:
    """Signs a Bento that was built just now, if there is a key.

    Args:
        tag: Its name and version.

    Raises:
        UserError: If it cannot be signed.
    """
    if private := signing.key(signing.SIGNING):
        signing.sign_bento(private, folder_of(tag))


def build(name: str) -> None:
    """Builds the Bento of a registered version, unless it exists, and signs it if there is a key.

    Args:
        name: Alias or number of the version.

    Raises:
        UserError: If the version's commit is not in this clone, its signature does not hold, or the build fails.
    """
    version = versions.version(store.client(), name)
    label, commit = f"{versions.MODEL}/{version.version}", version.tags.get("git_commit")
    if commit is None:
        raise UserError(
            f"{label} has no commit: it was not registered by `python -m {versions.MODEL} registry register`"
        )
    number = f"{version.version}-{commit[:12]}"
    if (tag := f"{versions.MODEL}:{number}") in stored_bentos():
        signing.verify(version, folder_of(tag) / "src" / "models")
        files.write_text(TAG, f"{tag}\n")
        print(f"{tag} is built already")
        return
    with tempfile.TemporaryDirectory() as temporary, git.work_tree(commit, label, Path(temporary) / "tree") as tree:
        packed = packed_by(tree)
        _fetch(version, packed, Path(temporary), tree)
        if stale := lockfile.stale(packed, tree):
            raise UserError(
                f"{label} was evaluated again after its commit {commit[:12]}, and its run has another "
                f"{' and '.join(stale)}: check out the commit of that evaluation, then `dvc checkout` and `make bento`"
            )
        signing.verify(version, tree / "models")
        environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "MLFLOW_TRACKING_URI": store.uri()}
        # With the tag as output, BentoML prints no advertisement.
        bentoml = [
            sys.executable,
            "-m",
            "bentoml",
            "build",
            "--output",
            "tag",
            "--version",
            number,
            "--label",
            f"registered_model={label}",
        ]
        audit.record("bento", version=label, bento=tag, commit=commit)
        done = subprocess.run(bentoml, cwd=tree, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stdout)
        raise UserError(f"bentoml build failed for {label} at commit {commit[:12]}: its output above says why")
    sign_built(tag)
    files.write_text(TAG, f"{tag}\n")
    print(f"Built {tag}")


def packed_by(tree: Path) -> list[str]:
    """The outputs that a Bento of a commit holds or quotes; an earlier template had fewer.

    Args:
        tree: Work tree of the commit.
    """
    recorded = lockfile.outputs((tree / lockfile.LOCK).read_text(encoding="utf-8"))
    return [path for path in lockfile.PACKED if path in recorded or path not in lockfile.SHIPPED]


def _fetch(version: "ModelVersion", packed: Sequence[str], temporary: Path, tree: Path) -> None:
    """Copies a version's model and reports from MLflow into a work tree."""
    import mlflow

    stored = judge.fetch(version, temporary)
    for folder in ("models", "reports"):
        (tree / folder).mkdir()
    shutil.copyfile(stored.model, tree / "models" / "model.onnx")
    shutil.copyfile(stored.model.parent / "extra_files" / "model.json", tree / "models" / "model.json")
    for path in [path for path in packed if path in (*lockfile.SHIPPED, "reports/metrics.json")]:
        artifact = path.removeprefix("models/")
        file = mlflow.artifacts.download_artifacts(
            run_id=version.run_id, artifact_path=artifact, dst_path=str(temporary)
        )
        shutil.copy(file, tree / path)


def sign(tag: str) -> None:
    """Signs a Bento of the local store.

    Args:
        tag: Its name and version.

    Raises:
        UserError: If there is no key, no such Bento, or it cannot be signed.
    """
    private = signing.key(signing.SIGNING)
    if private is None:
        raise UserError(f"{signing.SIGNING} is not set: it names the PEM file of a private key")
    signing.sign_bento(private, folder_of(tag))
    audit.record("bento signed", bento=tag)
    print(f"Signed {tag}")


def verify(tag: str) -> None:
    """Verifies the signature of a Bento.

    Args:
        tag: Its name and version in the local store.

    Raises:
        UserError: If there is no key, no such Bento, no signature, or it does not hold.
    """
    if signing.key(signing.VERIFYING) is None:
        raise UserError(f"{signing.VERIFYING} is not set: it names the PEM file of a public key")
    signing.verify_bento(tag, folder_of(tag))
    print(f"{tag}: the signature holds")


@click.command()
@click.option("--from", "version", metavar="ALIAS|VERSION", help="Build that of a registered version, champion or 2.")
@click.option("--sign", "signed", metavar="NAME:VERSION", help="Sign a Bento with MODEL_SIGNING_KEY.")
@click.option("--verify", "verified", metavar="NAME:VERSION", help="Verify its signature with MODEL_VERIFY_KEY.")
def command(version: str | None, signed: str | None, verified: str | None) -> None:
    """Build the Bento of a registered version, with its commit's code; or sign or verify a Bento."""
    wanted = {build: version, sign: signed, verify: verified}
    asked = [(act, name) for act, name in wanted.items() if name is not None]
    if len(asked) != 1:
        raise click.UsageError("name one of --from ALIAS|VERSION, --sign NAME:VERSION and --verify NAME:VERSION")
    ((act, name),) = asked
    with store.in_one_line():
        act(name)
