"""The report of a retraining: outcomes at the gates, and differences."""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..core import files, text
from ..core.errors import shortened
from ..core.paths import MODELS
from ..exported import model
from ..release import gates, judge, versions
from ..tracking import git, lockfile, store
from ..tracking.proposal import REPORT
from . import differences
from .differences import PLOTS
from .retrain_tree import data_files, read_yaml

if TYPE_CHECKING:
    from ..release.gates import Gate
    from ..release.settings import Gates


def write(
    tree: Path, base: str, changed: Sequence[str], settings: "Gates", contributors: str = ""
) -> tuple[str, list[str]]:
    """Judges the new model at the gates and writes the report.

    Args:
        tree: Root of the project in the work tree, after `dvc repro`.
        base: The commit to compare with.
        changed: The inputs that changed.
        settings: The gates.
        contributors: Whose labels from production were added, as Markdown.

    Returns:
        The report, in the form of a commit message, and the failed gates.
    """
    compared, outcomes = judge_new(tree, settings)
    failed = gates.failed(outcomes)
    title = verdict(changed, failed)
    parts = [title, compared, gates.markdown(outcomes), contributors.strip(), differences_from(base, tree)]
    report = "\n\n".join(filter(None, parts))
    files.write_text(REPORT, f"# {report}")
    print(f"\n{title}\n{compared}\n\n{gates.table(outcomes)}\n", flush=True)
    return report, failed


def judge_new(tree: Path, settings: "Gates") -> tuple[str, "list[Gate]"]:
    """Judges the new model at the gates, beside the registry's champion.

    No alias is moved.

    Args:
        tree: Root of the project in the work tree, after `dvc repro`.
        settings: The gates.

    Returns:
        A sentence about the comparison, and the outcome of each gate.

    Raises:
        UserError: If a model does not fit the test data, or the registry cannot be reached.
    """
    with contextlib.chdir(tree), store.in_one_line(), tempfile.TemporaryDirectory() as folder:
        registry = store.client()
        number = versions.aliases(registry).get(versions.CHAMPION)
        compares = number is not None and judge.compares(settings)
        champion = judge.fetch(versions.version(registry, str(number)), Path(folder)) if compares else None
        data = lockfile.training(lockfile.read_lock()).inputs["data/prepared"]
        candidate = judge.StoredModel("the new model", MODELS / "model.onnx", model.served(MODELS), data)
        outcomes = judge.judge(candidate, champion, settings)
    if champion is None:
        return f"Not compared with a champion: {'no gate needs it' if number else 'there is none yet'}.", outcomes
    note = "" if champion.data == data else " It was trained on other data, which may include some of these."
    return f"Compared with {champion.name}, the champion, on the test data of the new version.{note}", outcomes


def verdict(changed: Sequence[str], failed: Sequence[str]) -> str:
    """The title of the report.

    Args:
        changed: The inputs that changed; empty for a first result.
        failed: The failed gates.
    """
    reason = f"{shortened(changed, 3)} changed" if changed else "first results"
    return f"Retraining ({reason}) " + (f"does NOT pass: {', '.join(failed)}" if failed else "passes every gate")


def differences_from(base: str, tree: Path) -> str:
    """Writes the page of plots; returns differences from a commit, as Markdown.

    The differences are those of data, metrics and parameters.

    Args:
        base: The commit.
        tree: Root of the project in the work tree, after `dvc repro`.
    """
    data = []
    for file in data_files(tree):
        old, new = git.git("show", f"{base}:./{file}"), (tree / file).read_text(encoding="utf-8")
        if old is not None and old.strip() != new.strip():
            data.append((file, size_of(old), size_of(new)))
    sections = [f"What differs from commit {base[:12]}:"]
    if data:
        sections.append("\n".join(text.table(("data", "before", "now"), data, words=3)))
    for title, kind, options in (("Metrics", "metrics", ["--all"]), ("Parameters", "params", [])):
        table = differences.table(kind, base[:12], *options, cwd=tree).markdown()
        # DVC calls the work tree "workspace", which a reader would take for the folder of the project.
        sections += [f"## {title}", table.replace("workspace", "retrained", 1)]
    differences.plots(base[:12], tree)
    plots = read_yaml(tree / "dvc.yaml").get("plots", [])
    names = ", ".join(next(iter(plot)) if isinstance(plot, dict) else plot for plot in plots)
    return "\n\n".join([*sections, "## Plots", f"{names}: both versions side by side in {PLOTS}/index.html."]) + "\n"


def size_of(file: str) -> str:
    """Number and size of the data files in a .dvc file.

    Args:
        file: The text of the .dvc file.
    """
    from yaml import safe_load

    outs = safe_load(file)["outs"]
    count = sum(out.get("nfiles", 1) for out in outs)
    return f"{count} {'file' if count == 1 else 'files'}, {sum(out.get('size', 0) for out in outs):,} bytes"
