"""Builds the Bento of a registered version, whatever lies in the workspace.

    python -m <package>.bento --from champion     an alias, or a version's number

Code, configuration and locked requirements are those of the version's commit, the model is the registry's:
`bentoml build` runs in a temporary work tree of git that holds both.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ..core import errors, stages
from ..release import judge, versions
from ..tracking import git, lockfile, store
from ..tracking import store as tracking_store


def stored_bentos() -> dict[str, dict[str, str]]:
    """Returns tag -> labels of the Bentos in the local store."""
    import bentoml

    return {str(bento.tag): dict(bento.info.labels) for bento in bentoml.bentos.list()}


def build(name: str) -> None:
    """Builds a Bento.

    Args:
        name: Alias or number of the registered version.

    Raises:
        UserError: Where its commit is not in this clone, or the build fails.
    """
    import mlflow

    store = tracking_store.client()
    found = versions.version(store, name)
    label, commit = f"{versions.MODEL}/{found.version}", found.tags.get("git_commit")
    if commit is None:
        raise errors.UserError(f"{label} names no commit: `registry register` has not registered it")
    number = f"{found.version}-{commit[:12]}"  # the same version is one Bento, and its image has the same layers
    if (tag := f"{versions.MODEL}:{number}") in stored_bentos():
        print(f"{tag} is built already")
        return
    with tempfile.TemporaryDirectory() as temporary, git.work_tree(commit, label, Path(temporary) / "tree") as tree:
        stored = judge.fetch(found, Path(temporary))
        (tree / "models").mkdir()
        shutil.copyfile(stored.model, tree / "models" / "model.onnx")
        shutil.copyfile(stored.model.parent / "extra_files" / "model.json", tree / "models" / "model.json")
        (tree / "reports").mkdir()
        for logged, place in (("page.json", "models"), ("reports/metrics.json", "reports")):  # these for the labels
            at = mlflow.artifacts.download_artifacts(run_id=found.run_id, artifact_path=logged, dst_path=temporary)
            shutil.copy(at, tree / place)
        if stale := lockfile.stale(lockfile.PACKED, tree):
            raise errors.UserError(
                f"{label} was evaluated again since its commit {commit[:12]}, its run has another {', '.join(stale)}: "
                "check the commit of that evaluation out, then `dvc checkout`, `make bento`"
            )
        done = subprocess.run(
            [sys.executable, "-m", "bentoml", "build", "--version", number, "--label", f"registered_model={label}"],
            cwd=tree, check=False,
            env={**os.environ, "PYTHONPATH": str(tree / "src"), "MLFLOW_TRACKING_URI": tracking_store.uri()},
        )  # fmt: skip
    if done.returncode:
        raise errors.UserError(f"bentoml build failed for {label} at commit {commit[:12]}, see above")


def main() -> None:
    """Builds what the command line names."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {versions.MODEL}.bento", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--from", dest="name", required=True, metavar="ALIAS|VERSION", help="champion, for instance")
    with store.in_one_line():
        build(parser.parse_args().name)


if __name__ == "__main__":
    stages.run(main)
