"""`make site`, first half: the pages of docs/, and those made from the code, in one folder for Zensical."""

import ast
import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from cookiecutter.generate import generate_context
from cookiecutter.prompt import prompt_for_config

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
QUESTIONS = ROOT / "cookiecutter.json"
PACKAGE = "my_experiment"
TEMPLATE = "{{cookiecutter.project}}"
SOURCE = f"{TEMPLATE}/src/{{{{cookiecutter.package}}}}"
# What lies outside docs/ and is a page of the site, or has one that is made from it. Links name the former, so that
# they lead somewhere in the repository too.
PLACES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "how-to/contributing.md",
    "README.md": "index.md",
    "cookiecutter.json": "reference/questions.md",
    "docs/decisions": "decisions/index.md",
    f"{TEMPLATE}/README.md": "project/index.md",
    f"{TEMPLATE}/conf": "reference/configuration.md",
    f"{TEMPLATE}/dvc.yaml": "reference/stages.md",
    f"{SOURCE}/__main__.py": "reference/commands.md",
    f"{SOURCE}/harness": "reference/rooms.md",
}


def run(*command: str | Path, cwd: Path) -> str:
    """Output of a command; a failure ends the script with what it printed."""
    env = {**os.environ, "PYTHONPATH": "src", "COLUMNS": "100"}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode:
        line = " ".join(map(str, command))[:200]
        raise SystemExit(f"error: `{line}` ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def bake(into: Path, **answers: str) -> Path:
    """A project with everything that a project of these answers can hold."""
    given = [f"{question}={answer}" for question, answer in answers.items()]
    run("cookiecutter", ROOT, "--no-input", "--output-dir", into, *given, "scope=production", cwd=ROOT)
    return into / "my-experiment"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; each cell becomes one line, without bars."""
    lines = [[" ".join(cell.split()).replace("|", "/") for cell in row] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in [head, ["---"] * len(head), *lines])


def code(language: str, text: str) -> str:
    """A block of code in Markdown."""
    return f"```{language}\n{text.strip()}\n```\n"


def questions() -> str:
    """The page of cookiecutter.json: every question, its default and its choices."""
    content = json.loads(QUESTIONS.read_text(encoding="utf-8"))
    defaults = prompt_for_config(generate_context(str(QUESTIONS)), no_input=True)
    rows, choices = [], []
    for name in [name for name in content if not name.startswith("_")]:
        prompt = content["__prompts__"][name]
        wording = prompt if isinstance(prompt, str) else prompt["__prompt__"]
        rows.append([f"`{name}`", wording, f"`{defaults[name]}`"])
        if isinstance(prompt, dict):
            answers = [[f"`{choice}`", prompt[choice]] for choice in content[name]]
            choices.append(f"## {name}\n\n{wording}\n\n{table(['answer', 'meaning'], answers)}")
    lead = "What `cookiecutter` asks, in this order. An answer that would make a broken project is refused.\n"
    return "\n".join(["# Questions\n", lead, table(["question", "wording", "default"], rows), *choices])


def helps(project: Path, *names: str) -> Iterator[tuple[str, str]]:
    """The help of a command and of those below it: (command line, text)."""
    text = run(sys.executable, "-m", PACKAGE, *names, "--help", cwd=project)
    yield " ".join([f"python -m {PACKAGE}", *names]), text
    below = text.partition("\nCommands:\n")[2].partition("\n\n")[0]
    for name in re.findall(r"^  ([a-z][a-z-]*)", below, re.M):
        yield from helps(project, *names, name)


def commands(project: Path) -> str:
    """The page of `python -m <package> --help`, of every command below it, and of `make help`."""
    lead = f"The commands of a project, whose package is `{PACKAGE}` here. `make` targets are short names for them.\n"
    texts = [*helps(project), ("make help", run("make", "help", cwd=project))]
    return "\n".join(["# Commands\n", lead, *(f"## {title}\n\n{code('text', text)}" for title, text in texts)])


def arguments(doc: str) -> dict[str, str]:
    """Meaning of each parameter, from a docstring of Google's style."""
    part = re.search(r"^(?:Args|Attributes):\n((?:    .*\n?|\n)+)", f"{doc}\n", re.M)
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", part[1] if part else "", re.M)
    return {name: " ".join(text.split()) for name, text in entries}


def targets(node: Any) -> Iterator[str]:
    """Every `_target_` in a file of conf/."""
    if isinstance(node, Mapping):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        for value in node.values():
            yield from targets(value)


def configuration(projects: Mapping[str, Path]) -> str:
    """The page of conf/: each file as it stands there, and the parameters of the function that it names."""
    files: dict[str, dict[str, str]] = {}
    signatures: dict[str, Any] = {}
    for task, project in projects.items():
        names = set[str]()
        for path in (project / "conf").rglob("*.yaml"):
            text = path.read_text(encoding="utf-8")
            files.setdefault(path.relative_to(project).as_posix(), {})[task] = text
            names.update(targets(yaml.safe_load(text)))
        signatures |= json.loads(run(sys.executable, DOCS / "signatures.py", json.dumps(sorted(names)), cwd=project))
    parts = [
        "# Configuration\n",
        "Every file of `conf/`. `???` is a value that must be given; `null` is none. A file names a function in\n"
        "`_target_`, whose parameters are the keys.\n",
    ]
    folders = {Path(name).parent.as_posix() for name in files}
    for folder in sorted(folders, key=lambda name: (name.count("/"), name)):
        parts.append(f"## {folder}/\n")
        inside = sorted(name for name in files if Path(name).parent.as_posix() == folder)
        parts += [configuration_file(name, files[name], len(projects), signatures) for name in inside]
    return "\n".join(parts)


def configuration_file(name: str, texts: Mapping[str, str], tasks: int, signatures: Mapping[str, Any]) -> str:
    """The section of one file of conf/.

    Args:
        name: Path of the file in a project.
        texts: Task -> content; if they differ, each has a tab of its own.
        tasks: Number of all tasks.
        signatures: Name of a function -> what docs/signatures.py says of it.
    """
    parts = [f"### {name.removeprefix('conf/')}\n"]
    if len(set(texts.values())) == 1:
        parts += [f"Only in {' and '.join(texts)}.\n"] if len(texts) < tasks else []
        parts.append(code("yaml", next(iter(texts.values()))))
    else:
        for task, text in texts.items():
            indented = "".join(f"    {line}\n" for line in code("yaml", text).splitlines())
            parts.append(f'=== "{task}"\n\n{indented}')
    for target in sorted({target for text in texts.values() for target in targets(yaml.safe_load(text))}):
        signature = signatures[target]
        meaning = arguments(signature["doc"])
        rows = [[f"`{key}`", kind, meaning.get(key, "")] for key, kind in signature["types"].items()]
        parts.append(f"`{target}`: {signature['doc'].splitlines()[0]}\n")
        parts += [table(["parameter", "type", "meaning"], rows)] if rows else []
    return "\n".join(parts)


def stages(projects: Mapping[str, Path]) -> str:
    """The page of dvc.yaml: what each stage reads and writes."""
    items: dict[str, dict[str, dict[str, list[str]]]] = {}  # stage -> kind -> name -> tasks
    for task, project in projects.items():
        for stage, entry in yaml.safe_load((project / "dvc.yaml").read_text(encoding="utf-8"))["stages"].items():
            source = f"src/{PACKAGE}/"
            kinds = {
                "code": [path.removeprefix(source) for path in entry["deps"] if path.startswith(source)],
                "data": [path for path in entry["deps"] if not path.startswith(source)],
                "parameters": entry.get("params", []),
                "writes": [*entry.get("outs", []), *entry.get("metrics", [])],
            }
            for kind, names in kinds.items():
                for name in [name if isinstance(name, str) else next(iter(name)) for name in names]:
                    items.setdefault(stage, {}).setdefault(kind, {}).setdefault(name, []).append(task)
    parts = [
        "# Stages\n",
        "The stages of `dvc.yaml`. A stage runs again if something that it reads has other content. Code is below\n"
        "`src/<package>/`.\n",
    ]
    for stage, kinds_of in items.items():
        rows = []
        for kind, tasks_of in kinds_of.items():
            notes = {
                name: "" if len(tasks) == len(projects) else f" ({', '.join(tasks)})"
                for name, tasks in tasks_of.items()
            }
            rows.append([kind, "<br>".join(f"`{name}`{note}" for name, note in notes.items())])
        parts.append(f"## {stage}\n\n{table(['kind', 'names'], rows)}")
    return "\n".join(parts)


def rooms(project: Path) -> str:
    """The page of the harness: its rooms from the top down, as import-linter checks them."""
    settings = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    containers, harness = [f"{PACKAGE}.harness"], project / "src" / PACKAGE / "harness"
    layers = next(each["layers"] for each in settings["contracts"] if each.get("containers") == containers)
    rows = []
    for name in re.findall(r"\w+", " ".join(layers)):
        path = harness / name / "__init__.py" if (harness / name).is_dir() else harness / f"{name}.py"
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        modules = {each.stem for each in (harness / name).glob("[a-z]*.py")}
        modules |= {each.parent.name for each in (harness / name).glob("*/__init__.py")}
        rows.append([f"`{name}`", doc.partition("\n")[0], ", ".join(f"`{module}`" for module in sorted(modules))])
    lead = (
        "A room of `src/<package>/harness/` imports the rooms below it and none above: `make lint` checks it. These\n"
        "are the modules of a project for regression of tables on plain hosts.\n"
    )
    return "\n".join(["# Rooms of the harness\n", lead, table(["room", "reason to exist", "modules"], rows)])


def decisions() -> str:
    """The page that lists the decisions with their summaries."""
    rows = []
    for path in sorted((DOCS / "decisions").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        title = text.splitlines()[0].lstrip("# ").split(" ", 1)[1]
        summary = re.search(r"^\*Summary: (.*?)\*$", text, re.M | re.S)
        if summary is None:
            raise SystemExit(f"error: {path}: has no line `*Summary: ...*` below its title: add one")
        rows.append([path.name[:4], f"[{title}]({path.name})", summary[1]])
    lead = "Why the template is as it is.\n"
    return "\n".join(["# Decisions\n", lead, table(["number", "decision", "summary"], rows)])


def project_pages(projects: Sequence[Path]) -> dict[str, str]:
    """The pages that projects bring along, each once, and SUMMARY.md, which lists them for the navigation."""
    pages, order = dict[str, str](), ["index.md"]
    for project in projects:
        for path in sorted((project / "docs").glob("*.md")):
            pages.setdefault(path.name, path.read_text(encoding="utf-8").replace("](../README.md)", "](index.md)"))
        order += re.findall(r"\]\(([\w-]+\.md)\)", (project / "docs/index.md").read_text(encoding="utf-8"))
    readme = (projects[0] / "README.md").read_text(encoding="utf-8")
    pages["index.md"] = readme.replace("](docs/", "](")
    titles = {name: text.splitlines()[0].lstrip("# ") for name, text in pages.items()} | {"index.md": "README"}
    summary = "".join(f"* [{titles[name]}]({name})\n" for name in dict.fromkeys(order))
    return {f"project/{name}": text for name, text in {**pages, "SUMMARY.md": summary}.items()}


def on_site(source: str) -> str:
    """The text of a file of the repository, its links as they are on the site."""
    page = PLACES.get(source, source.removeprefix("docs/"))

    def link(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        place = PLACES.get(path, path.removeprefix("docs/"))
        return f"]({posixpath.relpath(place, posixpath.dirname(page) or '.')}{match[2]})"

    return re.sub(r"\]\(([^)#:\s]+)((?:#[^)\s]*)?)\)", link, (ROOT / source).read_text(encoding="utf-8"))


def main() -> None:
    """Writes all pages below a folder, which is emptied first: `python docs/reference.py FOLDER`."""
    site = Path(sys.argv[1])
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(DOCS, site, ignore=shutil.ignore_patterns("*.py", "*.md", "__pycache__"))
    choices = json.loads(QUESTIONS.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        projects = {task: bake(Path(folder) / task, task=task, deploy="ansible") for task in choices["task"]}
        others = [bake(Path(folder) / ci, ci=ci, dvc_remote="s3") for ci in choices["ci"][1:]]
        others += [bake(Path(folder) / deploy, deploy=deploy) for deploy in choices["deploy"][2:]]
        tables = projects["tabular-regression"]  # has a command more than the others
        pages = {
            "reference/questions.md": questions(),
            "reference/commands.md": commands(tables),
            "reference/configuration.md": configuration(projects),
            "reference/stages.md": stages(projects),
            "reference/rooms.md": rooms(tables),
            "decisions/index.md": decisions(),
            **project_pages([*projects.values(), *others]),
        }
    sources = [path.relative_to(ROOT).as_posix() for path in sorted(DOCS.rglob("*.md"))]
    for source in ["CHANGELOG.md", "CONTRIBUTING.md", "README.md", *sources]:
        pages[PLACES.get(source, source.removeprefix("docs/"))] = on_site(source)
    for name, text in pages.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text, encoding="utf-8")
    print(f"{site}: {len(pages)} pages")


if __name__ == "__main__":
    main()
