"""The Bento of a registered version, whatever the workspace holds.

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
from ..core.errors import UserError
from ..release import judge, signing, versions
from ..tracking import git, lockfile, store

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


def stored_bentos() -> dict[str, dict[str, str]]:
    """Tag -> labels of each Bento in the local store."""
    import bentoml

    return {str(bento.tag): dict(bento.info.labels) for bento in bentoml.bentos.list()}


def build(name: str) -> None:
    """Builds the Bento of a registered version, unless it exists.

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
        signing.verify(version, _models(tag))
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
    print(f"Built {tag}")


def _models(tag: str) -> Path:
    """The folder of the model in a Bento of the local store."""
    import bentoml

    return Path(bentoml.bentos.get(tag).path) / "src" / "models"


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


@click.command()
@click.option(
    "--from", "name", required=True, metavar="ALIAS|VERSION", help="The registered version, for instance champion."
)
def command(name: str) -> None:
    """Build the Bento of a registered version, with its commit's code."""
    with store.in_one_line():
        build(name)
