"""Stage `prepare`: reads the data source, refuses or skips what is broken, splits, writes memory-mapped arrays."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt

from .. import cli, config
from ..data import prepared

REPORT = Path("reports/data.json")
Fraction = Annotated[float, Field(gt=0, lt=0.5)]


class Prepare(config.Section):
    """Section `prepare`.

    Attributes:
        seed: Another seed gives another split.
        validation: Expected fraction of the examples in the validation split.
        test: Expected fraction of the examples in the test split.
        on_invalid: What a file that cannot be used does: `stop` the run (all of them are listed first) or be skipped.
    """

    seed: NonNegativeInt
    validation: Fraction
    test: Fraction
    on_invalid: Literal["stop", "skip"]


class Intake:
    """Sorts what a source yields, in one pass: examples go on, problems and duplicates are collected.

    Attributes:
        problems: (path, reason) of each item that cannot be used.
        duplicates: (name, name of the first) of each exact duplicate.
    """

    def __init__(self) -> None:
        """Nothing is seen yet."""
        self.problems: list[tuple[str, str]] = []
        self.duplicates: list[tuple[str, str]] = []
        self._seen: dict[str, tuple[str, int]] = {}

    def examples(self, items: Iterator[Any]) -> Iterator[prepared.Example]:
        """Yields the usable examples.

        An exact duplicate stays: its content decides its split, so that it cannot leak. The same picture under two
        labels is a problem, since one of them is wrong.

        Args:
            items: `Example`s and `Problem`s.
        """
        for item in items:
            if not isinstance(item, prepared.Example):
                self.problems.append((item.path, item.reason))
                continue
            first, label = self._seen.setdefault(item.digest, (item.name, item.label))
            if label != item.label:
                self.problems.append((item.name, f"is the same picture as {first}, under another class: remove one"))
                continue
            if first != item.name:
                self.duplicates.append((item.name, first))
            yield item


def main() -> None:
    """Reads `data`, writes data/prepared and reports/data.json."""
    from tqdm import tqdm

    settings = config.load("prepare", Prepare)
    source = config.instantiate(config.read()["data"])
    if source.path is not None:
        refuse_untracked(source.path)
    intake = Intake()
    progress = tqdm(source.items, "prepare", source.size, unit=" images", disable=None)
    prepared.write(
        intake.examples(progress),
        lambda digest: prepared.assign(digest, settings.seed, settings.validation, settings.test),
        source.classes,
        source.shape,
        source.max_pixels,
    )
    for path, reason in intake.problems:
        print(f"prepare: {path}: {reason}", file=sys.stderr)
    if intake.problems and settings.on_invalid == "stop":
        raise cli.UserError(
            f"{len(intake.problems)} of {source.size} files cannot be used, all of them are listed above: mend or "
            "remove them, or set prepare.on_invalid: skip in conf/"
        )
    manifest = prepared.manifest()
    require_every_class(manifest)
    write_report(manifest, intake)


def refuse_untracked(path: Path) -> None:
    """Stops where the data lie outside what dvc.yaml says the stage depends on: a change would not be seen.

    Args:
        path: Where the data source reads.

    Raises:
        cli.UserError: Naming the line to add.
    """
    from omegaconf import OmegaConf

    stage: Any = OmegaConf.to_container(OmegaConf.load("dvc.yaml"))
    dependencies = [Path(dependency).resolve() for dependency in stage["stages"]["prepare"]["deps"]]
    if not any(path.resolve().is_relative_to(dependency) for dependency in dependencies):
        raise cli.UserError(
            f"data.path: {path} is no dependency of the stage, so an edit would not be noticed: move it below "
            f"data/raw/ or add `- {path}` under stages.prepare.deps in dvc.yaml"
        )


def require_every_class(manifest: dict[str, Any]) -> None:
    """Stops where a class has no example in a split.

    Args:
        manifest: Of the prepared data.

    Raises:
        cli.UserError: With a line for each such class and split.
    """
    missing = [
        f"class {name!r} has no example in split {split}"
        for split, counts in manifest["counts"].items()
        for name, count in zip(manifest["classes"], counts, strict=True)
        if not count
    ]
    if missing:
        raise cli.UserError("; ".join(missing) + ": add examples, raise prepare.test/validation or change prepare.seed")


def write_report(manifest: dict[str, Any], intake: Intake) -> None:
    """Writes reports/data.json: counts by split and class, what was skipped, duplicates by class."""
    report = {
        "examples": {split: sum(counts) for split, counts in manifest["counts"].items()},
        "classes": {
            split: dict(zip(manifest["classes"], counts, strict=True)) for split, counts in manifest["counts"].items()
        },
        "skipped": len(intake.problems),
        "skipped_files": [list(problem) for problem in intake.problems],
        "duplicates": len(intake.duplicates),
        "duplicate_files": [list(pair) for pair in intake.duplicates],
    }
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    cli.run_stage("prepare", main)
