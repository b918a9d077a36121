"""CI at GitLab, Jenkins and Travis: each file is linted, and what it runs is run; and all four providers run the same.

GitLab's pipeline is run by gitlab-ci-local. Neither Jenkins nor Travis can be had here: the shell of their files is run
as they would run it. Small suites stand for those of the project, and hooks that have nothing to do with this are left
out, so that it does not take long: other tests run all of them.
"""

import json
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

import jinja2
import pytest
import yaml
from conftest import TEMPLATE, VENV, BakedProject, Copy, Result, edit, execute, stages_run
from debian import apt_install
from filelock import FileLock

# The one list of steps: stage -> job -> targets of the Makefile, in their order.
STEPS = {
    "check": {"lint": ["lint"], "test": ["coverage"]},
    "pipeline": {"pipeline": ["reproduced"], "report": ["report"]},
    "release": {"bento": ["bento"], "image": ["image", "push"]},
    "retrain": {"retrain": ["news", "retrain"]},
    "deliver": {
        "propose": ["register", "promote", "champion", "audit", "image", "scan", "push", "release"],
        "deploy": ["deploy", "status"],
    },
}
# The stages that each scope has; production with an answer to `deploy`.
STAGES = {"experiment": [*STEPS][:2], "service": [*STEPS][:4], "production": [*STEPS]}
PROVIDERS = ("github", "gitlab", "jenkins", "travis")
FILES = {"gitlab": ".gitlab-ci.yml", "jenkins": "Jenkinsfile", "travis": ".travis.yml"}
SECRETS = {"s3": "AWS_SECRET_ACCESS_KEY", "gcs": "GOOGLE", "azure": "AZURE_STORAGE", "ssh": "SSH_PRIVATE_KEY"}
DOCUMENTATION = "':!*.md' ':!docs' ':!LICENSE'"  # what trains nothing, as git says it; GitLab has its own way
PATHS = """
README.md docs/a.png docs/a.py docs/notes/a.md LICENSE src/notes.md README.rd docs.py docs2/a.py doc/a.py do/a d/a.yaml
src/docs/a.png src/LICENSE NOTICE Makefile dvc.lock data/raw/images.dvc src/amd src/a.md5 .github/workflows/ci.yml
""".split()
# `make lint` with all hooks is run in test_readme.py.
SKIP = "mypy,secrets,dvc-status,yamllint,large-files,case-conflict,private-key,line-endings,merge-conflict"

Bake = Callable[..., BakedProject]


def targets(shell: str) -> list[str]:
    """Gives the targets of the Makefile that a shell script makes, in order, but `setup`, which every job makes."""
    found = re.findall(r"(?:^|&&|;)[ \t]*make ([a-z]+)", shell, re.MULTILINE)
    return [target for target in found if target != "setup"]


# ---------------------------------------------------------------------------------------------------------- providers


class Step(NamedTuple):
    """A step `sh` of a Jenkinsfile: the names of the stages and of the blocks around it, and its script."""

    stages: tuple[str, ...]
    blocks: tuple[str, ...]
    script: str


def jenkins_steps(text: str) -> list[Step]:
    """Reads the `sh` steps of a Jenkinsfile's pipeline, in order; all of them, or it fails."""
    functions, _, text = text.partition("\npipeline {")
    text = f"\npipeline {{{text}"
    for name, body in re.findall(r"void (\w+)\(\) \{\n(.*?)\n\}\n", functions, re.DOTALL):
        text = text.replace(f"{name}()", body)
    string = r"'''(?:\\.|[^\\])*?'''|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\""
    token = re.compile(rf"//[^\n]*|{string}|\w+|[{{}}]", re.DOTALL)
    found: list[Step] = []
    stack: list[tuple[str, str] | None] = []
    words: list[str] = []
    opened = None  # the stage or block whose brace comes next
    for match in token.finditer(text):
        word = match.group()
        if word.startswith("//"):
            continue
        if word == "{":
            stack.append(opened)
            opened = None
        elif word == "}":
            stack.pop()
        elif word[0] in "'\"" and words[-1:] == ["stage"]:
            opened = ("stage", word[1:-1])
        elif word in ("catchError", "withStores", "fileExists"):
            opened = ("block", word)
        elif word.startswith("'") and words[-1:] == ["sh"]:
            script = word.strip("'") if word.startswith("'''") else word[1:-1]
            around = {kind: tuple(at[1] for at in stack if at and at[0] == kind) for kind in ("stage", "block")}
            found.append(Step(around["stage"], around["block"], re.sub(r"\\(.)", r"\1", script, flags=re.DOTALL)))
        words.append(word)
    assert stack == []
    written = re.findall(r"\bsh\b", re.sub(rf"//[^\n]*|{string}", "", text))
    assert len(found) == len(written)
    return found


def github_jobs(folder: Path) -> dict[str, list[str]]:
    """Gives job -> targets of every workflow; those of a composite action of the project belong to the job."""
    found = {}
    for file in sorted((folder / "workflows").glob("*.yml")):
        for name, job in yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"].items():
            if made := targets("\n".join(step.get("run", "") for step in job["steps"])):
                found[name] = made
    return found


def steps_of(provider: str, project: BakedProject) -> dict[str, dict[str, list[str]]]:
    """Reads stage -> job -> targets from a provider's file of a generated project."""
    jobs: dict[str, list[str]] = {}
    stages: dict[str, str] = {}
    match provider:
        case "github":  # it has no stages: a job has the name that it has in the list
            jobs = github_jobs(project.path / ".github")
            stages = {job: stage for stage, named in STEPS.items() for job in named}
        case "gitlab":
            content = yaml.safe_load(project.read(".gitlab-ci.yml"))
            assert content["stages"] in STAGES.values()
            described = {name: job for name, job in content.items() if isinstance(job, dict) and "script" in job}
            jobs = {name: targets("\n".join(job["script"])) for name, job in described.items()}
            stages = {name: job["stage"] for name, job in described.items()}
        case "jenkins":
            for step in jenkins_steps(project.read("Jenkinsfile")):
                if made := targets(step.script):
                    jobs.setdefault(step.stages[-1], []).extend(made)
                    stages[step.stages[-1]] = step.stages[0]
        case "travis":
            content = yaml.safe_load(project.read(".travis.yml"))
            names = [stage["name"] for stage in content["stages"]]
            assert names in [[name for name in named if name != "retrain"] for named in STAGES.values()]
            for job in content["jobs"]["include"]:
                script = job["script"] if isinstance(job["script"], str) else "\n".join(job["script"])
                jobs[job["name"]], stages[job["name"]] = targets(script), job["stage"]
            # A stage waits for those before it, whose failure it would not survive: the retraining is beside another.
            if "retrain" in stages:
                assert (stages["retrain"], stages.update(retrain="retrain")) == ("pipeline", None)
    found: dict[str, dict[str, list[str]]] = {}
    for name, made in jobs.items():
        found.setdefault(stages.get(name, name), {})[name] = made
    return found


@pytest.fixture(scope="module")
def of(bake: Callable[..., BakedProject]) -> Bake:
    """A project for a provider, not run: `of("gitlab")`."""
    deploy = {"production": "ansible"}
    return cache(lambda provider, scope="service": bake(ci=provider, scope=scope, deploy=deploy.get(scope, "none")))


def rendered(provider: str, remote: str, scope: str = "service", deploy: str = "none") -> str:
    """Gives a provider's file as a project with these answers gets it."""
    environment = jinja2.Environment(keep_trailing_newline=True)
    text = (TEMPLATE / FILES[provider]).read_text(encoding="utf-8")
    return environment.from_string(text).render(cookiecutter={"dvc_remote": remote, "scope": scope, "deploy": deploy})


@pytest.mark.parametrize("scope", STAGES)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider_makes_the_same_targets_in_the_same_stages(of: Bake, provider: str, scope: str) -> None:
    project = of(provider, scope)
    found = steps_of(provider, project)
    assert set(found) == set(STAGES[scope])
    for stage in STAGES[scope]:
        jobs = STEPS[stage]
        wanted = [target for made in jobs.values() for target in made]
        # A provider may have two of the jobs in one: what is made, and in which order, is the same.
        assert sorted(target for made in found[stage].values() for target in made) == sorted(wanted)
        for made in found[stage].values():
            assert made == [target for target in wanted if target in made]
    declared = set(re.findall(r"^  make ([a-z]+) ", project.run("make", "help").stdout, re.MULTILINE))
    for stage, jobs in STEPS.items():
        for target in (target for made in jobs.values() for target in made):
            # A person has the targets of a registry wherever there is a service.
            assert (target in declared) == (stage in STAGES[scope]) or stage == "deliver" != STAGES[scope][-1], target


def test_only_the_secrets_of_the_remote_are_asked_for() -> None:
    for provider in FILES:
        for remote in ("local", *SECRETS):
            text = rendered(provider, remote)
            assert not [name for other, name in SECRETS.items() if other != remote and name in text]
            # What is set at GitLab or Travis is in the environment of every job already; keys have to be in files.
            if remote == "ssh" or (remote != "local" and provider == "jenkins"):
                assert SECRETS[remote] in text


def test_documentation_is_the_same_everywhere(of: Bake) -> None:
    for provider, file in {
        "github": ".github/workflows/ci.yml",
        "jenkins": "Jenkinsfile",
        "travis": ".travis.yml",
    }.items():
        assert DOCUMENTATION in of(provider).read(file)


def test_documentation_is_the_same_at_gitlab(of: Bake, tmp_path: Path) -> None:
    """The globs by the matcher of gitlab-ci-local, with its options; GitLab's own is that of Ruby."""
    modules = npm("gitlab-ci-local@4.70.1", "gitlab-ci-local").parent.parent
    globs = yaml.safe_load(of("gitlab").read(".gitlab-ci.yml"))[".code"]["rules"][-1]["changes"]
    options = {"nonegate": True, "noextglob": True, "posix": False, "dot": True}
    match = f"require('{modules}/micromatch')(...{json.dumps([PATHS, globs, options])})"
    found = json.loads(execute("node", "-e", f"console.log(JSON.stringify({match}))", cwd=tmp_path).stdout)
    execute("git", "init", "--quiet", cwd=tmp_path)
    for path in PATHS:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    listed = execute("git", "ls-files", "--others", "--", ".", *shlex.split(DOCUMENTATION), cwd=tmp_path).stdout
    assert set(found) == set(listed.split())
    assert set(PATHS) - set(found) == set(PATHS[:6])


# --------------------------------------------------------------------------------------------------------------- lint


def test_gitlab_and_travis_keep_to_their_schemas(tmp_path: Path) -> None:
    for provider, schema in {"gitlab": "vendor.gitlab-ci", "travis": "vendor.travis"}.items():
        delivered = [("ssh", "production", deploy) for deploy in ("none", "puppet", "kubernetes")]
        answers = [*[(remote, "service") for remote in ("local", *SECRETS)], ("ssh", "experiment"), *delivered]
        files = [tmp_path / f"{provider}-{'-'.join(given)}.yml" for given in answers]
        for file, given in zip(files, answers, strict=True):
            file.write_text(rendered(provider, *given), encoding="utf-8")
            for script in shell_of(yaml.safe_load(file.read_text(encoding="utf-8"))):
                execute("bash", "-n", "-c", script, cwd=tmp_path)
        execute("check-jsonschema", "--builtin-schema", schema, *files, cwd=tmp_path)
        execute("yamllint", "--strict", "--config-file", TEMPLATE / ".yamllint.yaml", *files, cwd=TEMPLATE)


def shell_of(content: Any, key: str = "") -> Iterator[str]:
    """Finds every shell script in the content of a YAML file."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from shell_of(value, name)
    elif key in ("script", "before_script", "before_install", "install"):
        yield content if isinstance(content, str) else "\n".join(content)
    elif isinstance(content, list):
        for value in content:
            yield from shell_of(value)


def npm(package: str, program: str) -> Path:
    """Gives a program of an npm package, installed where the machine does not have it; skips without npm."""
    if not shutil.which("npm"):
        pytest.skip(f"npm is not installed: {package}")
    folder = Path(tempfile.gettempdir()) / "template-tests-npm" / package.replace("@", "-")
    found = folder / "node_modules/.bin" / program
    folder.parent.mkdir(exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not found.exists():
            command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), package]
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
            if done.returncode:
                pytest.skip(f"{package}: cannot be installed: {done.stderr[-300:]}")
    return found


@pytest.fixture(scope="module")
def groovy_lint() -> Path:
    """npm-groovy-lint, which also brings Groovy itself along."""
    if not shutil.which("java"):
        pytest.skip("java is not installed: npm-groovy-lint runs in it")
    return npm("npm-groovy-lint@16.2.0", "npm-groovy-lint")


JAVA = {"JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}  # it does not run for long


@pytest.mark.slow
@pytest.mark.parametrize(("scope", "deploy"), [("experiment", "none"), ("production", "puppet")])
def test_groovy_lint_accepts_the_jenkinsfile(groovy_lint: Path, tmp_path: Path, scope: str, deploy: str) -> None:
    (tmp_path / "Jenkinsfile").write_text(rendered("jenkins", "ssh", scope, deploy), encoding="utf-8")
    done = execute(
        groovy_lint, "--noserver", "--output", "json", "--failon", "error", "--files", "Jenkinsfile", "--path", ".",
        cwd=tmp_path, env=JAVA,
    )  # fmt: skip
    (file,) = json.loads(done.stdout[done.stdout.index("{") :])["files"].values()
    # A declarative pipeline is nested; the shell's ${...} between single quotes is meant to be the shell's.
    matters = [error for error in file["errors"] if error["severity"] in ("error", "warning")]
    assert {error["rule"] for error in matters} <= {"NestedBlockDepth", "GStringExpressionWithinString"}, matters


# ------------------------------------------------------------------------------------------- what changed decides


CHECKS = {"lint", "test", "pipeline", "report", "bento"}
RUN = {
    "documentation": {"lint"},
    "code": CHECKS,
    "data": {*CHECKS, "retrain"},
    "results": CHECKS,  # data and dvc.lock: what a retraining proposes
    "first": CHECKS,  # of a branch: there is nothing to compare with
    "rewritten": CHECKS,  # git does not know what was there before
    "schedule": {"retrain"},
    "tag": {*CHECKS, "image"},
    "model": {*CHECKS, "propose"},  # as "results", with a registry of models
    "release": {*CHECKS, "deploy"},
    "secretless": CHECKS,  # as "release", without a key of the hosts
}
# The branch of the project below; the first commit and rewritten history hold data, too, which retrain nothing.
BRANCHES = {"first": "data", "rewritten": "data", "schedule": "code", "tag": "code"}
BRANCHES |= {"model": "results", "secretless": "release"}  # pragma: allowlist secret
# What switches the delivery on.
SWITCHES = {"model": {"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000"}, "release": {"DEPLOY_SSH_KEY": "key"}}
UNKNOWN = "0123456789" * 4  # to git


@pytest.fixture(scope="module")
def changes(of: Bake, copy: Copy) -> BakedProject:
    """A project with all providers' files and a branch for each kind of change, one commit from main."""
    project = copy(of("none"))
    for provider, file in FILES.items():
        shutil.copyfile(of(provider, "production").path / file, project.path / file)
    project.commit("Providers")
    publish(project)
    for folder in ("docs", "deploy"):
        (project.path / folder).mkdir(exist_ok=True)
    for branch, files in {
        "documentation": ["docs.md", "docs/plot.svg", "LICENSE"],
        "code": ["Makefile"],
        "data": ["data/raw/images.dvc"],
        "results": ["data/raw/images.dvc", "dvc.lock"],
        "release": ["deploy/release.yaml"],
    }.items():
        project.run("git", "switch", "--quiet", "--create", branch, "main")
        for file in files:
            with (project.path / file).open("a") as written:
                written.write("# new\n")
        project.commit(branch)
    return project


def publish(project: BakedProject) -> Path:
    """Gives a project a remote that has its present commit."""
    origin = project.path.parent / "origin.git"
    project.run("git", "init", "--quiet", "--bare", origin)
    execute("git", "config", "receive.advertisePushOptions", "true", cwd=origin)
    project.run("git", "remote", "add", "origin", origin)
    project.run("git", "push", "--quiet", "--no-verify", "origin", "main")
    project.run("git", "remote", "set-head", "origin", "main")
    return origin


def gitlab(
    project: BakedProject, *arguments: str, check: bool = True, variables: Mapping[str, str] = MappingProxyType({})
) -> Result:
    """Runs gitlab-ci-local in a project; `make setup` finds the environment installed."""
    program = npm("gitlab-ci-local@4.70.1", "gitlab-ci-local")
    if not shutil.which("rsync"):  # it copies the project with it
        apt_install("rsync")
    (VENV / ".installed").touch()
    given = [word for name, value in variables.items() for word in ("--variable", f"{name}={value}")]
    place = ["--state-dir", "../state", "--home", str(project.path.parent)]
    own = ["--force-shell-executor", "--no-json-schema-validation", *place, *given]
    return project.run(program, *own, *arguments, env={"SKIP": SKIP}, check=check)


# GitLab knows what was there before a history was rewritten: it keeps the commits of its pipelines.
@pytest.mark.parametrize("cause", [cause for cause in RUN if cause != "rewritten"])
def test_what_changed_decides_what_gitlab_runs(changes: BakedProject, cause: str) -> None:
    variables = {
        "schedule": {"CI_PIPELINE_SOURCE": "schedule"},
        "tag": {"CI_COMMIT_TAG": "v1", "CI_COMMIT_BRANCH": ""},
        "first": {"CI_COMMIT_BEFORE_SHA": "0" * 40},
    }
    changes.run("git", "switch", "--quiet", BRANCHES.get(cause, cause))
    told = gitlab(
        changes,
        "--list-json",
        variables={"CI_COMMIT_BRANCH": "main"} | variables.get(cause, {}) | SWITCHES.get(cause, {}),
    ).stdout
    jobs = {job["name"] for job in json.loads(told[told.index("[\n") :]) if job["when"] != "never"}
    assert {"image" if name == "push" else name for name in jobs} == RUN[cause]


def holds(condition: str, env: Mapping[str, str]) -> bool:
    """Evaluates a condition of Travis', of the kinds that .travis.yml has."""

    def term(words: list[str]) -> bool:
        match words:
            case ["tag", "IS", "present"]:
                return bool(env["TRAVIS_TAG"])
            case ["branch", "=", name]:
                return env["TRAVIS_BRANCH"] == name
            case ["type", "IN", *kinds]:
                return env["TRAVIS_EVENT_TYPE"] in [kind.strip("(,)") for kind in kinds]
            case ["type", "=", kind]:
                return env["TRAVIS_EVENT_TYPE"] == kind
            case ["commit_message", "=~" | "!~" as is_like, pattern]:
                return bool(re.search(pattern, env["TRAVIS_COMMIT_MESSAGE"])) == (is_like == "=~")
        raise AssertionError(condition)

    return all(term(part.split()) for part in condition.split(" AND "))


@pytest.mark.parametrize("cause", RUN)
def test_what_changed_decides_what_travis_runs(changes: BakedProject, cause: str) -> None:
    content = yaml.safe_load(changes.read(".travis.yml"))
    changes.run("git", "switch", "--quiet", BRANCHES.get(cause, cause))
    # Somebody who wants a release deployed starts a build with this message.
    by_hand = cause in ("release", "secretless")
    env = {
        "TRAVIS_COMMIT_MESSAGE": "deploy" if by_hand else "Update",
        "TRAVIS_EVENT_TYPE": "cron" if cause == "schedule" else "api" if by_hand else "push",
        "TRAVIS_BRANCH": "v1" if cause == "tag" else "main",
        "TRAVIS_COMMIT_RANGE": {"first": "", "rewritten": f"{UNKNOWN}...HEAD"}.get(cause, "main...HEAD"),
        "TRAVIS_TAG": "v1" if cause == "tag" else "",
        **SWITCHES.get(cause, {}),
    }
    stages = {stage["name"]: stage.get("if") for stage in content["stages"]}
    jobs = set()
    for job in content["jobs"]["include"]:
        if all(holds(condition, env) for condition in (stages[job["stage"]], job.get("if")) if condition):
            decided = {"before_install": content["before_install"]}
            started = travis(changes, decided, {"name": job["name"], "script": "echo started"}, **env)
            jobs |= {job["name"]} if "started" in started.stdout else set()
    wanted = RUN[cause] - CHECKS if by_hand else RUN[cause] - {"report"}  # `make report` is in the job pipeline
    assert jobs == wanted


HARNESS = """
def scenarios = new groovy.json.JsonSlurper().parse(new File('scenarios.json'))
withEnv = { pairs, body -> now = pairs.collectEntries { it.split('=', 2) as List }; body() }
archiveArtifacts = { println("kept ${it.artifacts}") }
fileExists = { new File(folder, it).exists() }
readFile = { new File(folder, it.file).getText(it.encoding) }
string = usernamePassword = { it }
withCredentials = { asked, body -> println("keys ${asked*.credentialsId.join(' ')}"); body() }
sh = { map ->
    def process = new ProcessBuilder('sh', '-xe', '-c', map.script).directory(new File(map.get('in', folder)))
    process.environment().putAll(now)
    process.start().waitFor()
}
scenarios.each { scenario ->
    env = scenario.env; params = scenario.params; folder = scenario.folder
    currentBuild = [getBuildCauses: { String cause -> scenario.causes.contains(cause) ? [cause] : [] }]
    delivered = ['dvc.lock', 'deploy/release.yaml'].findAll { delivers(it) }
    println("${scenario.cause} ${onlyRetrains()} ${retrains()} ${trains()} ${delivered}")
}
env = [:]
withStores { println('without MLflow') }
env = [MLFLOW_CREDENTIALS: 'mlflow']
withStores { println('with MLflow') }
showReport()
assert !currentBuild.description
new File(folder, 'build').mkdir()
new File(folder, 'build/report.md').text = '## Results'
showReport()
println(currentBuild.description)
"""


def test_what_changed_decides_what_jenkins_runs(
    changes: BakedProject, groovy_lint: Path, copy: Copy, tmp_path: Path
) -> None:
    """The functions of the Jenkinsfile, run by Groovy; Jenkins' own variables and steps are stood for."""
    timer = "hudson.triggers.TimerTrigger$TimerTriggerCause"
    scenarios = []
    before = changes.run("git", "rev-parse", "main").stdout.strip()
    for cause in RUN:
        project = copy(changes)
        project.run("git", "switch", "--quiet", BRANCHES.get(cause, cause))
        env = {"BRANCH_NAME": "main", "GIT_PREVIOUS_SUCCESSFUL_COMMIT": UNKNOWN if cause == "rewritten" else before}
        env = {"first": {"BRANCH_NAME": "main"}, "tag": {"BRANCH_NAME": "v1"}}.get(cause, env)
        causes = [timer] if cause == "schedule" else []
        common = {"folder": str(project.path), "params": {"RETRAIN": False}, "causes": causes}
        scenarios.append({"cause": cause, "env": env, **common})
        if cause == "documentation":
            request = {"BRANCH_NAME": "PR-1", "CHANGE_TARGET": "main"}
            scenarios.append({"cause": "request", "env": request, **common})
            scenarios.append({"cause": "hand", "env": env, **common, "params": {"RETRAIN": True}})
        if cause == "data":  # on another branch, the commit has to bring its results along
            scenarios.append({"cause": "branch", "env": {"BRANCH_NAME": "PR-1", "CHANGE_TARGET": "main"}, **common})
    (tmp_path / "scenarios.json").write_text(json.dumps(scenarios))
    functions = rendered("jenkins", "s3", "production", "ansible").partition("\npipeline {")[0]
    (tmp_path / "harness.groovy").write_text(functions + HARNESS)
    jars = groovy_lint.resolve().parent / "java"
    told = execute(
        "java", "-cp", f"{jars}/*:{jars}/groovy/lib/*", "groovy.ui.GroovyMain", "harness.groovy", cwd=tmp_path, env=JAVA
    )
    lines = told.stdout.splitlines()
    found = {line.split()[0]: tuple(word == "true" for word in line.split()[1:4]) for line in lines[: len(scenarios)]}
    delivered = {line.split()[0]: line.partition("[")[2].rstrip("]") for line in lines[: len(scenarios)]}
    only_lint, checked, trained = (False, False, False), (False, False, True), (True, True, False)
    assert found == {
        "documentation": only_lint,
        "request": only_lint,
        "first": checked,
        "rewritten": checked,
        "hand": trained,
        "code": checked,
        "data": (False, True, True),
        "results": checked,
        "branch": checked,
        "schedule": trained,
        "tag": checked,
        "model": checked,
        "release": checked,
        "secretless": checked,
    }
    files = {
        "results": "dvc.lock",
        "model": "dvc.lock",
        **dict.fromkeys(("release", "secretless"), "deploy/release.yaml"),
    }
    assert delivered == {cause: files.get(cause, "") for cause in found}
    keys = "keys aws-access-key-id aws-secret-access-key"
    kept = "kept build/report.md, build/plots/**"
    assert lines[len(scenarios) :] == [
        keys, "without MLflow", f"{keys} mlflow", "with MLflow", kept, kept, "## Results"
    ]  # fmt: skip


def test_jenkins_stages_have_what_they_need_and_no_more(of: Bake) -> None:
    text = of("jenkins").read("Jenkinsfile")
    # A commit of data alone does not pass the pipeline, after which nothing would run: the retraining comes before.
    assert re.findall(r"stage\('(\w+)'\) \{\s*when \{ (.*) \}\n", text) == [
        ("lint", "not { expression { onlyRetrains() } }"),
        ("test", "expression { trains() }"),
        ("retrain", "expression { retrains() && hasStorage() }"),
        ("pipeline", "expression { trains() }"),
        ("release", "expression { trains() }"),
        ("image", "buildingTag()"),
    ]
    steps = [step for step in jenkins_steps(text) if targets(step.script) and step.stages[0] != "setup"]
    with_keys = {target for step in steps if "withStores" in step.blocks for target in targets(step.script)}
    assert with_keys == {"retrain", "reproduced", "report", "bento", "image"}
    assert {step.stages[-1] for step in steps if "catchError" in step.blocks} == {"retrain"}, "it fails the build alone"
    assert "credentials(" not in text.partition("\npipeline {")[2].replace("withCredentials(", "")


# ------------------------------------------------------------------------------------------------- what is run, is run


@pytest.fixture(scope="module")
def ready(quick_project: BakedProject, of: Bake, copy: Copy) -> BakedProject:
    """A reproduced project with all providers' files; its last commit, which is not published, changes code."""
    project = copy(quick_project)
    for provider, file in FILES.items():
        shutil.copyfile(of(provider).path / file, project.path / file)
    tests = project.path / "src/my_experiment/tests"
    for module in tests.glob("test_*.py"):
        module.unlink()
    project.commit("Providers")
    publish(project)
    (tests / "test_small.py").write_text('def test_small() -> None:\n    assert __import__("my_experiment")\n')
    # Of one folder: the coverage of everything takes as long as the rest of a run.
    settings = project.read("pyproject.toml").replace('source = ["src"]', 'source = ["src/my_experiment/data"]')
    (project.path / "pyproject.toml").write_text(settings)
    project.commit("A small suite")
    return project


def break_it(project: BakedProject, what: str) -> str:
    """Commits a mistake, and gives what a run has to say about it."""
    match what:
        case "lint":
            (project.path / "src/my_experiment/bad.py").write_text("print(nowhere)\n")
            told = "F821"
        case "test":
            edit(project, "src/my_experiment/tests/test_small.py", "assert __", "assert not __")
            told = "1 failed"
        case _:
            edit(project, "conf/train/default.yaml", "patience: 8", "patience: 9")
            told = "dvc.lock does not match"
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--no-verify", "--message", what)
    return told


JOB_OF = {"lint": "lint", "test": "test", "lock": "pipeline"}


def jenkins(project: BakedProject, *stages: str, **env: str) -> Result:
    """Runs the steps of some stages as Jenkins does: each in a shell of its own, until one fails."""
    home = project.path.parent / "home"
    shared = home / ".cache/dvc/team/project"  # the cache of data on the agent
    if not shared.is_symlink():
        shared.parent.mkdir(parents=True, exist_ok=True)
        shared.symlink_to(project.path / ".dvc/cache", target_is_directory=True)
    known = {
        "HOME": str(home),
        "JOB_NAME": "team/project/main",
        "BASE": "origin/main",
        "SKIP": SKIP,
        "BRANCH_NAME": "main",
    }
    told = ""
    for step in jenkins_steps(project.read("Jenkinsfile")):
        skipped = "fileExists" in step.blocks and not project.has_file("build/news")
        if set(stages) & set(step.stages) and not skipped:
            (VENV / ".installed").touch()
            done = project.run("sh", "-xe", "-c", step.script, env={**known, **env}, check=False)
            told += done.stdout + done.stderr
            if done.returncode:
                break
    return subprocess.CompletedProcess([], done.returncode, told, "")


def travis(project: BakedProject, content: dict[str, Any], job: dict[str, Any], **env: str) -> Result:
    """Runs a job as Travis does: a command of `script` runs also after one that failed, which the job then has, too."""

    def commands(phase: str) -> list[str]:
        found = job.get(phase, content.get(phase, []))
        return [found] if isinstance(found, str) else found

    lines = ["travis_terminate() { exit $1; }", "result=0"]
    lines += [
        f"eval {shlex.quote(line)} || exit 2" for phase in ("before_install", "install") for line in commands(phase)
    ]
    lines += [f"eval {shlex.quote(line)} || result=1" for line in commands("script")]
    (VENV / ".installed").touch()
    known = {"TRAVIS_EVENT_TYPE": "push", "TRAVIS_BRANCH": "main", "TRAVIS_COMMIT_RANGE": "origin/main...HEAD"}
    given = {**known, "TRAVIS_TAG": "", "TRAVIS_JOB_NAME": job["name"], "SKIP": SKIP, **env}
    return project.run("bash", "-c", "\n".join([*lines, "exit $result"]), env=given, check=False)


def travis_job(project: BakedProject, name: str, **env: str) -> Result:
    """Runs a job of .travis.yml."""
    content = yaml.safe_load(project.read(".travis.yml"))
    (job,) = (job for job in content["jobs"]["include"] if job["name"] == name)
    return travis(project, content, job, **env)


RUNNERS: dict[str, Callable[[BakedProject, str], Result]] = {
    "gitlab": lambda project, job: gitlab(project, job, check=False),
    "jenkins": lambda project, job: jenkins(project, job),
    "travis": travis_job,
}


def test_a_commit_with_its_own_results_passes_at_gitlab(ready: BakedProject, copy: Copy) -> None:
    project = copy(ready)
    done = gitlab(project, "lint", "test", "pipeline", "report")
    assert stages_run(done.stdout) == []
    content = yaml.safe_load(project.read(".gitlab-ci.yml"))
    for name in ("test", "report"):
        for path in content[name]["artifacts"]["paths"]:
            assert (project.path / path).exists() or path == "build/plots/", path  # no plot has changed
    reports = content["test"]["artifacts"]["reports"]
    assert "test_small" in project.read(reports["junit"])
    assert "<coverage " in project.read(reports["coverage_report"]["path"])
    assert re.search(r"test .* \d+(\.\d+)?% coverage", done.stdout), "the line of the total is not found"
    assert project.git_status() == ""


def test_a_commit_with_its_own_results_passes_at_jenkins(ready: BakedProject, copy: Copy) -> None:
    project = copy(ready)
    done = jenkins(project, "setup", "pipeline")
    assert done.returncode == 0, done.stdout
    assert stages_run(done.stdout) == []
    assert project.has_file("build/report.md")
    assert project.git_status() == ""


def test_a_commit_with_its_own_results_passes_at_travis(ready: BakedProject, copy: Copy) -> None:
    project = copy(ready)
    done = travis_job(project, "pipeline")
    assert done.returncode == 0, done.stdout + done.stderr
    assert stages_run(done.stdout) == []
    assert project.read("build/report.md") in done.stdout
    before = project.run("git", "rev-parse", "--short", "origin/main").stdout.strip()
    assert f"compared with `{before}`" in done.stdout
    assert project.git_status() == ""


@pytest.mark.parametrize(("provider", "what"), [(p, w) for p in FILES for w in JOB_OF])
def test_a_mistake_fails_the_run(ready: BakedProject, copy: Copy, provider: str, what: str) -> None:
    project = copy(ready)
    told = break_it(project, what)
    done = RUNNERS[provider](project, JOB_OF[what])
    assert done.returncode != 0
    assert told in done.stdout + done.stderr
    assert not project.has_file("build/report.md")
    if what == "test":  # the results of a failed suite are what is looked for most
        assert 'failures="1"' in project.read("build/junit.xml")


class Request(NamedTuple):
    """A request that a server has got."""

    method: str
    path: str
    token: str | None
    body: str


class Api:
    """Stands for the API of GitLab or GitHub, neither of which can be had here: keeps notes and pull requests."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                token = self.headers.get("PRIVATE-TOKEN") or self.headers.get("Authorization")
                api.requests.append(Request(self.command, self.path, token, body))
                again = self.command == "POST" and api.requests.count(api.requests[-1]) > 1
                notes = [{"id": 1, "body": "Nice!"}]
                posted = [unquote_plus(r.body) for r in api.requests[:-1] if r.method == "POST"]
                notes += [{"id": 2 + i, "body": body.removeprefix("body=")} for i, body in enumerate(posted)]
                payload = json.dumps(
                    {"message": "A pull request already exists"} if again else notes if self.command == "GET" else {}
                ).encode()
                self.send_response(422 if again else 201 if self.command == "POST" else 200)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            do_GET = do_POST = do_PUT = answer

            def log_message(self, format: str, *args: Any) -> None:
                """Stays quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def api() -> Iterator[Api]:
    """A server with an API."""
    made = Api()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_gitlab_has_one_note_with_the_report(api: Api, of: Bake, copy: Copy) -> None:
    project = copy(of("gitlab"))
    (project.path / "build").mkdir()
    _, note = yaml.safe_load(project.read(".gitlab-ci.yml"))["report"]["script"]
    run = lambda **env: project.run("bash", "-eo", "pipefail", "-c", note, env=env, check=False)  # noqa: E731
    env = {"CI_API_V4_URL": api.url, "CI_PROJECT_ID": "7", "CI_MERGE_REQUEST_IID": "3"}
    (project.path / "build/report.md").write_text("# Results: 1 & 1 = 2 %\n")
    assert run(**env).returncode == 0
    assert api.requests == [], "without a token the artifact has to do"
    for text in ("# Results: 1 & 1 = 2 %\n", "# Others\n"):
        (project.path / "build/report.md").write_text(text)
        done = run(**env, REPORT_TOKEN="hidden")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    notes = "/projects/7/merge_requests/3/notes"
    asked = [(request.method, request.path.partition("?")[0]) for request in api.requests]
    assert asked == [("GET", notes), ("POST", notes), ("GET", notes), ("PUT", f"{notes}/2")]
    assert {request.token for request in api.requests} == {"hidden"}
    texts = [unquote_plus(request.body).removeprefix("body=") for request in api.requests if request.body]
    assert texts == [f"<!-- make report -->\n{text}" for text in ("# Results: 1 & 1 = 2 %\n", "# Others\n")]
    refused = run(**env | {"CI_API_V4_URL": f"{api.url[:-1]}"}, REPORT_TOKEN="hidden")
    assert refused.returncode != 0


# What `make retrain` leaves behind where a model passes, without the training; test_retrain.py is about the real one.
RETRAINED = """
if [ -n "$FAILS" ]; then echo does not pass >&2; exit 1; fi
git commit --quiet --no-verify --allow-empty --message 'Retraining passes'
git push --quiet --no-verify --force origin HEAD:refs/heads/retrain/1
git reset --quiet --hard HEAD~1
mkdir -p build
printf '# Retraining "passes"\\n\\nAll & more.\\n' > build/report.md
echo retrain/1 > build/branch
"""
RETRAINING = """
setup:
\t@test -f build/news

news:
\t@rm -f build/news; test -n "$$NOTHING_NEW" || { mkdir -p build && touch build/news; }

retrain:
\t@sh -e retrained.sh
"""
HOOK = """#!/bin/sh
read -r old new ref
{ echo "$GIT_PUSH_OPTION_0 $GIT_PUSH_OPTION_1"; git log -1 --format='%an %cn' "$new"; } > pushed
"""


def retrained(project: BakedProject, provider: str, api: Api, **env: str) -> Result:
    """Runs the retraining of a provider."""
    origin = project.path.parent / "origin.git"
    match provider:
        case "gitlab":
            given = {"RETRAIN_TOKEN": "hidden", "CI_PIPELINE_SOURCE": "schedule", "CI_COMMIT_BRANCH": "main"}
            own = {"CI_PROJECT_URL": str(origin).removesuffix(".git"), "CI_SERVER_HOST": "gitlab.example.org"}
            return gitlab(project, "retrain", check=False, variables=given | own | env)
        case "travis":
            given = {"GITHUB_TOKEN": "hidden", "TRAVIS_EVENT_TYPE": "cron", "TRAVIS_REPO_SLUG": "team/project"}
            return travis_job(project, "retrain", GITHUB_API_URL=api.url, HOME=str(project.path.parent), **given | env)
        case _:
            given = {"LOGIN": "robot", "TOKEN": "hidden", "GIT_CONFIG_GLOBAL": str(project.path / "build/gitconfig")}
            return jenkins(project, "retrain", GITHUB_API_URL=api.url, **given | env)


@pytest.mark.parametrize(
    ("provider", "url"),
    [
        ("gitlab", ""),
        ("travis", ""),
        ("jenkins", "https://gitlab.example.org/team/project.git"),
        ("jenkins", "https://github.com/team/project.git"),
        ("jenkins", "https://git.example.org/team/project.git"),
    ],
)
def test_a_retraining_that_passes_is_proposed(
    changes: BakedProject,
    copy: Copy,
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    provider: str,
    url: str,
) -> None:
    project = copy(changes)
    origin = publish_again(project)
    main = execute("git", "rev-parse", "main", cwd=origin).stdout
    (project.path / "retrained.sh").write_text(RETRAINED)
    (project.path / "Makefile").write_text(RETRAINING)
    project.commit("A quick retraining")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))  # who is nobody yet
    env = {"GIT_URL": url}
    if provider == "travis":  # pushes to GitHub by https, whatever it was cloned from
        project.run("git", "config", "url.nowhere.pushInsteadOf", str(origin))
        project.run("git", "config", f"url.{origin}.insteadOf", "https://github.com/team/project.git")
    assert retrained(project, provider, api, NOTHING_NEW="1", **env).returncode == 0
    assert retrained(project, provider, api, FAILS="1", **env).returncode != 0
    assert not (origin / "pushed").exists() and api.requests == []
    done = retrained(project, provider, api, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    options, who = (origin / "pushed").read_text().splitlines()
    assert who == "Retraining Retraining"
    at_gitlab = provider == "gitlab" or "gitlab" in url
    assert options.strip() == ("merge_request.create merge_request.target=main" if at_gitlab else "")
    if provider == "travis" or "github" in url:
        (request,) = api.requests
        assert request[:3] == ("POST", "/repos/team/project/pulls", "Bearer hidden")
        assert json.loads(request.body) == {
            "title": 'Retraining "passes"', "body": "\nAll & more.\n", "head": "retrain/1", "base": "main",
        }  # fmt: skip
        # Proposed already: that is no failure.
        assert retrained(project, provider, api, **env).returncode == 0
        assert len(api.requests) == 2
    else:
        assert api.requests == []
    assert execute("git", "rev-parse", "main", cwd=origin).stdout == main, "main was pushed to"
    assert "hidden" not in (project.path / ".git/config").read_text() + done.stdout + done.stderr


# The targets of a delivery, stood for: each says that it was made, with what.
DELIVERY = """
.PHONY: deploy

setup:
	@true

register promote audit deploy status:
	@echo "made $@"
	@test "$$FAILS" != $@

champion:
	@mkdir -p build && echo model:7-0123456789ab >build/bento
	@echo "made $@"

image scan:
	@echo "made $@ $(BENTO)"

push:
	@echo "made $@ $(BENTO) $(REGISTRY)"
	@echo '{}' | tee build/sbom.cdx.json >build/provenance.json

release:
	@echo "made $@ $(ARGS)"
	@git commit --quiet --no-verify --allow-empty --message 'Release model/7'
	@git push --quiet --no-verify --force origin HEAD:refs/heads/release/7
	@printf '# Release model/7\\n\\nAll & more.\\n' >build/report.md
	@echo release/7 >build/branch
"""


def delivered(project: BakedProject, provider: str, job: str, api: Api, **env: str) -> Result:
    """Runs a job of the delivery."""
    origin = project.path.parent / "origin.git"
    match provider:
        case "gitlab":
            registry = {"CI_REGISTRY": "registry.example.org", "CI_REGISTRY_IMAGE": "registry.example.org/team"}
            login = {"CI_REGISTRY_USER": "me", "CI_REGISTRY_PASSWORD": "hidden"}  # pragma: allowlist secret
            given = {"RETRAIN_TOKEN": "hidden", "CI_PIPELINE_SOURCE": "push", "CI_COMMIT_BRANCH": "main"}
            own = {"CI_PROJECT_URL": str(origin).removesuffix(".git"), "CI_SERVER_HOST": "gitlab.example.org"}
            return gitlab(project, job, check=False, variables=given | own | registry | login | env)
        case "travis":
            login = {"REGISTRY_USER": "me", "REGISTRY_PASSWORD": "hidden"}  # pragma: allowlist secret
            given = {"GITHUB_TOKEN": "hidden", "TRAVIS_REPO_SLUG": "team/project", "HOME": str(project.path.parent)}
            given |= {"REGISTRY": "registry.example.org/team"}
            return travis_job(project, job, GITHUB_API_URL=api.url, **login | given | env)
        case _:
            login = {"LOGIN": "me", "PASSWORD": "hidden", "TOKEN": "hidden"}  # pragma: allowlist secret
            own = {"GIT_URL": "https://github.com/team/project.git", "REGISTRY": "registry.example.org/team"}
            config = {"GIT_CONFIG_GLOBAL": str(project.path / "build/gitconfig")}
            return jenkins(project, job, GITHUB_API_URL=api.url, **login | own | config | env)


@pytest.mark.parametrize("provider", FILES)
def test_a_new_model_is_proposed_as_a_release_and_a_merged_one_deployed(
    changes: BakedProject, copy: Copy, api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, provider: str
) -> None:
    project = copy(changes)
    origin = publish_again(project)
    (project.path / "Makefile").write_text(DELIVERY)
    project.commit("A quick delivery")
    project.run("git", "switch", "--quiet", "--create", "model")
    for path in ("dvc.lock", "deploy/release.yaml"):
        (project.path / path).parent.mkdir(exist_ok=True)
        with (project.path / path).open("a") as written:
            written.write("# new\n")
    project.commit("A model and a release")
    for tool in ("docker", "buildah", "apt-get", "dvc", "ssh-add", "ssh-agent"):
        (tmp_path / tool).write_text('#!/bin/sh\n"$@"\n' if tool == "ssh-agent" else TOOL)
        (tmp_path / tool).chmod(0o755)
    own = project.path / ".venv"  # a link to what all tests share
    own.unlink()
    (own / "bin").mkdir(parents=True)
    (own / "bin/dvc").symlink_to(tmp_path / "dvc")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    if provider == "travis":
        project.run("git", "config", "url.nowhere.pushInsteadOf", str(origin))
        project.run("git", "config", f"url.{origin}.insteadOf", "https://github.com/team/project.git")
    made: list[str] = []

    def run(job: str, **env: str) -> bool:
        done = delivered(project, provider, job, api, **env)
        told = done.stdout + done.stderr
        assert "hidden" not in told
        lines = [line.partition("made ")[2] for line in told.splitlines() if re.match(r"(.*> )?made ", line)]
        made[:] = dict.fromkeys(lines)  # gitlab-ci-local repeats the output of a job that fails
        return done.returncode == 0

    on = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000"}
    assert not run("propose", FAILS="promote", **on) and made == ["register", "promote"]
    assert run("propose", **on)
    bento = "model:7-0123456789ab"
    with_it = {name: f"{name} {bento}" for name in ("image", "scan")}
    with_it |= {"push": f"push {bento} registry.example.org/team", "release": "release --propose"}
    assert made == [with_it.get(name, name) for name in STEPS["deliver"]["propose"]]
    assert (origin / "pushed").read_text().splitlines()[1] == "Retraining Retraining"
    if provider != "gitlab":
        (request,) = api.requests
        assert json.loads(request.body)["title"] == "Release model/7"
        assert json.loads(request.body)["head"] == "release/7"

    (home := tmp_path / "home").mkdir()
    (tmp_path / "key").write_text("key\n")
    key = "a2V5Cg==" if provider == "travis" else str(tmp_path / "key")
    on = {"HOME": str(home), "DEPLOY_SSH_KEY": key, "DEPLOY_KNOWN_HOSTS": key, "DEPLOY_KEY": key, "DEPLOY_SECRETS": ""}
    message = {"TRAVIS_EVENT_TYPE": "api", "TRAVIS_COMMIT_MESSAGE": "deploy"} if provider == "travis" else {}
    assert run("deploy", **on, **message) and made == STEPS["deliver"]["deploy"]
    assert provider == "jenkins" or (home / ".ssh/id_ed25519").read_text() == "key\n"
    assert not run("deploy", FAILS="deploy", **on, **message) and made == ["deploy"]


def publish_again(project: BakedProject) -> Path:
    """Gives a copy of a project a remote of its own, which notes how it is pushed to."""
    project.run("git", "remote", "remove", "origin")
    project.run("git", "switch", "--quiet", "main")
    origin = publish(project)
    (origin / "hooks/post-receive").write_text(HOOK)
    (origin / "hooks/post-receive").chmod(0o755)
    return origin


def test_without_the_remote_of_the_data_nothing_starts(changes: BakedProject, copy: Copy, api: Api) -> None:
    """By default it is a folder, which no runner has: a schedule is green, and says why it does nothing."""
    project = copy(changes)
    publish_again(project)
    for provider, token in {"gitlab": "RETRAIN_TOKEN", "travis": "GITHUB_TOKEN"}.items():
        done = retrained(project, provider, api, **{token: ""})
        told = done.stdout + done.stderr
        assert done.returncode == 0 and "retraining is off: DVC's remote is the folder " in told, told
    told = project.run("make", "news", "ARGS=--offline").stdout  # what a Jenkinsfile asks before its credentials
    assert told.startswith("retraining is off: ") and not project.has_file("build/news")


def test_without_a_token_nothing_is_trained(changes: BakedProject, copy: Copy, api: Api) -> None:
    project = copy(changes)
    publish_again(project)
    storage = project.path.parent / "my-experiment-dvc"
    storage.mkdir()
    edit(project, ".dvc/config", "../../my-experiment-dvc", str(storage))  # where gitlab-ci-local copies it, too
    project.commit("A folder that the machine has")
    for provider, token in {"gitlab": "RETRAIN_TOKEN", "travis": "GITHUB_TOKEN"}.items():
        done = retrained(project, provider, api, **{token: ""})
        assert done.returncode != 0
        assert f"{token}: is not set: docs/ci-{provider}.md says how" in done.stdout + done.stderr
        assert "make retrain" not in done.stdout


# The targets and the tools of a release, stood for; test_image.py is about the real ones.
RELEASE = """
setup:

bento:
	@mkdir -p build/bentoml/bentos
	@$$BUILT

image:
	@echo '{}' | tee build/sbom.cdx.json >build/provenance.json
	@$$BUILT

push:
	@echo pushed to $(REGISTRY)
"""
TOOL = '#!/bin/sh\necho "$(basename "$0") $*"\n[ "$1" != login ] || cat > "$0.read"\n'


@pytest.mark.parametrize("provider", FILES)
def test_what_is_released_was_built(
    changes: BakedProject, copy: Copy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, provider: str
) -> None:
    project = copy(changes)
    project.run("git", "switch", "--quiet", "code")
    (project.path / "build").mkdir()
    (project.path / "Makefile").write_text(RELEASE)
    for tool in ("docker", "buildah", "apt-get"):
        (tmp_path / tool).write_text(TOOL)
        (tmp_path / tool).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("REGISTRY", "registry.example.org/team")
    for built in ("true", "false"):
        monkeypatch.setenv("BUILT", built)
        assert (RUNNERS[provider](project, "bento").returncode == 0) == (built == "true")
        match provider:
            case "gitlab":
                registry = {"CI_REGISTRY": "registry.example.org", "CI_REGISTRY_IMAGE": "registry.example.org/team"}
                login = {"CI_REGISTRY_USER": "me", "CI_REGISTRY_PASSWORD": "hidden"}  # pragma: allowlist secret
                done = gitlab(project, "push", check=False, variables={"CI_COMMIT_TAG": "v1"} | registry | login)
            case "travis":
                secrets = {"REGISTRY_USER": "me", "REGISTRY_PASSWORD": "hidden"}  # pragma: allowlist secret
                done = travis_job(project, "image", TRAVIS_TAG="v1", **secrets)
            case _:
                done = jenkins(project, "image", LOGIN="me", PASSWORD="hidden")
        engine = "buildah" if provider == "gitlab" else "docker"
        assert f"{engine} login --username me --password-stdin registry.example.org" in done.stdout
        assert (tmp_path / f"{engine}.read").read_text() == "hidden\n"
        assert "hidden" not in done.stdout + done.stderr
        assert ("pushed to registry.example.org/team" in done.stdout) == (built == "true") == (done.returncode == 0)
