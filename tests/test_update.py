"""A project takes a newer version of the template, or other answers, and keeps what its owner did.

The real cruft on real repositories. Either the template as it is now is the newer version, and the earlier one comes
from its history; or it is the earlier one, and the newer one is made of it by a change such as releases make.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import (
    ROOT,
    TEMPLATE,
    BakedProject,
    Copy,
    Result,
    cookiecutter,
    edit,
    execute,
    quiet,
    stages_run,
    template,
)

# Before the template had a version: the last commit without CI.
EARLIEST = "c572d95b7d23852f4dab4dee515e2ad1238c1a0a"  # pragma: allowlist secret
CONFLICT = re.compile(r"^(<<<<<<<|>>>>>>>) ", re.M)


def origin(tmp_path: Path) -> Path:
    """Makes a repository of the template that a test may add versions to."""
    source = tmp_path / "template"
    execute("git", "clone", "--quiet", template(), source, cwd=tmp_path)
    return source


def release(source: Path, **changes: tuple[str, str] | None) -> None:
    """Commits a newer version of the template: replaces text in files of the generated project, or removes them."""
    for name, change in changes.items():
        path = source / TEMPLATE.name / name
        if change is None:
            path.unlink()
            continue
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        assert change[0] in text, name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace(*change, 1) if text else change[1], encoding="utf-8")
    execute("git", "add", "--all", cwd=source)
    execute("git", "commit", "--quiet", "--message", "A newer version", cwd=source)


def create(into: Path, source: Path, *options: str, **answers: str) -> BakedProject:
    """Makes a project with cruft, and commits what cruft tells to commit."""
    into.mkdir()
    context = json.dumps(answers)
    execute("cruft", "create", source, "--no-input", "--extra-context", context, *options, cwd=into)
    (path,) = into.iterdir()
    project = BakedProject(path)
    project.link_venv()
    project.commit("Follow the template")
    return project


def update(project: BakedProject, *options: str) -> Result:
    """Runs `cruft update` without questions; it says nothing of folders that are gone when one reads it."""
    done = project.run("cruft", "update", "--skip-apply-ask", *options)
    assert "Next:" not in done.stdout and "commit it too" not in done.stdout
    return done


def check_clean(project: BakedProject) -> None:
    """Finds no conflict: neither in git nor in a file nor beside one."""
    assert not re.search(r"^(U.|.U|AA|DD) ", project.git_status(), re.M)
    assert not [name for name in project.files() if name.endswith((".rej", ".orig"))]
    for name in project.files():
        assert not CONFLICT.search((project.path / name).read_text(encoding="utf-8", errors="replace")), name


MODEL = '''"""The owner's own model."""

from typing import TYPE_CHECKING

from ..data.prepared import Head, Layers

if TYPE_CHECKING:
    import keras


def narrow(inputs: Layers, head: Head, *, units: int, dropout: float) -> "keras.Model":
    """Gives one small layer."""
    import keras

    entry, x = inputs()
    x = keras.layers.Dense(units, activation="relu")(keras.layers.Flatten()(x))
    return keras.Model(entry, head(keras.layers.Dropout(dropout)(x)))
'''
OWN = {
    "src/my_experiment/models/narrow.py": MODEL,
    "conf/model/narrow.yaml": "_target_: my_experiment.models.narrow.narrow\nunits: 8\ndropout: 0.1\n",
    "docs/notes.md": "What we tried.\n",
}


def work(project: BakedProject) -> None:
    """Does what owners do: a model and its configuration, a parameter, words in the README, a file removed."""
    for name, text in OWN.items():
        (project.path / name).parent.mkdir(exist_ok=True)
        (project.path / name).write_text(text)
    edit(project, "conf/train/default.yaml", "patience: 8", "patience: 5")
    edit(project, "README.md", "## Start\n", "Asks whether digits of our forms can be told apart.\n\n## Start\n")
    project.run("git", "rm", "--quiet", "conf/debug/profile.yaml")
    project.commit("Our work")


def check_work(project: BakedProject) -> None:
    """Finds that work again."""
    for name, text in OWN.items():
        assert project.read(name) == text
    assert "\npatience: 5\n" in project.read("conf/train/default.yaml")
    assert "\nAsks whether digits of our forms can be told apart.\n\n## Start\n" in project.read("README.md")
    assert not project.has_file("conf/debug/profile.yaml")


def earlier(source: Path) -> str:
    """Gives the version before this one: the last release, or what came before the first."""
    told = execute("git", "describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD^", cwd=source, check=False)
    return told.stdout.strip() if told.returncode == 0 else EARLIEST


def test_a_project_of_the_last_release_takes_this_version(tmp_path: Path, bake: Callable[..., BakedProject]) -> None:
    source = tmp_path / "template"
    execute("git", "clone", "--quiet", ROOT, source, cwd=tmp_path)
    version = earlier(source)
    if execute("git", "cat-file", "-e", f"{version}^{{commit}}", cwd=source, check=False).returncode:
        pytest.skip(f"this clone holds no history as far as {version}")
    # What lies in the working tree, committed or not, is the newest commit there.
    execute("git", "fetch", "--quiet", template(), "HEAD", cwd=source)
    commit = execute("git", "commit-tree", "FETCH_HEAD^{tree}", "-p", "HEAD", "-m", "Now", cwd=source).stdout.strip()
    execute("git", "reset", "--quiet", "--hard", commit, cwd=source)

    project = create(tmp_path / "into", source, "--checkout", version)
    work(project)
    edit(project, "conf/config.yaml", "- model: cnn", "- model: narrow")
    edit(project, "conf/train/default.yaml", "epochs: 60", "epochs: 1")
    project.commit("Our model, quickly")
    # The hook of that version may tell what this one's does not.
    project.run("cruft", "update", "--skip-apply-ask")
    check_clean(project)
    check_work(project)
    fresh = bake()
    changed = {"README.md", "conf/config.yaml", "conf/train/default.yaml", "conf/debug/profile.yaml"}
    assert project.files() - {".cruft.json"} == (fresh.files() | OWN.keys()) - {"conf/debug/profile.yaml"}
    for name in fresh.files() - changed:
        assert project.read(name) == fresh.read(name), name
    assert json.loads(project.read(".cruft.json"))["commit"] == commit
    project.commit("A newer template")
    project.run("cruft", "check")
    # It works: the project's tests, but those with TensorFlow, and the pipeline, which
    # trains the owner's model.
    project.run("python", "-m", "pytest", "-q", "-m", "not keras and not slow", env={"PYTHONPATH": "src"})
    done = project.run("dvc", "repro")
    quiet(done)
    assert stages_run(done.stdout) == ["config", "prepare", "train", "evaluate"]
    assert "\n  patience: 5\n" in project.read("params.yaml")
    assert "narrow" in project.read("reports/model_card.md")
    project.commit("Reproduce")
    assert "up to date" in project.run("dvc", "status").stdout
    assert project.git_status() == ""


def test_a_reproduced_project_runs_what_the_update_concerns(
    tmp_path: Path, quick_project: BakedProject, copy: Copy
) -> None:
    source = origin(tmp_path)
    project = copy(quick_project)
    project.run("cruft", "link", source, "--no-input")
    project.commit("Follow the template")
    release(
        source,
        **{
            "src/{{cookiecutter.package}}/harness/evaluation/card.py": ('"""', '"""As of the newer version: '),
            "conf/train/default.yaml": ("threads: null", "threads: null # (of this machine)"),
            "Makefile": ("repro: ## dvc repro:", "repro: ## `dvc repro`:"),
        },
    )
    metrics = project.read("reports/metrics.json")
    update(project)
    check_clean(project)
    assert "\nepochs: 3 #" in project.read("conf/train/default.yaml") and "- model: mlp" in project.read(
        "conf/config.yaml"
    )
    done = project.run("dvc", "repro")
    quiet(done)
    assert stages_run(done.stdout) == ["config", "evaluate"]
    assert project.read("reports/metrics.json") == metrics
    project.commit("A newer template")
    assert "up to date" in project.run("dvc", "status").stdout
    assert project.git_status() == ""


def test_the_next_update_merges_in_another_clone(tmp_path: Path) -> None:
    """No commit there holds the files as the version before made them; the hook brings them along."""
    source = origin(tmp_path)
    first = create(tmp_path / "into", source)
    work(first)
    name = "conf/train/default.yaml"
    release(source, **{name: ("defaults:", "# How to fit.\ndefaults:")})
    update(first)
    check_clean(first)
    first.commit("Second version")
    # Two lines above the owner's: a patch would be rejected, a merge is not.
    release(source, **{name: ("learning_rate: 0.001", "learning_rate: 0.002")})
    execute("git", "clone", "--quiet", f"file://{first.path}", tmp_path / "clone", cwd=tmp_path)
    project = BakedProject(tmp_path / "clone")
    done = update(project)
    assert "rej" not in done.stdout and "error" not in done.stderr
    check_clean(project)
    check_work(project)
    assert "\nlearning_rate: 0.002\n" in project.read(name) and project.read(name).startswith("# How to fit.\n")
    assert set(project.git_status().splitlines()) == {" M .cruft.json", f"M  {name}"}


def test_where_both_have_changed_the_same_nothing_is_lost_and_nothing_slips_through(tmp_path: Path) -> None:
    source = origin(tmp_path)
    project = create(tmp_path / "into", source)
    edit(project, "conf/train/default.yaml", "batch_size: 32", "batch_size: 48")
    lock = project.read("requirements/serve-images.lock").replace("numpy==", "numpy==8.")
    (project.path / "requirements/serve-images.lock").write_text(lock)  # as `make lock` writes another version
    project.commit("Ours")
    release(
        source,
        **{
            "conf/train/default.yaml": ("batch_size: 32", "batch_size: 64"),
            "requirements/serve-images.lock": ("numpy==", "numpy==9."),
            "conf/model/newest.yaml": ("", "new: 1\n"),
        },
    )
    update(project)
    assert project.has_file("conf/model/newest.yaml")
    text = project.read("conf/train/default.yaml")
    assert "\nbatch_size: 48\n" in text and "\nbatch_size: 64\n" in text and CONFLICT.search(text)
    assert project.read("requirements/serve-images.lock") == lock, "a lock can be installed, whatever happens"
    unmerged = {line for line in project.git_status().splitlines() if line.startswith("UU")}
    assert unmerged == {"UU conf/train/default.yaml", "UU requirements/serve-images.lock"}
    # Committing without a look is refused.
    project.run("git", "add", "--all")
    found = project.run("pre-commit", "run", "merge-conflict", check=False)
    assert found.returncode == 1 and "conf/train/default.yaml" in found.stdout


def test_what_the_template_removes_and_the_owner_changed_stays(tmp_path: Path) -> None:
    source = origin(tmp_path)
    project = create(tmp_path / "into", source)
    (project.path / "conf/debug/limit.yaml").write_text(project.read("conf/debug/limit.yaml") + "# ours\n")
    project.commit("Ours")
    release(
        source,
        **{
            "conf/debug/limit.yaml": None,
            "conf/debug/overfit.yaml": None,
            ".dvcignore": ("/build/\n", "/build/\n/newer/\n"),
        },
    )
    assert "conf/debug/limit.yaml" in update(project).stderr
    check_clean(project)
    assert project.read("conf/debug/limit.yaml").endswith("# ours\n")
    assert not project.has_file("conf/debug/overfit.yaml")
    assert "/newer/\n" in project.read(".dvcignore")


# From which answers to which: everything that a project can get later.
LATER = [
    ({"ci": "none"}, {"ci": "github"}),
    ({"scope": "experiment"}, {"scope": "service"}),
    ({"scope": "service"}, {"scope": "production"}),
    (
        {"ci": "github", "license": "Proprietary"},
        {"ci": "gitlab", "license": "MIT", "dvc_remote": "s3", "dvc_remote_url": "s3://bucket/data"},
    ),
]


@pytest.mark.parametrize(("first", "then"), LATER, ids=lambda answers: ",".join(f"{k}={v}" for k, v in answers.items()))
def test_answers_can_be_changed_later(tmp_path: Path, first: dict[str, str], then: dict[str, str]) -> None:
    project = create(tmp_path / "into", origin(tmp_path), **first)
    work(project)
    if "dvc_remote" in then:  # one answer asks for another: told in one line, and nothing done
        wrong = json.dumps({"dvc_remote": then["dvc_remote"]})
        done = project.run("cruft", "update", "--skip-apply-ask", "--variables-to-update", wrong, check=False)
        assert done.returncode != 0 and "dvc_remote_url: '../my-experiment-dvc'" in done.stderr
        assert project.git_status() == ""
    update(project, "--variables-to-update", json.dumps(then))
    check_clean(project)
    check_work(project)
    other = tmp_path / "other"
    other.mkdir()
    cookiecutter(other, **{**first, **then})  # type: ignore[arg-type]
    fresh = BakedProject(other / "my-experiment")
    mine = OWN.keys() | {".cruft.json"}
    assert project.files() - mine == fresh.files() - {"conf/debug/profile.yaml"}
    for name in fresh.files() - {"conf/debug/profile.yaml", "conf/train/default.yaml", "README.md"}:
        assert project.read(name) == fresh.read(name), name
    project.commit("Other answers")
    # The next update asks nothing again: the answers are kept.
    assert "Nothing to do" in update(project).stdout
