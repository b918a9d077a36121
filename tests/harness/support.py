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


# Names that are more than text in HTML or Markdown.
HOSTILE = ("<img src=x onerror=alert(1)>", "a|`b` <!-- *c*", "[d](http://e) _f_ &lt; $g$ ~~h~~\\")


def read_as_text(markdown: str) -> str:
    """What a reader sees of Markdown on a site that allows HTML; fails if there is HTML, or a link to elsewhere."""
    from markdown_it import MarkdownIt
    from my_experiment.harness.evaluation.metadata import without

    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(without(markdown))
    found = [child for token in tokens for child in (token, *(token.children or ()))]
    assert not [token.content for token in found if token.type.startswith("html")]
    assert not [token.attrs for token in found if "://" in str(token.attrGet("href"))]
    lines = ["".join(child.content or " " for child in token.children or ()) for token in tokens]
    return "\n".join(lines)


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
