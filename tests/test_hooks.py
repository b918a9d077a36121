"""The answers that are refused, and what the hooks leave behind where something is missing."""

import ast
import contextlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, TEMPLATE, VENV, BakedProject, cookiecutter, execute, template
from cookiecutter.utils import create_env_with_context
from dvc.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import running

GOOD = {
    "project_name": "My Experiment",
    "project": "my-experiment",
    "package": "my_experiment",
    "description": "Tells digits apart",
    "author_name": "Ada Lovelace",
    "author_email": "ada@example.org",
    "task": "image-classification",
    "scope": "service",
    "license": "MIT",
    "dvc_remote": "local",
    "dvc_remote_url": "../my-experiment-dvc",
    "ci": "github",
    "deploy": "none",
}


@cache
def _hook_template(name: str) -> Any:
    source = (ROOT / "hooks" / name).read_text(encoding="utf-8")
    return create_env_with_context({"cookiecutter": {}}).from_string(source)


def hook(answers: dict[str, str], name: str = "pre_gen_project.py") -> dict[str, Any]:
    """Renders a hook as cookiecutter does and loads it, without running its main part."""
    module: dict[str, Any] = {"__name__": "hook"}
    exec(compile(_hook_template(name).render(cookiecutter=answers), name, "exec"), module)
    return module


def problems(**answers: str) -> list[str]:
    """Lists what the hook says of the good answers with these in place of theirs."""
    module = hook({**GOOD, **answers})
    lines: list[str] = module["problems"](module["ANSWERS"])
    return lines


def test_the_good_answers_are_good() -> None:
    assert problems() == []


HOSTILE = [
    *[
        ("package", name)
        for name in (
            "", "a b", "my-experiment", "3d", "_private", "My", "données", "a/b", "a.b", "class", "None",
            "match", "json", "test", "sys", "tensorflow", "keras", "mlflow", "bentoml", "dvc", "hydra",
            "omegaconf", "numpy", "sklearn", "yaml", "PIL", "tests", "conf", "src", "data", "models",
            "reports", "requirements",
        )
    ],
    *[
        ("project", name)
        for name in (
            "", ".", "..", "../evil", "a/b", "/tmp/evil", "a\\b", ".git", "-rf", "a b", "naïve", "a'b",
            "x\ny", "DVC", "scikit-learn", "hydra.core",
        )
    ],
    *[("author_email", mail) for mail in ("", "ada", "@", "ada@", "@a.org", "a b@c.d", "a@b@c", "<a@b.c>")],
    ("author_name", "Lovelace, Ada"),
    *[
        (question, bad)
        for question in ("project_name", "description", "author_name")
        for bad in (
            "", " ", " a", "a ", 'a"b', '"""', "a\\b", "a\nb", "a\rb", "a\tb", "a\x00b", "a\x1bb", "a\x7fb",
            "a\x85b", "a\u2028b", "a\u202eb", "\ufeffa", "a\ud800b", "a\uffffb", "{{ 7 * 7 }}", "{% raw %}",
            "{# no #}",
        )
    ],
]  # fmt: skip


@pytest.mark.parametrize(("question", "answer"), HOSTILE, ids=lambda value: ascii(value)[1:-1])
def test_a_bad_answer_is_refused_with_one_line(question: str, answer: str) -> None:
    (line,) = problems(**{question: answer})
    assert line.startswith(f"{question}: {answer!r} ")
    assert f"a right answer: {hook(GOOD)['EXAMPLES'][question]}" in line
    assert line.isprintable()


def test_a_delivery_without_monitoring_is_refused() -> None:
    (line,) = problems(deploy="ansible", scope="service")
    assert line == "deploy: 'ansible' needs scope=production, and scope is 'service': choose that, or deploy=none"
    assert problems(deploy="ansible", scope="production") == []


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        *[(kind, "") for kind in ("local", "s3", "gcs", "azure", "ssh")],
        *[(kind, "../folder") for kind in ("s3", "gcs", "azure", "ssh")],
        *[(kind, "http://example.org/x") for kind in ("local", "s3", "gcs", "azure", "ssh")],
        ("local", "s3://bucket"),
        ("local", "."),
        ("local", "storage"),
        ("local", "../my-experiment/storage"),
        ("local", "../dépôt"),
        ("local", "../%(here)s"),
        ("s3", "s3://"),
        ("s3", "s3:///key"),
        ("s3", "s3://key:secret@bucket/x"),  # pragma: allowlist secret
        ("s3", "s3://my bucket"),
        ("s3", "gs://bucket"),
        ("gcs", "gcs://bucket"),
        ("azure", "https://account.blob.core.windows.net/container"),
        ("ssh", "ssh://host"),
        ("ssh", "host:/path"),
        ("ssh", "ssh://me:secret@host/path"),  # pragma: allowlist secret
    ],
)
def test_a_bad_remote_is_refused_with_one_line(kind: str, url: str) -> None:
    (line,) = problems(dvc_remote=kind, dvc_remote_url=url)
    assert line.startswith(f"dvc_remote_url: {url!r} ")
    assert f"a right answer: {hook(GOOD)['REMOTE_EXAMPLES'][kind]}" in line


@pytest.mark.parametrize(
    "answers",
    [
        {"project": "A.b_c-1", "package": "a1"},
        {"project_name": "L'été à Łódź 実験 🧪", "author_name": "Zoë O'Connor-Ñuñez"},
        {"description": "100 % #1: [x] & <y> {z} | `w` * @ ! – it's"},
        {"author_name": "علی\u200cرضا", "author_email": "zoë@exämple.org", "description": "👩\u200d🔬 works"},
        *[
            {"dvc_remote": "local", "dvc_remote_url": url}
            for url in ("/srv/dvc", "~/dvc", "../my store, #1", "..", "../my-experiment-2")
        ],
        {"dvc_remote": "s3", "dvc_remote_url": "s3://bucket"},
        {"dvc_remote": "gcs", "dvc_remote_url": "gs://bucket/path"},
        {"dvc_remote": "azure", "dvc_remote_url": "azure://container/path"},
        {"dvc_remote": "ssh", "dvc_remote_url": "ssh://me@host:2222/srv/dvc"},
    ],
    ids=str,
)  # fmt: skip
def test_a_good_answer_is_taken(answers: dict[str, str]) -> None:
    assert problems(**answers) == []


def test_the_examples_are_themselves_right_answers() -> None:
    module = hook(GOOD)
    assert problems(**module["EXAMPLES"]) == []
    for kind, url in module["REMOTE_EXAMPLES"].items():
        assert problems(dvc_remote=kind, dvc_remote_url=url) == []


# Far more of the characters that matter than chance would bring.
ANY = st.text(st.one_of(st.characters(codec=None), st.sampled_from("\"'\\{}%#\n\r\t\u2028\x85 :,[]&*!|>`@")))


@settings(max_examples=200, deadline=None)
@given(st.fixed_dictionaries({question: ANY for question in GOOD}))
def test_any_answer_reaches_the_hook_unharmed(answers: dict[str, str]) -> None:
    assert hook(answers)["ANSWERS"] == answers


@settings(max_examples=300, deadline=None)
@given(ANY)
def test_what_is_not_refused_can_be_written_between_double_quotes(answer: str) -> None:
    spelling = hook(GOOD)["spelling"]
    if spelling(answer):
        return
    assert tomllib.loads(f'x = "{answer}"')["x"] == answer
    assert yaml.safe_load(f'x: "{answer}"')["x"] == answer
    assert ast.literal_eval(f'"{answer}"') == answer
    assert json.loads(f'"{answer}"') == answer


def test_names_of_the_environment_are_refused() -> None:
    installed = {
        name
        for name in importlib.metadata.packages_distributions()
        if name.isidentifier() and name == name.lower() and not name.startswith("_") and not name.endswith("__mypyc")
    }
    module = hook(GOOD)
    missing = {name for name in installed if module["package"](name) is None}
    assert not missing, f"add to INSTALLED in hooks/pre_gen_project.py: {' '.join(sorted(missing))}"
    distributions = {
        re.sub(r"[-._]+", "_", distribution.metadata["Name"].lower())
        for distribution in importlib.metadata.distributions()
    }
    missing = {name for name in distributions if module["project"](name) is None}
    assert not missing, f"add to DISTRIBUTIONS in hooks/pre_gen_project.py: {' '.join(sorted(missing))}"


def test_every_problem_is_listed_and_nothing_is_left(tmp_path: Path) -> None:
    result = cookiecutter(
        tmp_path,
        check=False,
        project="../evil",
        package="tensorflow",
        author_email="nobody",
        description='a """ b',
        dvc_remote="s3",
        dvc_remote_url="../here",
    )
    assert result.returncode != 0
    lines = result.stderr.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "project",
        "package",
        "description",
        "author_email",
        "dvc_remote_url",
    ]
    assert list(tmp_path.iterdir()) == []
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.parametrize("folder", ["a/b", "../a/b", "/{tmp}/a/b", "..", "", "x\ny"])
def test_a_refused_folder_is_not_made(tmp_path: Path, folder: str) -> None:
    into = tmp_path / "into"
    into.mkdir()
    result = cookiecutter(into, check=False, project=folder.replace("{tmp}", str(tmp_path)))
    assert result.returncode != 0
    (line,) = result.stderr.splitlines()
    assert line.startswith("project: ")
    assert [path.name for path in tmp_path.rglob("*")] == ["into"]


def test_an_answer_that_is_no_choice_is_refused(tmp_path: Path) -> None:
    result = cookiecutter(tmp_path, check=False, license="GPL")
    assert result.returncode != 0
    assert "the choices are ['MIT', 'Apache-2.0'" in result.stderr.splitlines()[-1]  # as the README says
    assert list(tmp_path.iterdir()) == []


def path_without(tmp_path: Path, *names: str) -> str:
    """Makes a folder of links to all programs on PATH but these, and gives it as PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for directory in (str(Path(sys.prefix) / "bin"), *os.environ["PATH"].split(os.pathsep)):
        for program in Path(directory).glob("*"):
            if program.name not in names and not os.path.lexists(folder / program.name):  # some lead nowhere
                (folder / program.name).symlink_to(program)
    return str(folder)


def test_git_init_and_the_first_commit(default_project: BakedProject) -> None:
    log = default_project.run("git", "log", "--format=%an <%ae> %s").stdout.splitlines()
    assert log == ["Test <test@example.org> Start from template"]
    assert default_project.run("git", "branch", "--show-current").stdout == "main\n"
    assert default_project.git_status() == ""
    tracked = default_project.run("git", "-c", "core.quotePath=off", "ls-files").stdout.splitlines()
    assert set(tracked) == default_project.files()


def test_what_comes_next_is_told(tmp_path: Path) -> None:
    result = cookiecutter(tmp_path)
    assert result.stdout.split("Next:\n")[1] == "  cd my-experiment\n  make setup\n  make repro\n"
    assert result.stderr == ""
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    told = execute("cookiecutter", "--no-input", "-o", elsewhere, template(), cwd=tmp_path, env={"PWD": str(tmp_path)})
    assert f"\n  cd '{elsewhere}/my-experiment'\n" in told.stdout


def test_neither_git_nor_dvc(tmp_path: Path, default_project: BakedProject) -> None:
    into = tmp_path / "into"
    into.mkdir()
    result = cookiecutter(into, env={"PATH": path_without(tmp_path, "git", "dvc")})
    told, _, _ = result.stdout.partition("\nNext:")
    assert told.startswith("git was not found") and told.count("\n") == 1
    project = BakedProject(into / "my-experiment")
    assert project.files() == default_project.files()
    assert not (project.path / ".git").exists()
    # The command that it tells makes the rest.
    project.run("bash", "-c", told.partition(": ")[2])
    project.run("dvc", "remote", "list")
    assert project.git_status() == ""


@pytest.mark.parametrize("environment", [{}, {"EMAIL": "a@example.org"}])
def test_git_knows_no_user(tmp_path: Path, environment: dict[str, str]) -> None:
    result = cookiecutter(tmp_path, env={"GIT_CONFIG_GLOBAL": os.devnull, **environment})
    told, _, _ = result.stdout.partition("\nNext:")
    assert told.startswith("Not committed: git has no user.name") and told.count("\n") == 1
    project = BakedProject(tmp_path / "my-experiment")
    assert project.run("git", "rev-parse", "--verify", "HEAD", check=False).returncode != 0
    # Once git knows one, generating again commits.
    assert "Not committed" not in cookiecutter(tmp_path, "--overwrite-if-exists").stdout
    assert project.git_status() == ""


def test_a_user_named_by_the_environment_is_enough(tmp_path: Path) -> None:
    who = {f"GIT_{role}_{what}": "x@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    cookiecutter(tmp_path, env={"GIT_CONFIG_GLOBAL": os.devnull, **who})
    project = BakedProject(tmp_path / "my-experiment")
    assert project.run("git", "log", "--format=%s").stdout == "Start from template\n"


def test_hooks_and_signatures_of_the_user_are_left_out_of_the_first_commit(tmp_path: Path) -> None:
    template = tmp_path / "git-template" / "hooks"
    template.mkdir(parents=True)
    for name in ("pre-commit", "commit-msg", "prepare-commit-msg", "post-commit"):
        (template / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
        (template / name).chmod(0o755)
    config = tmp_path / "gitconfig"
    config.write_text(
        "[user]\nname = A\nemail = a@example.org\n[commit]\ngpgSign = true\n[gpg]\nprogram = /bin/false\n"
        f"[init]\ntemplateDir = {template.parent}\n"
    )
    into = tmp_path / "into"
    into.mkdir()
    assert "Not committed" not in cookiecutter(into, env={"GIT_CONFIG_GLOBAL": str(config)}).stdout
    assert not (tmp_path / "ran").exists()


def test_inside_a_work_tree_no_repository_is_nested(tmp_path: Path) -> None:
    execute("git", "init", "--quiet", cwd=tmp_path)
    result = cookiecutter(tmp_path)
    told, _, _ = result.stdout.partition("\nNext:")
    assert told.startswith(f"The project is inside the git repository {tmp_path}") and told.count("\n") == 1
    project = BakedProject(tmp_path / "my-experiment")
    assert not (project.path / ".git").exists()
    assert execute("git", "diff", "--cached", "--name-only", cwd=tmp_path).stdout == ""
    # DVC finds the repository above: it stages what it writes there.
    (project.path / "one.txt").write_text("1\n")
    project.run("dvc", "add", "one.txt")
    staged = execute("git", "diff", "--cached", "--name-only", cwd=tmp_path).stdout.splitlines()
    assert "my-experiment/one.txt.dvc" in staged


def test_an_ignored_folder_of_a_work_tree_gets_a_repository(tmp_path: Path) -> None:
    execute("git", "init", "--quiet", cwd=tmp_path)
    (tmp_path / ".gitignore").write_text("/build/\n")
    into = tmp_path / "build"
    into.mkdir()
    cookiecutter(into)
    project = BakedProject(into / "my-experiment")
    assert project.run("git", "rev-parse", "--show-toplevel").stdout.strip() == str(project.path)
    assert project.run("git", "log", "--format=%s").stdout == "Start from template\n"


def test_a_repository_named_by_the_environment_is_left_alone(tmp_path: Path) -> None:
    """`make test` or cookiecutter may run inside a git hook, which sets these."""
    other = tmp_path / "other"
    other.mkdir()
    execute("git", "init", "--quiet", cwd=other)
    into = tmp_path / "into"
    into.mkdir()
    cookiecutter(into, env={"GIT_DIR": str(other / ".git"), "GIT_INDEX_FILE": str(other / ".git" / "index")})
    assert (into / "my-experiment" / ".git").is_dir()
    assert not (other / ".git" / "index").exists()


def test_generating_again_changes_nothing(default_project: BakedProject, copy: Callable[..., BakedProject]) -> None:
    project = copy(default_project)
    (project.path / "mine.txt").write_text("mine\n")
    cookiecutter(project.path.parent, "--overwrite-if-exists")
    assert project.git_status() == "?? mine.txt\n"
    assert project.run("git", "rev-list", "--count", "HEAD").stdout == "1\n"


def test_another_choice_prunes_what_the_first_one_left(tmp_path: Path) -> None:
    cookiecutter(tmp_path, dvc_remote="s3")
    cookiecutter(tmp_path, "--overwrite-if-exists", dvc_remote="gcs", dvc_remote_url="gs://bucket")
    locks = {path.name for path in (tmp_path / "my-experiment" / "requirements").glob("remote-*")}
    assert locks <= {"remote-gcs.lock"}


def test_every_pattern_of_the_table_matches_a_file_of_the_template() -> None:
    features = hook({**GOOD, "package": "{{cookiecutter.package}}"}, "post_gen_project.py")["FEATURES"]
    patterns = {name for choices in features.values() for patterns in choices.values() for name in patterns}
    assert not [name for name in sorted(patterns) if not any(TEMPLATE.glob(name))]


def test_a_scope_prunes_what_a_larger_one_left_and_brings_it_back(
    default_project: BakedProject, copy: Callable[..., BakedProject]
) -> None:
    project = copy(default_project)
    service = project.files()
    (project.path / "make" / "mine.mk").write_text("mine: ## Mine\n\t@echo mine\n")
    cookiecutter(project.path.parent, "--overwrite-if-exists", scope="experiment")
    experiment = project.files()
    assert experiment < service | {"make/mine.mk"}
    assert {"make/mine.mk", "requirements/train.lock"} < experiment
    assert not {"make/service.mk", "Dockerfile", "conf/gates.yaml", "requirements/serve-images.lock"} & experiment
    assert project.run("make", "mine").stdout == "mine\n"
    cookiecutter(project.path.parent, "--overwrite-if-exists", scope="production")
    of_a_service = "requirements/serve-images.lock"  # the image of a larger scope has packages more
    assert project.files() > service - {of_a_service} | {"make/mine.mk", "make/production.mk", "monitoring/rules.yml"}


def test_the_shipped_dvc_folder_is_what_dvc_init_makes(tmp_path: Path, default_project: BakedProject) -> None:
    execute("git", "init", "--quiet", cwd=tmp_path)
    execute("dvc", "init", "--quiet", cwd=tmp_path)
    made = {p.relative_to(tmp_path).as_posix() for p in (tmp_path / ".dvc").rglob("*") if p.is_file()}
    made -= {".dvc/tmp/btime"}  # ignored by git, made anew by any command
    assert made == {name for name in default_project.files() if name.startswith(".dvc/")}
    assert default_project.read(".dvc/.gitignore") == (tmp_path / ".dvc/.gitignore").read_text()


@pytest.mark.parametrize(
    ("answers", "resolved"),
    [
        ({}, "{into}/my-experiment-dvc"),
        ({"dvc_remote_url": "../my store, #1's"}, "{into}/my store, #1's"),
        ({"dvc_remote_url": "/srv/dvc"}, "/srv/dvc"),
        ({"dvc_remote_url": "~/dvc"}, "{home}/dvc"),
        ({"dvc_remote": "s3"}, "s3://my-experiment-dvc"),
        ({"dvc_remote": "ssh", "dvc_remote_url": "ssh://me@host:22/srv/x"}, "ssh://me@host:22/srv/x"),
    ],
    ids=str,
)
def test_dvc_reads_the_configuration(tmp_path: Path, answers: dict[str, str], resolved: str) -> None:
    cookiecutter(tmp_path, **answers)  # type: ignore[arg-type]
    # DVC's own reader, with its schema; the command line takes seconds to start.
    config = Config(dvc_dir=str(tmp_path / "my-experiment" / ".dvc"))
    url = resolved.format(into=tmp_path, home=Path.home())
    assert {name: remote["url"] for name, remote in config["remote"].items()} == {"storage": url}
    core = {name: config["core"][name] for name in ("remote", "autostage", "analytics")}
    assert core == {"remote": "storage", "autostage": True, "analytics": False}
    assert config["hydra"]["enabled"] is True
    assert "type" not in config["cache"]


def test_the_local_remote_works(tmp_path: Path) -> None:
    cookiecutter(tmp_path)
    project = BakedProject(tmp_path / "my-experiment")
    (project.path / "one.txt").write_text("1\n")
    project.run("dvc", "add", "one.txt")
    project.run("dvc", "push", "one.txt")
    assert list((tmp_path / "my-experiment-dvc").rglob("files/md5/*/*"))


def test_hooks_run_with_the_standard_library_alone(tmp_path: Path) -> None:
    for name in ("pre_gen_project", "post_gen_project"):
        source = create_env_with_context({"cookiecutter": {}}).from_string(
            (ROOT / "hooks" / f"{name}.py").read_text(encoding="utf-8")
        )
        script = tmp_path / f"{name}.py"
        script.write_text(source.render(cookiecutter=GOOD), encoding="utf-8")
        folder = tmp_path / name
        folder.mkdir()
        command = [sys.executable, "-I", "-S", str(script)]
        subprocess.run(command, cwd=folder, check=True, stdin=subprocess.DEVNULL, capture_output=True)


def test_first_contact_enter_answers_every_question(tmp_path: Path) -> None:
    """In a terminal, as a person meets it: a question a line, and what to do next, said once."""
    parent, child = os.openpty()
    env = {**os.environ, "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}", "TERM": "xterm", "COLUMNS": "120"}
    command = ["cookiecutter", str(template())]
    with running(*command, cwd=tmp_path, env=env, stdin=child, stdout=child, stderr=child) as process:
        os.close(child)
        os.write(parent, b"\n" * 40)  # more than there are questions
        told = b""
        with contextlib.suppress(OSError):  # Linux ends a terminal so when its last writer closes it
            while content := os.read(parent, 4096):
                told += content
        assert process.wait() == 0
    os.close(parent)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", told.decode()).replace("\r", "").splitlines()
    prompts = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))["__prompts__"].values()
    for prompt in prompts:
        question = prompt if isinstance(prompt, str) else prompt["__prompt__"]
        assert [question in line for line in lines].count(True) == 1, question
    (started,) = (row for row, line in enumerate(lines) if line == "Next:")
    assert [line.strip() for line in lines[started + 1 :] if line] == [
        f"cd {tmp_path}/my-experiment",
        "make setup",
        "make repro",
    ]
    assert not re.search(r"traceback|\bwarning", told.decode(), re.IGNORECASE)
    assert len(lines) < 80
