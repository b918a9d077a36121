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

from . import cli, lineage, registry, tracking


def build(name: str) -> None:
    """Builds a Bento.

    Args:
        name: Alias or number of the registered version.

    Raises:
        UserError: Where its commit is not in this clone, or the build fails.
    """
    import mlflow

    store = tracking.client()
    found = registry.version(store, name)
    label, commit = f"{registry.MODEL}/{found.version}", found.tags.get("git_commit")
    if commit is None:
        raise cli.UserError(f"{label} names no commit: `registry register` has not registered it")
    number = f"{found.version}-{commit[:12]}"  # the same version is one Bento, and its image has the same layers
    if (tag := f"{registry.MODEL}:{number}") in lineage.stored_bentos():
        print(f"{tag} is built already")
        return
    with tempfile.TemporaryDirectory() as temporary, lineage.work_tree(commit, label, Path(temporary) / "tree") as tree:
        stored = registry.fetch(found, Path(temporary))
        (tree / "models").mkdir()
        shutil.copyfile(stored.model, tree / "models" / "model.onnx")
        shutil.copyfile(stored.model.parent / "extra_files" / "model.json", tree / "models" / "model.json")
        (tree / "reports").mkdir()
        for logged, place in (("page.json", "models"), ("reports/metrics.json", "reports")):  # these for the labels
            at = mlflow.artifacts.download_artifacts(run_id=found.run_id, artifact_path=logged, dst_path=temporary)
            shutil.copy(at, tree / place)
        if stale := lineage.stale(lineage.PACKED, tree):
            raise cli.UserError(
                f"{label} was evaluated again since its commit {commit[:12]}, its run has another {', '.join(stale)}: "
                "check the commit of that evaluation out, then `dvc checkout`, `make bento`"
            )
        done = subprocess.run(
            [sys.executable, "-m", "bentoml", "build", "--version", number, "--label", f"registered_model={label}"],
            cwd=tree, check=False,
            env={**os.environ, "PYTHONPATH": str(tree / "src"), "MLFLOW_TRACKING_URI": tracking.uri()},
        )  # fmt: skip
    if done.returncode:
        raise cli.UserError(f"bentoml build failed for {label} at commit {commit[:12]}, see above")


def main() -> None:
    """Builds what the command line names."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {registry.MODEL}.bento", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--from", dest="name", required=True, metavar="ALIAS|VERSION", help="champion, for instance")
    with tracking.in_one_line():
        build(parser.parse_args().name)


if __name__ == "__main__":
    cli.run(main)
