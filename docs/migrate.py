# /// script
# requires-python = ">=3.11"
# dependencies = ["cruft>=2.16"]
# ///
"""Carries an owner's edits of the files that version 0.2.0 moved to their new places.

Run it in the project, after `cruft update` and before a commit: `uv run PATH/TO/TEMPLATE/docs/migrate.py`, or with a
Python that has cruft. It renders the template as before and after the update, and merges every function, class and
constant that the owner has changed into the one that stands for it now. It commits nothing; a second run changes
nothing more.
"""

import ast
import builtins
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from difflib import SequenceMatcher
from functools import cache
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

Files = dict[str, str]  # path -> text
Import = ast.Import | ast.ImportFrom
MARK = re.compile(r"^(<<<<<<<|>>>>>>>) ", re.M)
LEFT_BY_CRUFT = re.compile(r"^<<<<<<< ours$", re.M)
# Two definitions are the same one from this share of equal words; an equal name and an equal file name add to it.
ENOUGH, SAME_NAME, SAME_FILE = 0.65, 0.35, 0.1
# What that does not find: old module and name -> new ones.
EXCEPTIONS = {
    ("data.prepared", "Questions"): ("harness.batch.items", "BatchInput"),
    ("service", "Service"): ("service", "Service"),
    ("sweep.launchers", "joblib"): ("harness.sweep.launchers.joblib", "launch"),
    ("sweep.launchers", "ray"): ("harness.sweep.launchers.ray", "launch"),
    ("training", "kept"): ("harness.targets.monitor", "best_epoch"),
}
# `python -m <package>.OLD` -> `python -m <package> NEW`
COMMANDS = {name: name for name in ("bento", "ci", "image", "lineage", "predict", "registry", "retrain", "savedmodel")}
COMMANDS |= {"sweep": "sweep", "tracking": "log", "data.schema": "schema", "service": "serve"}


class Refused(Exception):
    """A reason not to begin."""


class Place(NamedTuple):
    """A definition, or a module: what `from module import name` imports, the module without the package's name."""

    module: str
    name: str

    def __str__(self) -> str:
        return ".".join(filter(None, self))


class Definition(NamedTuple):
    """A function, class or constant: its lines, from 0, and their text."""

    start: int
    end: int
    text: str


def git(*arguments: str, check: bool = True) -> bytes:
    """The output of a git command."""
    done = subprocess.run(["git", *arguments], capture_output=True)
    if done.returncode and (check or done.returncode > 127):
        reason = done.stderr.decode(errors="replace").strip().splitlines() or ["it failed"]
        raise Refused(f"git {' '.join(arguments)}: {reason[-1]}")
    return done.stdout


def text_files(files: Iterator[tuple[str, bytes]]) -> Files:
    """The files that hold text."""
    return {name: data.decode("utf-8", errors="replace") for name, data in files if b"\0" not in data}


def committed() -> Files:
    """The text files of the last commit."""
    with tarfile.open(fileobj=io.BytesIO(git("archive", "HEAD"))) as archive:
        members = [member for member in archive if member.isfile()]
        return text_files((m.name, file.read()) for m in members if (file := archive.extractfile(m)))


def rendered(state: dict[str, Any]) -> Files:
    """The text files of the template at the commit, and with the answers, that a .cruft.json records."""
    from cruft._commands.utils.cookiecutter import get_cookiecutter_repo
    from cruft._commands.utils.generate import cookiecutter_template

    os.environ["PWD"] = str(Path.cwd())  # tells the template's hook that this is an update
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder, "project")
        try:
            with get_cookiecutter_repo(state["template"], Path(folder, "template")) as repository:
                cookiecutter_template(project, repository, state, checkout=state["commit"])
        except Exception as error:  # of git, Jinja, a hook, ...
            reason = " ".join(str(error).split())[:200]
            raise Refused(f"{state['template']} at {state['commit'][:12]} cannot be rendered: {reason}") from error
        paths = [path for path in project.rglob("*") if path.is_file() and not path.is_symlink()]
        return text_files((path.relative_to(project).as_posix(), path.read_bytes()) for path in paths)


@cache
def parse(text: str) -> ast.Module:
    """The syntax tree of a module; an empty one if it has conflicts."""
    try:
        return ast.parse(text)
    except SyntaxError:
        return ast.Module([], [])


@cache
def definitions(text: str, members: bool = False) -> dict[str, Definition]:
    """The functions, classes and constants of a module, or of its class, with decorators and comments above them."""
    lines, result = text.splitlines(keepends=True), {}
    classes = [node for node in parse(text).body if isinstance(node, ast.ClassDef)]
    for node in classes[0].body if members and classes else parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
        else:
            continue
        start = min(part.lineno for part in (node, *getattr(node, "decorator_list", ()))) - 1
        while start and lines[start - 1].lstrip().startswith("#"):
            start -= 1
        end = node.end_lineno or start
        result.update(dict.fromkeys(names, Definition(start, end, "".join(lines[start:end]))))
    return result


def imports(text: str, everywhere: bool = True) -> Iterator[tuple[Import, ast.alias, str]]:
    """Every import of a module, or those outside of functions: statement, part of it, the name that it binds."""
    top = [part for node in parse(text).body for part in (node.body if isinstance(node, ast.If) else [node])]
    for node in ast.walk(parse(text)) if everywhere else top:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((node, alias, alias.asname or alias.name.split(".")[0]) for alias in node.names)


def single(node: Import, alias: ast.alias) -> str:
    """The statement that imports one part of an import."""
    one = ast.ImportFrom(node.module, [alias], node.level) if isinstance(node, ast.ImportFrom) else ast.Import([alias])
    return ast.unparse(one)


class Places:
    """Where definitions of the template before the update are after it."""

    def __init__(self, old: Files, new: Files, package: str) -> None:
        self.old, self.new, self.package, self.root = old, new, package, f"src/{package}/"
        self.before = {self.module(path): path for path in old if self.is_code(path)}
        self.after = {self.module(path): path for path in new if self.is_code(path)}
        self.home = cache(self._home)

    def is_code(self, path: str) -> bool:
        """Whether a path is a module of the package, tests apart."""
        return path.startswith(self.root) and path.endswith(".py") and not path.startswith(f"{self.root}tests/")

    def module(self, path: str) -> str:
        """The module of a path."""
        return re.sub(r"(/|^)__init__$", "", path.removeprefix(self.root).removesuffix(".py")).replace("/", ".")

    def _home(self, module: str, name: str) -> Place | None:
        """The definition that stands for one of the template before: that with the most equal words."""
        if (module, name) in EXCEPTIONS and EXCEPTIONS[module, name][0] in self.after:
            return Place(*EXCEPTIONS[module, name])
        path = self.before.get(module, "")
        definition = definitions(self.old.get(path, "")).get(name)
        if definition is None:  # it may be imported there
            sources = [self.source(path, n) for n, a, bound in imports(self.old.get(path, "")) if bound == name]
            return self.home(sources[0], name) if sources and sources[0] not in (None, module) else None
        words, best = re.findall(r"\w+", definition.text), (ENOUGH, 0, Place("", ""))
        for other, file in self.after.items():
            same_file = SAME_FILE * (file.rpartition("/")[2] == path.rpartition("/")[2])
            for known, candidate in definitions(self.new[file]).items():
                bonus = same_file + SAME_NAME * (known.lstrip("_") == name.lstrip("_"))
                match = SequenceMatcher(None, words, re.findall(r"\w+", candidate.text), autojunk=False)
                if bonus + match.real_quick_ratio() >= best[0] and bonus + match.quick_ratio() >= best[0]:
                    best = max(best, (bonus + match.ratio(), -len(other), Place(other, known)))
        return best[2] if best[2].name else None

    def source(self, path: str, node: Import) -> str | None:
        """The module of the package from which a file imports, None for another package's."""
        if isinstance(node, ast.Import) or not (node.level or f"{node.module}.".startswith(f"{self.package}.")):
            return None
        if not node.level:
            return (node.module or "").removeprefix(self.package).strip(".")
        folders = PurePosixPath(path.removeprefix(self.root)).parts[: -node.level]
        return ".".join([*folders, *filter(None, [node.module])])

    def now(self, module: str, name: str) -> Place | None:
        """Where to import a definition or a module from now; None if nothing stands for it."""
        whole = f"{module}.{name}".strip(".")
        if whole in self.after or name in definitions(self.new.get(self.after.get(module, ""), "")):
            return Place(module, name)
        if whole not in self.before:
            return self.home(module, name)
        homes = [self.home(whole, part) for part in definitions(self.old[self.before[whole]])]
        # A module goes where most of its definitions went, or among these to the one that ends like it.
        votes = Counter(home.module for home in homes if home).most_common()
        votes.sort(key=lambda vote: (not vote[0].endswith(whole), not vote[0].endswith(name)))
        return Place(*votes[0][0].rpartition(".")[::2]) if votes else None

    def imported(self, place: Place, there: str, name: str) -> str:
        """The statement that imports a definition into a file, under a name."""
        if there.startswith(self.root):
            here, module = PurePosixPath(there.removeprefix(self.root)).parts[:-1], place.module.split(".")
            common = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(here, module, strict=False))))
            source = "." * (len(here) - common + 1) + ".".join(module[common:])
        else:
            source = f"{self.package}.{place.module}".strip(".")
        return f"from {source} import {place.name}" + (f" as {name}" if name != place.name else "")


class Update(NamedTuple):
    """An update under way: the project at its last commit, the template before and after, what has been done."""

    places: Places
    ours: Files
    report: list[tuple[str, str, str]]
    conflicts: list[tuple[str, str, str]]  # path, definition, and the same with conflict markers

    def tell(self, result: str, what: str, where: str) -> None:
        """Adds a line to the report."""
        if (result, what, where) not in self.report:
            self.report.append((result, what, where))


def merge(ours: str, base: str, theirs: str) -> str:
    """The three-way merge of texts; lines that both have changed stay between conflict markers."""
    names = {"yours": ours, "the template before": base, "the template now": theirs}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, str(number)) for number in range(3)]
        for path, text in zip(paths, names.values(), strict=True):
            path.write_text(text, encoding="utf-8", newline="")
        labels = [part for name in names for part in ("-L", name)]
        merged = git("merge-file", "-p", *labels, *map(str, paths), check=False).decode("utf-8")
    return (transplanted(ours, base, theirs) or merged) if MARK.search(merged) else merged


def merge_file(path: str, ours: str, base: str, theirs: str) -> str:
    """The three-way merge of files; in YAML, a value and the comment behind it are two things."""
    if path.endswith(".yaml"):
        apart = [re.sub(r"(?m)(?<=\S) #", "\n\x1f#", text) for text in (ours, base, theirs)]
        if not MARK.search(merged := merge(*apart)):
            return merged.replace("\n\x1f#", " #")
    return merge(ours, base, theirs)


def with_members(ours: str, base: str, theirs: str) -> str | None:
    """A class as it is now, with the methods that the owner has added; None if the owner has changed others."""
    mine, old = definitions(ours, members=True), definitions(base, members=True)
    if not theirs.startswith("class ") and "\nclass " not in theirs:
        return None
    if any(name in old and old[name].text != member.text for name, member in mine.items()) or old.keys() - mine.keys():
        return None
    return "\n".join([theirs, *(member.text for name, member in mine.items() if name not in old)])


def transplanted(ours: str, base: str, theirs: str) -> str | None:
    """The owner's changes put where their lines stand now; None if a line is gone or stands there twice.

    A merge takes two changes for a conflict if no line lies between them.
    """
    before, after, result = (text.splitlines(keepends=True) for text in (base, ours, theirs))
    for kind, i, j, k, n in reversed(SequenceMatcher(None, before, after, autojunk=False).get_opcodes()):
        if kind == "equal":
            continue
        old, new = before[i:j], after[k:n]
        if kind == "insert":
            above, below = before[max(i - 1, 0) : i], before[i : i + 1]
            old, new = (above, above + new) if at(above, result) is not None else (below, new + below)
        place = at(old, result)
        if place is None or at(old, before) is None:
            return None
        result[place : place + len(old)] = new
    return "".join(result)


def at(part: list[str], lines: list[str]) -> int | None:
    """Where lines stand in others, if they do once."""
    places = [start for start in range(len(lines)) if part and lines[start : start + len(part)] == part]
    return places[0] if len(places) == 1 else None


def read(path: str) -> str:
    """The text of a file in the work tree; nothing if there is none."""
    file = Path(path)
    return file.read_bytes().decode("utf-8", errors="replace") if file.is_file() and not file.is_symlink() else ""


def write(path: str, text: str) -> None:
    """Writes a file of the work tree, if it holds something else."""
    if text != read(path):
        Path(path).write_text(text, encoding="utf-8", newline="")


def carry(update: Update, path: str) -> None:
    """Carries the owner's changes of a file over, and removes it if it has moved and nothing is left in it."""
    places, ours, base = update.places, update.ours[path], update.places.old[path]
    whole = merge_file(path, ours, base, places.new[path]) if path in places.new else ""
    if path.endswith(".lock"):  # never mixed
        write(path, ours)
        update.tell("look at", path, "locks have other groups now: `make lock` writes them")
    elif whole and not (MARK.search(whole) and places.is_code(path)):
        write(path, whole)
        update.tell("CONFLICT" if MARK.search(whole) else "merged", path, path)
    elif not places.is_code(path):
        update.tell("look at", path, "the template has none any more: yours stays")
        return
    elif not carry_definitions(update, path):
        return
    for left in (f"{path}.rej", f"{path}.orig", *([] if path in places.new else [path])):
        Path(left).unlink(missing_ok=True)
    git("reset", "--quiet", "--", path)  # it may be unmerged
    folder = Path(path).parent
    if all(file.name == "__pycache__" for file in folder.iterdir()):
        shutil.rmtree(folder)


def carry_definitions(update: Update, path: str) -> bool:
    """Carries every changed definition of a module over; False if something is left that only its old file has."""
    places, base, ours = update.places, update.places.old[path], update.ours[path]
    if path in places.new:
        write(path, places.new[path])
    carried = [carry_definition(update, path, name) for name in definitions(ours)]
    for name in definitions(base).keys() - definitions(ours).keys():
        update.tell("look at", f"{path}: {name}", f"you had removed it; now {places.home(places.module(path), name)}")
    if loose(ours) - loose(base):
        carried.append(False)
        update.tell("look at", path, "your statements outside of functions, classes and constants: carry them over")
    return path in places.new or all(carried)


def loose(text: str) -> set[str]:
    """The statements of a module that are no definitions, no imports and no docstrings."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.Import, ast.ImportFrom)
    nodes = (node for node in parse(text).body if not isinstance(node, kinds))
    return {text for node in nodes if not (text := ast.unparse(node)).startswith(("'", '"', "if TYPE_CHECKING"))}


def carry_definition(update: Update, path: str, name: str) -> bool:
    """Merges a definition into the one that stands for it now; False if there is none."""
    places, ours = update.places, definitions(update.ours[path])[name].text
    base = definitions(places.old[path]).get(name)
    if base and base.text == ours:
        return True
    place = places.home(places.module(path), name) if base else None
    there = places.after[place.module] if place else path
    now = definitions(read(there)).get(place.name) if place else None
    if place and base and now:
        old, mine = (re.sub(rf"\b{name}\b", place.name, text) for text in (base.text, ours))
        text, lines = merge(mine, old, now.text), read(there).splitlines(keepends=True)
        text = (with_members(mine, old, now.text) or text) if MARK.search(text) else text
        if MARK.search(text):
            update.conflicts.append((there, now.text, text))
            update.tell("CONFLICT", f"{path}: {name}", f"{there}: {place.name}")
            return True
        write(there, "".join([*lines[: now.start], text, *lines[now.end :]]))
        update.tell("merged", f"{path}: {name}", f"{there}: {place.name}")
    elif not base and path in places.new:
        text = ours
        write(there, f"{read(there).rstrip()}\n\n\n{ours}")
        update.tell("added", f"{path}: {name}", there)
    else:
        yours = f"`git show HEAD:{path}` has yours" if path in places.new else "carry it over, and remove the old file"
        update.tell("look at", f"{path}: {name}", f"nothing stands for it now: {yours}")
        return False
    bind(update, path, there, text)
    return True


def bind(update: Update, path: str, there: str, text: str) -> None:
    """Imports what a carried definition uses, and the file that it came from knew."""
    module, places, tree = read(there), update.places, parse(text)
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    local = {name for *_, name in imports(text)} | {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    local |= {node.id for node in names if not isinstance(node.ctx, ast.Load)}
    local |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    known = {*definitions(module), *dir(builtins), *(name for *_, name in imports(module, everywhere=False))}
    origins = {name: (node, alias) for node, alias, name in imports(update.ours[path], everywhere=False)}
    lines = []
    for name in sorted({node.id for node in names} - known - local):
        if name in origins:
            lines.append(reimported(update, path, *origins[name], there=there))
        elif place := places.home(places.module(path), name):
            lines.append(places.imported(place, there, name))
    if lines:
        parts = module.splitlines(keepends=True)
        end = max((node.end_lineno or 0 for node in parse(module).body if isinstance(node, Import)), default=0)
        write(there, "".join([*parts[:end], *(f"{line}\n" for line in lines), *parts[end:]]))


def reimported(update: Update, path: str, node: Import, alias: ast.alias, there: str) -> str:
    """The import of a file as it has to read now, in that file or another."""
    places, module = update.places, update.places.source(path, node)
    if module is None:
        return single(node, alias)
    place = places.now(module, alias.name)
    if place is None:
        update.tell("look at", f"{path}:{node.lineno}", f"nothing stands for {Place(module, alias.name)} now")
        return single(node, alias)
    return places.imported(place, there, alias.asname or alias.name)


def joined(statements: list[str]) -> list[str]:
    """The same imports, with one statement for each module."""
    names: dict[str, list[str]] = {}
    for statement in statements:
        module, _, name = statement.rpartition("import ")
        names.setdefault(module, []).append(name)
    return [f"{module}import {', '.join(parts)}" for module, parts in names.items()]


def rewrite_imports(update: Update, path: str) -> None:
    """Lets a file of the owner's import from where things are now."""
    text, places = read(path), update.places
    lines = text.splitlines(keepends=True)
    for node in sorted({node for node, *_ in imports(text)}, key=lambda node: -node.lineno):
        old = [single(node, alias) for alias in node.names]
        new = [reimported(update, path, node, alias, there=path) for alias in node.names]
        if new != old:
            indent, line = lines[node.lineno - 1][: node.col_offset], lines[(node.end_lineno or node.lineno) - 1]
            comment = "".join(re.findall(r"  #.*", line)[-1:])
            statements = joined(new)
            lines[node.lineno - 1 : node.end_lineno] = [f"{indent}{text}{comment}\n" for text in statements]
            update.tell("imports", f"{path}:{node.lineno}", "; ".join(statements))
    write(path, "".join(lines))
    for node, alias, name in imports(text):
        module = places.source(path, node)
        whole = Place(module or "", alias.name)
        moved = places.now(*whole) if module is not None and str(whole) in places.before else None
        for use in ast.walk(parse(text)) if moved else ():
            if isinstance(use, ast.Attribute) and isinstance(use.value, ast.Name) and use.value.id == name:
                home = places.home(str(whole), use.attr)
                if home != Place(str(moved), use.attr):
                    update.tell("look at", f"{path}:{use.lineno}", f"{name}.{use.attr} is now {home or 'gone'}")


def rewrite_names(update: Update, path: str) -> None:
    """Rewrites names of moved definitions in conf/; reports them, commands and paths in other files of the owner's."""
    places, lines = update.places, read(path).splitlines(keepends=True)
    for number, line in enumerate(lines):
        for file in re.findall(rf"\b{places.root}[\w/]+\.py", line):
            if file in places.old.keys() - places.new and (place := places.now("", places.module(file))):
                update.tell("look at", f"{path}:{number + 1}", f"{file} is now {places.after.get(str(place), place)}")
        for match in re.finditer(rf"(python -m )?\b{places.package}\.(\w+(?:\.\w+)*)", line):
            command, whole = match.groups()
            module, _, name = whole.rpartition(".")
            if command and whole in COMMANDS:
                update.tell("look at", f"{path}:{number + 1}", f"python -m {places.package} {COMMANDS[whole]}")
            elif not command and {module, whole} & places.before.keys() and (place := places.now(module, name)):
                if str(place) != whole and path.startswith("conf/"):
                    lines[number] = lines[number].replace(f"{places.package}.{whole}", f"{places.package}.{place}")
                    update.tell("names", f"{path}:{number + 1}", f"{places.package}.{place}")
                elif str(place) != whole:
                    update.tell("look at", f"{path}:{number + 1}", f"{whole} is now {place}")
    if path.startswith("conf/"):
        write(path, "".join(lines))


def begin() -> Update:
    """Renders the template as before and after the update that is under way.

    Raises:
        Refused: If none is, or it cannot be told from other changes.
    """
    if not Path(".cruft.json").is_file() or not Path(".git").exists():
        raise Refused("this folder is not the root of a project that cruft made: there is no .cruft.json, or no git")
    if not git("ls-tree", "HEAD", "--", ".cruft.json"):
        raise Refused("the last commit has no .cruft.json: commit, then `cruft update`")
    before, after = (json.loads(text) for text in (git("show", "HEAD:.cruft.json"), read(".cruft.json")))
    if before["commit"] == after["commit"]:
        raise Refused("no update is under way: run this after `cruft update` and before its commit")
    for other in ("MERGE_HEAD", "REBASE_HEAD", "CHERRY_PICK_HEAD"):
        if git("rev-parse", "--quiet", "--verify", other, check=False):
            raise Refused(f"git is in the middle of something else ({other}): finish that first")
    package = before["context"]["cookiecutter"]["package"]
    places = Places(rendered(before), rendered(after), package)
    if not (places.after.keys() - places.before.keys()) & {"harness"}:
        raise Refused("this update moves nothing: it is not one from a version before 0.2.0 to a later one")
    return Update(places, committed(), [], [])


def migrate(update: Update) -> None:
    """Carries over what the owner has changed, and mends what the owner's own files import."""
    places = update.places
    edited = [path for path, text in update.ours.items() if path in places.old and places.old[path] != text]
    for path in sorted(edited, key=lambda path: path not in places.new):  # first those that are written anew
        unsolved = Path(f"{path}.rej").exists() or LEFT_BY_CRUFT.search(read(path))
        if Path(path).exists() and (unsolved or path not in places.new):
            carry(update, path)
    gone = places.old.keys() - places.new
    for path in git("ls-files", "-z", "--cached", "--others", "--exclude-standard").decode().split("\0"):
        theirs = path.startswith(f"{places.root}harness/") or read(path) in ("", places.new.get(path))
        if not theirs and path not in gone:
            mend(update, path)
    for path, text, marked in update.conflicts:
        write(path, read(path).replace(text, marked, 1))


def mend(update: Update, path: str) -> None:
    """Lets a file of the owner's, or one with the owner's edits, speak of things where they are now."""
    places = update.places
    if path.endswith(".lock"):
        if path not in update.ours and path in places.new:  # git takes it for another lock, renamed
            write(path, places.new[path])
            update.tell("look at", path, "is the template's: `make lock` writes yours")
        return
    if path.endswith(".py"):
        if path in places.old:
            bind(update, path, path, read(path))
        rewrite_imports(update, path)
    if path.startswith("tests/"):
        update.tell("look at", path, f"tests lie in {places.root}tests/ now, and import relatively: move it there")
    if path.endswith((".rej", ".orig")):
        update.tell("look at", path, "cruft found no place for this")
    elif path not in (".cruft.json", "params.yaml", "dvc.lock"):
        rewrite_names(update, path)


def main() -> None:
    """Migrates the project in this folder, and says what is left to do."""
    try:
        update = begin()
    except ImportError:
        sys.exit(f"error: cruft is not installed here: uv run {sys.argv[0]}")
    except Refused as refused:
        sys.exit(f"error: {refused}")
    migrate(update)
    order = ["merged", "added", "imports", "names", "look at", "CONFLICT"]
    rows = sorted(update.report, key=lambda row: order.index(row[0]))
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    for result, what, where in rows:
        print(f"{result:{widths[0]}}  {what:{widths[1]}}  {where}")
    print("\nNext: edit what is marked CONFLICT or `look at`, if any. Nothing is committed; `git diff HEAD` shows all.")
    print("  make setup\n  dvc repro\n  make lint test")
    sys.exit(any(row[0] == "CONFLICT" for row in rows))


if __name__ == "__main__":
    main()
