"""What tests of the harness share: they run inside a bake, whose package is `my_experiment`."""

import csv
import itertools
import os
import pickle
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(os.environ["BAKED_PROJECT"])
PACKAGE = "my_experiment"
HARNESS = ROOT / "src" / PACKAGE / "harness"


def picture_names(split: str, folder: Path = Path("data/prepared")) -> list[str]:
    """Names of a split's pictures, in the order of its rows."""
    with (folder / split / "index.csv").open(newline="", encoding="utf-8") as rows:
        return [row["name"] for row in csv.DictReader(rows)]


def elsewhere(work: Callable[[Iterable[Any]], Iterator[Any]], pieces: Iterable[Any]) -> Iterator[Any]:
    """An executor that does as one on a cluster: work, pieces and results are pickled, and pieces come in threes."""
    upcoming = iter(pieces)
    while shard := list(itertools.islice(upcoming, 3)):
        there, sent = pickle.loads(pickle.dumps((work, shard)))
        yield from pickle.loads(pickle.dumps(list(there(sent))))


def git(*arguments: str) -> str:
    """Runs git in the working directory."""
    done = subprocess.run(["git", "-c", "commit.gpgSign=false", *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def commit() -> None:
    """Commits everything."""
    git("add", "--all")
    git("commit", "--quiet", "--no-verify", "--message", "Test")
