"""Finishes a fresh project: removes what was not chosen and puts the rest under version control.

Standard library only, offline, asks nothing, and may run again over its own work: cruft does.
DVC needs nothing here: `.dvc/` comes with the template, and it is what `dvc init` would have made.
"""

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

# Rendered by Jinja before it runs; see pre_gen_project.py for the two `tojson`.
ANSWERS = json.loads({{cookiecutter | tojson | tojson}})  # type: ignore[arg-type, name-defined] # noqa: F821
PACKAGE = ANSWERS["package"]

SRC = f"src/{PACKAGE}"
HARNESS = f"{SRC}/harness"

# How examples come in. In the rooms of the harness, the name of a file says what it is for.
IMAGES = [
    "conf/augmentation",
    "conf/data/digits.yaml",
    "conf/data/image_folder.yaml",
    "conf/experiment/cnn.yaml",
    "conf/experiment/mobilenet_v3.yaml",
    "conf/experiment/resnet50.yaml",
    "conf/model/cnn.yaml",
    "conf/model/mobilenet_v3.yaml",
    "conf/model/resnet50.yaml",
    "data/weights",
    "docs/pictures.md",
    "docs/requests-pictures.md",
    "requirements/*images.lock",
    f"{SRC}/augmentation.py",
    f"{SRC}/data/images.py",
    f"{SRC}/models/cnn.py",
    f"{SRC}/models/mobilenet_v3.py",
    f"{SRC}/models/resnet50.py",
    f"{SRC}/tests/test_*images.py",
    f"{SRC}/tests/test_augmentation.py",
    f"{HARNESS}/*/images*.py",
    f"{HARNESS}/training/transfer.py",
]
TABLES = [
    "conf/data/csv.yaml",
    "conf/data/parquet.yaml",
    "conf/features",
    "conf/train/exact.yaml",
    "docs/requests-tables.md",
    "docs/tables.md",
    "requirements/*tables.lock",
    "schema",
    f"{SRC}/data/tables.py",
    f"{SRC}/features.py",
    f"{SRC}/tests/test_*tables.py",
    f"{SRC}/tests/test_features.py",
    f"{HARNESS}/*/table*.py",
    f"{HARNESS}/preparation/schema*.py",
    f"{HARNESS}/training/encoding.py",
    f"{HARNESS}/training/linear.py",
]
# What is answered.
CLASSIFICATION = ["docs/classification.md", f"{HARNESS}/*/classification*.py"]
REGRESSION = ["docs/regression.md", f"{HARNESS}/*/regression*.py"]

# A service, and what releases it. A job of CI and a group of packages stand between the others of their file.
SERVICE = [
    ".bentoignore",
    ".github/workflows/retrain.yml",
    "Dockerfile",
    "bentofile.yaml",
    "conf/gates",
    "conf/gates.yaml",
    "docs/image.md",
    "docs/lineage.md",
    "docs/predict.md",
    "docs/release.md",
    "docs/requests-*.md",
    "docs/retrain.md",
    "docs/savedmodel.md",
    "docs/serve.md",
    "make/service.mk",
    "requirements/release.lock",
    "requirements/serve-*.lock",
    f"{SRC}/page.html",
    f"{SRC}/service.py",
    f"{HARNESS}/automation/retrain*.py",
    f"{HARNESS}/batch",
    f"{HARNESS}/lineage.py",
    f"{HARNESS}/packaging",
    f"{HARNESS}/release",
    f"{HARNESS}/serving",
]

# For what lives at GitHub, whatever checks it.
GITHUB = [".github/ISSUE_TEMPLATE", ".github/pull_request_template.md"]

# The one table: question -> choice -> the paths (glob patterns) that only some choices need.
FEATURES: dict[str, dict[str, list[str]]] = {
    "task": {
        "image-classification": [*IMAGES, *CLASSIFICATION],
        "tabular-classification": [
            *TABLES,
            *CLASSIFICATION,
            "conf/data/breast_cancer.yaml",
            "conf/experiment/logistic_regression.yaml",
            "conf/model/logistic_regression.yaml",
            "schema/breast_cancer.yaml",
            f"{SRC}/models/logistic_regression.py",
        ],
        "tabular-regression": [
            *TABLES,
            *REGRESSION,
            "conf/data/diabetes.yaml",
            "conf/experiment/linear_regression.yaml",
            "conf/model/linear_regression.yaml",
            "schema/diabetes.yaml",
            f"{SRC}/models/linear_regression.py",
        ],
    },
    # Each holds what the one before it holds.
    "scope": {"experiment": [], "service": SERVICE, "production": SERVICE},
    "license": {
        "MIT": ["CITATION.cff"],
        "Apache-2.0": ["CITATION.cff"],
        "BSD-3-Clause": ["CITATION.cff"],
        "Proprietary": [],
    },
    "dvc_remote": {
        "s3": ["docs/remote-s3.md", "requirements/remote-s3.lock"],
        "gcs": ["requirements/remote-gcs.lock"],
        "azure": ["requirements/remote-azure.lock"],
        "ssh": ["requirements/remote-ssh.lock"],
    },
    "ci": {
        "github": [*GITHUB, "docs/ci-github.md", ".github/actions", ".github/dependabot.yml", ".github/workflows"],
        "gitlab": ["docs/ci-gitlab.md", ".gitlab", ".gitlab-ci.yml", "renovate.json"],
        "jenkins": ["docs/ci-jenkins.md", "Jenkinsfile"],
        "travis": [*GITHUB, "docs/ci-travis.md", ".travis.yml"],
    },
}
MESSAGE = "Start from template"
PROJECT = Path.cwd()


def prune() -> None:
    """Removes the paths of every choice that was not taken."""
    for question, choices in FEATURES.items():
        taken = paths(choices.get(ANSWERS[question], []))
        for path in paths(pattern for patterns in choices.values() for pattern in patterns) - taken:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            if path.parent != PROJECT:
                with contextlib.suppress(OSError):  # it holds something else, or is gone
                    path.parent.rmdir()


def paths(patterns: Iterable[str]) -> set[Path]:
    """The paths in the project that match at least one of the patterns."""
    return {path for pattern in patterns for path in PROJECT.glob(pattern)}


def git(*arguments: str, folder: Path = PROJECT, told: str = "") -> subprocess.CompletedProcess[str]:
    """Runs git in the project: it may ask nothing, and a repository named by the environment is not meant."""
    environment = {name: value for name, value in os.environ.items() if name not in GIT_REPOSITORY_VARIABLES}
    return subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={**environment, "GIT_TERMINAL_PROMPT": "0"},
        input=told,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )


# `git rev-parse --local-env-vars`, without those that only carry configuration.
GIT_REPOSITORY_VARIABLES = {
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_WORK_TREE",
}


def version_control() -> str | None:
    """Makes the repository and its first commit, and says in one line what could not be done."""
    commit = f'git add -A && git commit -m "{MESSAGE}"'
    if shutil.which("git") is None:
        return f"git was not found, and DVC needs a repository. Once git is installed: git init && {commit}"
    inside = git("rev-parse", "--show-toplevel")
    top = Path(inside.stdout.rstrip("\n")) if inside.returncode == 0 else None
    ours = top is not None and top.samefile(PROJECT)
    # A work tree that ignores this folder (a build folder, say) will never track it: that is not a home.
    if top and not ours and git("check-ignore", "--quiet", ".").returncode != 0:
        return f"This is inside the git repository {top}: none was made here, and nothing was committed."
    if not ours:
        made = git("-c", "init.defaultBranch=main", "init", "--quiet")
        if made.returncode != 0:
            return f"git init failed, and DVC needs a repository: {last_line(made)}"
    if git("rev-parse", "--quiet", "--verify", "HEAD").returncode == 0:
        return None  # generated over an existing project: its history is its owner's
    known = [git("-c", "user.useConfigOnly=true", "var", f"GIT_{who}_IDENT") for who in ("AUTHOR", "COMMITTER")]
    if any(answer.returncode != 0 for answer in known):
        return f"Not committed: git knows no user.name and user.email. After `git config`: {commit}"
    done = git("add", "--all")
    if done.returncode == 0:
        # Neither hooks nor a signature: either could ask for something.
        quiet = ("-c", "commit.gpgSign=false", "-c", f"core.hooksPath={os.devnull}")
        done = git(*quiet, "commit", "--quiet", "--no-verify", "-m", MESSAGE)
    if done.returncode != 0:
        return f"Not committed: git says {last_line(done)}. By hand: {commit}"
    return None


def updated_project() -> Path | None:
    """Gives the project that cruft updates or compares just now, for which this one is rendered and thrown away.

    The hook is not told. cruft is typed in a folder with a .cruft.json then, and renders in a temporary one.
    """
    here = Path(os.environ.get("PWD", "/")).resolve()
    thrown_away = "_commit" in ANSWERS and PROJECT.resolve().is_relative_to(Path(tempfile.gettempdir()).resolve())
    if thrown_away and not PROJECT.resolve().is_relative_to(here) and (here / ".cruft.json").is_file():
        return here
    return None


def remember(project: Path) -> None:
    """Puts the rendered files into the project's object database, where git finds what it merges with.

    `git apply --3way`, which cruft runs, merges only where it has the file as the template made it. After an update
    or two no commit holds that file if its owner has edited it, and a change beside the edit would be rejected.
    """
    if shutil.which("git"):
        files = [str(path) for path in PROJECT.rglob("*") if path.is_file()]
        git("hash-object", "-w", "--no-filters", "--stdin-paths", folder=project, told="\n".join(files))


def last_line(process: subprocess.CompletedProcess[str]) -> str:
    """Gives the last line that a command wrote to its standard error."""
    return (process.stderr.strip().splitlines() or ["nothing"])[-1]


def main() -> None:
    """Prunes, versions, and says what comes next; under `cruft update`, only prunes."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # a path that the terminal cannot show
    prune()
    updated = updated_project()
    if updated:
        remember(updated)
        return
    trouble = version_control()
    if trouble:
        print(trouble)
    if "_commit" in ANSWERS:  # only cruft sets it
        print("cruft keeps its state in .cruft.json: commit it too, `cruft update` wants a clean work tree.")
    # The name alone where it is right, that is from the folder in which the command was typed.
    typed_in = Path(os.environ.get("PWD", "/"))
    from_here = typed_in.is_dir() and typed_in.samefile(PROJECT.parent)
    folder = PROJECT.name if from_here else str(PROJECT)
    print(f"\nNext:\n  cd {shlex.quote(folder)}\n  make setup\n  make repro")


if __name__ == "__main__":
    main()
