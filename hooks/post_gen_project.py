"""Finishes a new project: removes files of other choices, commits the rest.

It uses the standard library only, no network and no prompts, and may run again on its result, as cruft does.
`dvc init` is not needed: `.dvc/` is part of the template.
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

# Inputs. In the packages of the harness, a file for one kind of input or target has its name.
IMAGES = [
    "conf/augmentation",
    "conf/data/digits.yaml",
    "conf/data/image_folder.yaml",
    "conf/experiment/cnn.yaml",
    "conf/experiment/driving.yaml",
    "conf/experiment/mobilenet_v3.yaml",
    "conf/experiment/resnet50.yaml",
    "conf/model/cnn.yaml",
    "conf/model/mobilenet_v3.yaml",
    "conf/model/resnet50.yaml",
    "data/weights",
    "docs/driving.md",
    "docs/pictures.md",
    "docs/requests-pictures.md",
    "notebooks/images.py",
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
    "conf/experiment/gradient_boosting.yaml",
    "conf/features",
    "conf/model/gradient_boosting.yaml",
    "conf/train/boosting.yaml",
    "conf/train/solver.yaml",
    "docs/privacy.md",
    "docs/requests-tables.md",
    "docs/table-models.md",
    "docs/tables.md",
    "notebooks/tables.py",
    "requirements/*tables.lock",
    "schema",
    f"{SRC}/data/tables.py",
    f"{SRC}/features.py",
    f"{SRC}/models/gradient_boosting.py",
    f"{SRC}/tests/test_*tables.py",
    f"{SRC}/tests/test_features.py",
    f"{HARNESS}/*/table*.py",
    f"{HARNESS}/preparation/schema*.py",
    f"{HARNESS}/training/encoding.py",
    f"{HARNESS}/training/linear.py",
]
# Targets.
CLASSIFICATION = ["docs/classification.md", f"{HARNESS}/*/classification*.py"]
REGRESSION = ["docs/regression.md", f"{HARNESS}/*/regression*.py"]

# Service and release. Their jobs of CI and groups of packages are conditional parts of files that all projects have.
SERVICE = [
    ".bentoignore",
    ".github/workflows/retrain.yml",
    "Dockerfile",
    "bentofile.yaml",
    "conf/gates",
    "conf/gates.yaml",
    "docs/audit.md",
    "docs/image.md",
    "docs/lineage.md",
    "docs/log.md",
    "docs/predict.md",
    "docs/release.md",
    "docs/requests-*.md",
    "docs/retrain.md",
    "docs/savedmodel.md",
    "docs/serve.md",
    "docs/why.md",
    "make/service.mk",
    "requirements/release.lock",
    f"{SRC}/page.html",
    f"{SRC}/service.py",
    f"{HARNESS}/audit",
    f"{HARNESS}/automation/retrain*.py",
    f"{HARNESS}/batch",
    f"{HARNESS}/capture",
    f"{HARNESS}/core/environment.py",
    f"{HARNESS}/lineage.py",
    f"{HARNESS}/packaging",
    f"{HARNESS}/release",
    f"{HARNESS}/serving",
]

# Watching a service, and training on its answers.
PRODUCTION = [
    *SERVICE,
    "conf/monitoring.yaml",
    "docs/encryption.md",
    "docs/monitoring.md",
    "docs/runbook.md",
    "docs/feedback.md",
    "docs/keys.md",
    "docs/proxy.md",
    "docs/recovery.md",
    "docs/security.md",
    "make/production.mk",
    "monitoring",
    "requirements/monitoring.lock",
    "requirements/serve-production-*.lock",
    f"{HARNESS}/feedback",
    f"{HARNESS}/monitoring",
    f"{HARNESS}/protection",
    f"{SRC}/tests/test_monitoring.py",
]

# Delivery: what a release and its rollout are, wherever they go.
DELIVERY = [
    ".github/workflows/deploy.yml",
    "conf/delivery.yaml",
    "docs/chain.md",
    "docs/delivery.md",
    "deploy",
    "docs/judging.md",
    "make/delivery.mk",
    f"{HARNESS}/delivery",
    f"{SRC}/tests/test_delivery.py",
]
# To plain hosts, by either tool.
HOSTS = [
    *DELIVERY,
    "deploy/hosts",
    "deploy/hosts.yaml",
    "docs/hosts.md",
    "docs/operations.md",
    f"{HARNESS}/delivery/fleet.py",
    f"{HARNESS}/delivery/host.py",
    f"{HARNESS}/delivery/hosts.py",
    f"{HARNESS}/delivery/layout.py",
    f"{HARNESS}/delivery/peers.py",
    f"{HARNESS}/delivery/rollout.py",
    f"{HARNESS}/delivery/shadow.py",
]
KUBERNETES = [
    *DELIVERY,
    "deploy/kustomization.yaml",
    "docs/cluster-work.md",
    "docs/gitops.md",
    "docs/kubernetes.md",
    "kubernetes",
    "requirements/cluster.lock",
    f"{HARNESS}/delivery/kubernetes.py",
]

# Templates of issues and pull requests, for the CI providers of repositories on GitHub.
GITHUB = [".github/ISSUE_TEMPLATE", ".github/pull_request_template.md"]

# Question -> choice -> the paths (glob patterns) that only some choices need.
FEATURES: dict[str, dict[str, list[str]]] = {
    "task": {
        "image-classification": [*IMAGES, *CLASSIFICATION],
        "tabular-classification": [
            *TABLES,
            *CLASSIFICATION,
            "conf/data/breast_cancer.yaml",
            "conf/data/credit.yaml",
            "conf/experiment/credit.yaml",
            "conf/experiment/diagnosis.yaml",
            "conf/experiment/logistic_regression.yaml",
            "conf/model/logistic_regression.yaml",
            "docs/credit.md",
            "docs/diagnosis.md",
            "schema/breast_cancer.yaml",
            "schema/credit.yaml",
            f"{SRC}/data/credit.py",
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
    # Each scope includes the previous one.
    "scope": {"experiment": [], "service": [*SERVICE, "requirements/serve-[it]*.lock"], "production": PRODUCTION},
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
    "deploy": {
        "ansible": [*HOSTS, "deploy/ansible"],
        "puppet": [*HOSTS, "deploy/puppet"],
        "kubernetes": KUBERNETES,
    },
}
MESSAGE = "Start from template"
PROJECT = Path.cwd()


def prune() -> None:
    """Removes the paths of all choices that were not taken."""
    for question, choices in FEATURES.items():
        taken = paths(choices.get(ANSWERS[question], []))
        for path in paths(pattern for patterns in choices.values() for pattern in patterns) - taken:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            if path.parent != PROJECT:
                with contextlib.suppress(OSError):  # the folder is not empty, or is gone
                    path.parent.rmdir()


def paths(patterns: Iterable[str]) -> set[Path]:
    """The paths in the project that match at least one of the patterns."""
    return {path for pattern in patterns for path in PROJECT.glob(pattern)}


def git(*arguments: str, folder: Path = PROJECT, text: str = "") -> subprocess.CompletedProcess[str]:
    """Runs git without prompts and without the environment's repository variables."""
    environment = {name: value for name, value in os.environ.items() if name not in GIT_REPOSITORY_VARIABLES}
    return subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={**environment, "GIT_TERMINAL_PROMPT": "0"},
        input=text,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )


# The output of `git rev-parse --local-env-vars`, without variables that only carry configuration.
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
    """Creates repository and first commit; returns a line if that fails."""
    commit = f'git add -A && git commit -m "{MESSAGE}"'
    if shutil.which("git") is None:
        return f"git was not found, and DVC needs a repository. Once git is installed: git init && {commit}"
    inside = git("rev-parse", "--show-toplevel")
    top = Path(inside.stdout.rstrip("\n")) if inside.returncode == 0 else None
    is_root = top is not None and top.samefile(PROJECT)
    # A repository that ignores this folder, for instance as a build folder, will never track it, and does not count.
    if top and not is_root and git("check-ignore", "--quiet", ".").returncode != 0:
        return f"The project is inside the git repository {top}: no repository was created, nothing was committed."
    if not is_root:
        created = git("-c", "init.defaultBranch=main", "init", "--quiet")
        if created.returncode != 0:
            return f"git init failed, and DVC needs a repository: {last_line(created)}"
    if git("rev-parse", "--quiet", "--verify", "HEAD").returncode == 0:
        return None  # generated over an existing project, whose owner commits
    identities = [git("-c", "user.useConfigOnly=true", "var", f"GIT_{who}_IDENT") for who in ("AUTHOR", "COMMITTER")]
    if any(identity.returncode != 0 for identity in identities):
        return f"Not committed: git has no user.name and user.email. After `git config`: {commit}"
    done = git("add", "--all")
    if done.returncode == 0:
        # Without hooks and signature, which could prompt.
        quiet = ("-c", "commit.gpgSign=false", "-c", f"core.hooksPath={os.devnull}")
        done = git(*quiet, "commit", "--quiet", "--no-verify", "-m", MESSAGE)
    if done.returncode != 0:
        return f"Not committed: git says {last_line(done)}. By hand: {commit}"
    return None


def updated_project() -> Path | None:
    """The project that cruft updates or compares, if any.

    cruft does not name it to the hook. But then cruft runs in a folder with a .cruft.json, and renders this project in
    a temporary folder.
    """
    here = Path(os.environ.get("PWD", "/")).resolve()
    temporary = "_commit" in ANSWERS and PROJECT.resolve().is_relative_to(Path(tempfile.gettempdir()).resolve())
    if temporary and not PROJECT.resolve().is_relative_to(here) and (here / ".cruft.json").is_file():
        return here
    return None


def remember(project: Path) -> None:
    """Stores the rendered files in the project's git object database.

    `git apply --3way`, which cruft runs, merges a file only if git has the file as the template rendered it. After an
    update or two, no commit holds that version of an edited file, and a change beside the edit would be rejected.
    """
    if shutil.which("git"):
        files = [str(path) for path in PROJECT.rglob("*") if path.is_file()]
        git("hash-object", "-w", "--no-filters", "--stdin-paths", folder=project, text="\n".join(files))


def last_line(process: subprocess.CompletedProcess[str]) -> str:
    """The last line of a command's standard error."""
    return (process.stderr.strip().splitlines() or ["nothing"])[-1]


def main() -> None:
    """Prunes, commits, prints the next steps; under `cruft update`, only prunes."""
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
        print("cruft keeps its state in .cruft.json: commit it too, `cruft update` requires a clean work tree.")
    # The relative path, if the command was typed in the parent folder.
    typed_in = Path(os.environ.get("PWD", "/"))
    from_here = typed_in.is_dir() and typed_in.samefile(PROJECT.parent)
    folder = PROJECT.name if from_here else str(PROJECT)
    print(f"\nNext:\n  cd {shlex.quote(folder)}\n  make setup\n  make repro")


if __name__ == "__main__":
    main()
