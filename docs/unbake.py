"""`make unbake`: brings what was changed in `build/bake` back into the template.

Only what is the template's: what the pipeline writes stays behind. A line that Jinja has computed has no one line to
go back to; a change of it is refused, with file and hunk, and then nothing at all is changed.
"""

import difflib
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from cookiecutter.generate import generate_context
from cookiecutter.prompt import prompt_for_config

ROOT = Path(__file__).resolve().parent.parent
SOURCE = "{{cookiecutter.project}}"
WRITTEN = {"dvc.lock", "machine.json", "params.yaml"}  # by the pipeline
BASE = "refs/unbake/base"  # in the bake: what the template and the bake last agreed on
NAMES = ("project_name", "project", "package", "description", "author_name", "author_email")
SIMPLE = re.compile(r"\{\{\s*cookiecutter\.(\w+)\s*\}\}")
JINJA = re.compile(r"\{\{|\{%|\{#")
SET = re.compile(r"\{%-?\s*set\b[^%]*%\}\s*$")


class Refused(Exception):
    """A change that has no place in the template; says which and why."""


@dataclass(frozen=True)
class Change:
    """A file of the bake, before and after; None where there was or is none."""

    old: str | None
    new: str | None


def git(bake: Path, *arguments: str, index: Path | None = None) -> str:
    """Runs git in the bake and gives what it says, line ends included."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    if index:
        environment["GIT_INDEX_FILE"] = str(index)
    done = subprocess.run(["git", *arguments], cwd=bake, env=environment, check=True, capture_output=True)
    return done.stdout.decode("utf-8", errors="surrogateescape")


def snapshot(bake: Path) -> str:
    """Gives the tree of what lies in the bake, without what git ignores, and leaves its index alone."""
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        git(bake, "add", "--all", index=index)
        return git(bake, "write-tree", index=index).strip()


def base(bake: Path) -> str:
    """Gives what the changes are counted from: the first commit, or what was brought back last."""
    if git(bake, "for-each-ref", BASE):
        return BASE
    return git(bake, "rev-list", "--max-parents=0", "HEAD").split()[0]


def changes(bake: Path, tree: str) -> list[Change]:
    """Lists which files differ from the base; a file that was moved is one change."""
    fields = git(bake, "diff-tree", "-r", "-z", "--find-renames", "--name-status", base(bake), tree).split("\0")[:-1]
    found = []
    while fields:
        status = fields.pop(0)
        old = fields.pop(0)
        new = fields.pop(0) if status[0] == "R" else old
        change = Change(None if status == "A" else old, None if status == "D" else new)
        if not {change.old, change.new} & WRITTEN:
            found.append(change)
    return found


def content(bake: Path, tree: str, name: str) -> bytes:
    """Reads a file of a tree as it is on disk."""
    command = ["git", "cat-file", "blob", f"{tree}:{name}"]
    return subprocess.run(command, cwd=bake, check=True, capture_output=True).stdout


class Template:
    """The template's answers in this bake, and what follows from them."""

    def __init__(self, task: str) -> None:
        """Takes the answers that `make bake` gave: the defaults, and a task."""
        context = generate_context(str(ROOT / "cookiecutter.json"), extra_context={"task": task})
        self.answers = prompt_for_config(context, no_input=True)
        self.task = task
        values = {name: str(self.answers[name]) for name in NAMES}
        self.values = dict(sorted(values.items(), key=lambda item: -len(item[1])))

    def copied(self, name: str) -> bool:
        """Says whether cookiecutter copies this file of a project as it is."""
        return any(fnmatch(name, pattern) for pattern in self.answers["_copy_without_render"])

    def path(self, name: str) -> Path:
        """Gives the template's file that becomes this file of a project."""
        return ROOT / SOURCE / self.expressions(name)

    def expressions(self, text: str) -> str:
        """Puts expressions in the place of answers."""
        for name, value in self.values.items():
            text = text.replace(value, f"{{{{cookiecutter.{name}}}}}")
        return text

    def plain(self, text: str) -> str:
        """Puts answers in the place of plain expressions; leaves everything else that is Jinja's."""
        return SIMPLE.sub(lambda found: str(self.answers[found.group(1)]), text)

    def line(self, text: str, where: str) -> str:
        """Gives a line of the template that is rendered as this line."""
        if JINJA.search(text):
            raise Refused(f"{where}: Jinja would read {JINJA.search(text).group()!r}")  # type: ignore[union-attr]
        return self.expressions(text)

    def source(self, name: str, edited: bytes, baked: bytes | None, source: bytes | None) -> bytes:
        """Gives the template's file for a changed file of the bake.

        Args:
            name: The file, in the bake.
            edited: What it holds now.
            baked: What it held, or None for a new file.
            source: What the template's file holds, or None for a new one.

        Raises:
            Refused: If the change cannot be told in terms of the template.
        """
        if self.copied(name):
            package = self.values["package"]
            if package.encode() in edited:
                raise Refused(f"{name}: holds the name {package}, and is copied as it is: import relatively")
            return edited
        try:
            after = edited.decode("utf-8").splitlines(keepends=True)
        except UnicodeDecodeError:
            return edited  # cookiecutter copies binary files
        if baked is None or source is None:
            return "".join(self.line(text, f"{name}:{n}") for n, text in enumerate(after, 1)).encode()
        return "".join(self.merged(name, after, text(baked), text(source))).encode()

    def merged(self, name: str, after: list[str], before: list[str], source: list[str]) -> list[str]:
        """Makes the change from `before` to `after` in the template's lines."""
        # Where each line of the bake comes from, and which of them are the template's own words.
        at: dict[int, int] = {-1: -1, len(before): len(source)}
        own: set[int] = set()
        aligned = difflib.SequenceMatcher(None, before, [self.plain(line) for line in source], autojunk=False)
        for kind, i1, i2, j1, j2 in aligned.get_opcodes():
            if i2 - i1 == j2 - j1:
                at.update(zip(range(i1, i2), range(j1, j2), strict=True))
                own.update(range(i1, i2) if kind == "equal" else ())
        result = list(source)
        hunks = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
        for kind, i1, i2, j1, j2 in reversed(hunks):
            if kind == "equal":
                continue
            shown = (after[j1:j2] or before[i1:i2])[0].strip()[:60]
            where = f"{name}: @@ -{i1 + 1},{i2 - i1} +{j1 + 1},{j2 - j1} @@ {shown}"
            if i1 == i2:  # between two lines, which must be neighbours in the template too
                start = end = at.get(i2, -2)
                passed = source[at.get(i1 - 1, len(source)) + 1 : max(end, 0)] if i1 - 1 in at else ["?"]
                fits = end >= 0 and all(SET.match(line) for line in passed)
            else:
                start, end = at.get(i1, -2), at.get(i2 - 1, -2) + 1
                fits = all(i in own for i in range(i1, i2)) and end - start == i2 - i1
            if not fits:
                raise Refused(f"{where}: Jinja makes these lines; edit {self.path(name).relative_to(ROOT)}")
            result[start:end] = [self.line(line, where) for line in after[j1:j2]]
        return result


def text(data: bytes) -> list[str]:
    """Splits text into lines."""
    return data.decode("utf-8").splitlines(keepends=True)


def rendered(task: str) -> tuple[Path, tempfile.TemporaryDirectory[str]]:
    """Renders the template as it is now; the folder lives as long as what comes with it."""
    keep = tempfile.TemporaryDirectory()
    subprocess.run(
        ["cookiecutter", str(ROOT), "--no-input", "--output-dir", keep.name, f"task={task}"],
        check=True, capture_output=True, env={name: value for name, value in os.environ.items() if name[:4] != "GIT_"},
    )  # fmt: skip
    (project,) = Path(keep.name).iterdir()
    return project, keep


def files(folder: Path, tree: str) -> dict[str, str]:
    """Gives mode and hash of every file that is the template's."""
    listed = git(folder, "ls-tree", "-r", "-z", tree).split("\0")[:-1]
    found = {name: entry for entry, name in (line.split("\t", 1) for line in listed)}
    return {name: entry for name, entry in found.items() if name not in WRITTEN}


def unbake(bake: Path, task: str) -> list[str]:
    """Changes the template as the bake was changed.

    Args:
        bake: The project that `make bake` made.
        task: The answer that it was made with.

    Returns:
        What was changed: paths of the template, each behind a letter as git has them.

    Raises:
        Refused: If a change has no place in the template, which is then as it was.
    """
    tree = snapshot(bake)
    changed = changes(bake, tree)
    if not changed:
        return []
    template = Template(task)
    done: list[str] = []
    refused: list[str] = []
    new: dict[Path, tuple[bytes, int] | None] = {}
    agreed = base(bake)
    now, keep = rendered(task)
    with keep:
        for change in changed:
            old = template.path(change.old) if change.old else None
            try:
                baked = content(bake, agreed, change.old) if change.old else None
                if change.old and (not (now / change.old).is_file() or (now / change.old).read_bytes() != baked):
                    raise Refused(f"{change.old}: the template's file is another since `make bake TASK={task}`")
                if old and change.old != change.new:
                    new[old] = None
                if change.new:
                    edited = content(bake, tree, change.new)
                    source = old.read_bytes() if old else None
                    mode = 0o755 if os.access(bake / change.new, os.X_OK) else 0o644
                    new[template.path(change.new)] = (template.source(change.new, edited, baked, source), mode)
            except Refused as problem:
                refused.append(str(problem))
    if refused:
        raise Refused("\n".join(refused))
    before = {path: (path.read_bytes(), path.stat().st_mode) if path.exists() else None for path in new}
    write(new)
    now, keep = rendered(task)
    with keep:
        left = files(bake, tree).items() ^ files(now, snapshot(now)).items()
    if left:
        write(before)
        names = ", ".join(sorted({name for name, _ in left}))
        raise Refused(f"{names}: the template would not give what the bake holds; edit it by hand")
    git(bake, "update-ref", BASE, git(bake, "commit-tree", tree, "-m", "Brought back").strip())
    for path, entry in new.items():
        letter = "D" if entry is None else "M" if before[path] else "A"
        done.append(f"{letter} {path.relative_to(ROOT)}")
    return done


def write(entries: dict[Path, tuple[bytes, int] | None]) -> None:
    """Writes files, and removes those that are None."""
    for path, entry in entries.items():
        if entry is None:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(entry[0])
            path.chmod(entry[1])


def main() -> None:
    """Brings back what was changed in a bake: `python docs/unbake.py FOLDER TASK`."""
    bake, task = Path(sys.argv[1]), sys.argv[2]
    if not (bake / ".git").is_dir():
        sys.exit(f"error: {bake} is no bake with a repository: `make bake` makes one")
    try:
        done = unbake(bake, task)
    except Refused as refused:
        sys.exit("".join(f"error: {line}\n" for line in str(refused).splitlines()) + "The template was not changed.")
    print("\n".join(done) or "Nothing has changed in the bake.")
    if any(line.startswith(("A", "D")) for line in done):
        print("Files came or went: tests/test_bake.py lists them; hooks/post_gen_project.py, those of some answers.")


if __name__ == "__main__":
    main()
