"""The command `collect`: labeled examples from production become data of the configured source.

It may run again: examples in the ledger are not added twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from .. import audit, configuration
from ..core import config, programs, text
from ..core.commands import FILE
from ..core.errors import UserError
from ..core.programs import DVC
from . import destination, ledger, reading, shares
from .contracts import Labeled

SEGMENTS = Path("data/production")  # imported by DVC, or brought by hand


class Collected(NamedTuple):
    """What was added.

    Attributes:
        report: Markdown: how many examples, and whose.
        files: The new and changed .dvc files, and .gitignore files beside them.
    """

    report: str
    files: Sequence[Path]


def collect(folder: Path = SEGMENTS) -> Collected:
    """Adds labeled examples to the configured source, and to DVC.

    Args:
        folder: Folder of the segments.

    Raises:
        UserError: If segments cannot be read, or nothing can be added to the source.
    """
    source = config.instantiate(configuration.parse(config.compose())["data"])
    writer = destination(source.input)
    known = ledger.read(writer.folder(source))
    _refuse_import(known.folder)
    segments = reading.open_segments(folder)
    labels = segments.labels()
    examples = [example for example in segments.labeled(labels) if example.key not in known.keys]
    checked = writer.check(examples, source)
    offered = Counter(example.contributor for example in checked.usable)
    contributors = {*offered, *(entry.contributor for entry in known.entries)}
    taken = shares.limits(offered, len(contributors))
    chosen = shares.first(checked.usable, taken)
    files: list[Path] = []
    if chosen:
        audit.record("collect", examples=len(chosen), contributors=len({each.contributor for each in chosen}))
        written = writer.write(chosen, source, known.name)
        files = track([*written, known.add(chosen)])
    unmatched = len(labels) - len(examples) - sum(key in known.keys for key in labels)
    lines = [f"{len(chosen):,} labeled example(s) from production added to {known.folder}", ""]
    lines += _table(chosen, offered, Counter(entry.contributor for entry in known.entries))
    lines += [f"- {text.escaped(problem)}" for problem in checked.problems]
    if unmatched > 0:
        lines.append(f"- {unmatched:,} label(s) without a request: not in the sample, not yet here, or no longer kept")
    return Collected("\n".join(lines).strip() + "\n", files)


def _table(chosen: Sequence[Labeled], offered: Mapping[str, int], earlier: Mapping[str, int]) -> list[str]:
    """The table of contributors."""
    names = sorted({*offered, *earlier})
    if not names:
        return []
    rows: list[tuple[Any, ...]] = []
    for name in names:
        added = [example for example in chosen if example.contributor == name]
        judged = [example.agrees for example in added if example.agrees is not None]
        disagreement = f"{judged.count(False) / len(judged):.0%}" if judged else "-"
        share = f"{len(added) / len(chosen):.0%}" if chosen else "-"
        waiting = offered.get(name, 0) - len(added)
        rows.append((name, len(added), share, disagreement, waiting, earlier.get(name, 0)))
    titles = ("contributor", "added", "share", "contradict the model", "waiting", "added before")
    most = f"{max(shares.SHARE, 1 / len(names)):.0%}"
    rule = f"No contributor has more than {most} of what is added; the rest waits for labels of others."
    return [*text.table(titles, rows), "", *([rule, ""] if len(names) > 1 else [])]


def track(files: Sequence[Path]) -> list[Path]:
    """Puts files under DVC: with the folder that it tracks, or each on its own.

    Args:
        files: New files.

    Returns:
        The .dvc files, and the .gitignore files beside them, for git.
    """
    targets = sorted({tracked(file) or file for file in files})
    programs.run(*DVC, "add", "--quiet", *targets)
    found = [Path(f"{target}.dvc") for target in targets]
    ignores = {target.parent / ".gitignore" for target in targets}
    return [*found, *sorted(path for path in ignores if path.exists())]


def tracked(path: Path) -> Path | None:
    """The file or folder that DVC tracks and that is or holds a path; None if there is none.

    Args:
        path: A file or folder.
    """
    return next((place for place in (path, *path.parents) if Path(f"{place}.dvc").is_file()), None)


def _refuse_import(folder: Path) -> None:
    """Rejects a folder that `dvc update` replaces.

    Raises:
        UserError: If DVC imports it.
    """
    from yaml import safe_load

    root = tracked(folder)
    if root and "deps" in safe_load(Path(f"{root}.dvc").read_text(encoding="utf-8")):
        raise UserError(
            f"{root} is imported: the next `dvc update` would remove what is added here. Import a table into a "
            "folder that is not imported itself (data/raw), or add the data with `dvc add` instead"
        )


@click.command()
@click.argument("folder", type=FILE, default=SEGMENTS)
def command(folder: Path) -> None:
    """Add labeled examples from production to the data.

    FOLDER has the segments that the service has kept (SERVICE_LOG), or a copy of them, data/production by default.
    SERVICE_LOG_IDENTITY names the file with the secret key that decrypts them.
    """
    collected = collect(folder)
    print(collected.report, end="")
    if collected.files:
        print(f"\nNext: dvc repro && git add {' '.join(map(str, collected.files))}")
