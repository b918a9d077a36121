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
    package_python,
    quiet,
    stages_run,
    template,
)

pytestmark = pytest.mark.slow

# 0.1.0, which has no tag: the last commit before the package had a harness.
FIRST = "a8e5b361c7e5f22cfb1a76b249eefdc68eb4fa5a"  # pragma: allowlist secret
MIGRATE = ROOT / "docs" / "migrate.py"
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

from ..harness.contracts import Head, Layers

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
    assert re.search(r"^patience: 5\b", project.read("conf/train/default.yaml"), re.M)
    assert "\nAsks whether digits of our forms can be told apart.\n\n## Start\n" in project.read("README.md")
    assert not project.has_file("conf/debug/profile.yaml")


def newest(tmp_path: Path) -> Path:
    """Clones the template with its history; what lies in the working tree, committed or not, is the newest commit."""
    source = tmp_path / "template"
    execute("git", "clone", "--quiet", ROOT, source, cwd=tmp_path)
    execute("git", "fetch", "--quiet", template(), "HEAD", cwd=source)
    commit = execute("git", "commit-tree", "FETCH_HEAD^{tree}", "-p", "HEAD", "-m", "Now", cwd=source).stdout.strip()
    execute("git", "reset", "--quiet", "--hard", commit, cwd=source)
    return source


def require_history(source: Path, version: str) -> None:
    """Skips the test in a shallow clone."""
    if execute("git", "cat-file", "-e", f"{version}^{{commit}}", cwd=source, check=False).returncode:
        pytest.skip(f"this clone holds no history as far as {version}")


def check_runs(project: BakedProject) -> None:
    """Commits an update, and runs the project's tests, but those with TensorFlow, and its pipeline."""
    project.commit("A newer template")
    project.run("cruft", "check")
    project.run("python", "-m", "pytest", "-q", "-m", "not keras and not slow", env={"PYTHONPATH": "src"})
    done = project.run("dvc", "repro")
    quiet(done)
    assert stages_run(done.stdout) == ["config", "prepare", "train", "explain", "robustness", "evaluate"]
    assert "\n  patience: 5\n" in project.read("params.yaml")
    assert "narrow" in project.read("reports/model_card.md")
    project.commit("Reproduce")
    assert "up to date" in project.run("dvc", "status").stdout
    assert project.git_status() == ""


def check_fresh(project: BakedProject, fresh: BakedProject, changed: set[str]) -> None:
    """Finds the files of a fresh project, as they are there unless the owner has changed them, and the owner's."""
    assert project.files() - {".cruft.json"} == (fresh.files() | changed) - {"conf/debug/profile.yaml"}
    for name in fresh.files() - changed - {"conf/debug/profile.yaml"}:
        assert project.read(name) == fresh.read(name), name


def test_a_project_of_the_last_release_takes_this_version(tmp_path: Path, bake: Callable[..., BakedProject]) -> None:
    source = newest(tmp_path)
    told = execute("git", "describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD^", cwd=source, check=False)
    if told.returncode:
        pytest.skip("this clone has no tag of a release")
    version = told.stdout.strip()
    require_history(source, version)
    project = create(tmp_path / "into", source, "--checkout", version)
    work(project)
    edit(project, "conf/config.yaml", "- model: cnn", "- model: narrow")
    edit(project, "conf/train/default.yaml", "epochs: 60", "epochs: 1")
    project.commit("Our model, quickly")
    project.run("cruft", "update", "--skip-apply-ask")  # the hook of that version may tell what this one's does not
    check_clean(project)
    check_work(project)
    check_fresh(project, bake(), {"README.md", "conf/config.yaml", "conf/train/default.yaml", *OWN})
    check_runs(project)


OLD_MODEL = MODEL.replace("..harness.contracts", "..data.prepared")
SOURCE = '''

def sorted_folder(*, path: str, image_size: Size, channels: Literal[1, 3]) -> Source:
    """Pictures of two classes."""
    files = sorted(Path(path).iterdir(), key=lambda file: sha1(file.name.encode()).digest())
    shape = (*image_size, channels)
    return Source(["a", "b"], shape, len(files), (_read(file, file, ["a", "b"], shape, 9) for file in files))
'''


OLD_TRAIN = "defaults:\n  - default\n  - _self_\n_target_: my_experiment.training.gradient_descent\nepochs: 3\n"
POOLING = 'keras.layers.MaxPooling2D(padding="same")(x)'
SOURCES, CNN, SERVICE, CARD = (
    f"src/my_experiment/{name}.py" for name in ("data/images", "models/cnn", "service", "card")
)
ENDPOINT = (
    '    @bentoml.api\n    def classes(self) -> list[str]:\n        """Says what it knows."""\n        return ["a"]\n'
)


def edit_the_first_version(project: BakedProject) -> None:
    """Does in a project of 0.1.0 what owners do: a model, a source and a training of their own, edits of all kinds."""
    work(project)
    (project.path / "src/my_experiment/models/narrow.py").write_text(OLD_MODEL)
    (project.path / "conf/train/ours.yaml").write_text(OLD_TRAIN)
    (project.path / "release.sh").write_text("python -m my_experiment.registry promote\n")
    edit(project, "conf/config.yaml", "- model: cnn", "- model: narrow")
    edit(project, "conf/train/default.yaml", "epochs: 60", "epochs: 1")
    edit(project, CNN, POOLING, f"keras.layers.BatchNormalization()({POOLING})")
    edit(project, SOURCES, "root = Path(path)\n", "root = Path(path).expanduser()\n")
    edit(project, SOURCES, "from pathlib import Path\n", "from hashlib import sha1\nfrom pathlib import Path\n")
    (project.path / SOURCES).write_text(project.read(SOURCES) + SOURCE)
    edit(project, SERVICE, "    @bentoml.on_deployment\n", f"{ENDPOINT}\n    @bentoml.on_deployment\n")
    edit(project, CARD, '"# Model card"', '"# Model card of our forms"')
    project.commit("Our model, quickly")


def test_a_project_of_0_1_0_comes_over_with_its_owners_edits(tmp_path: Path, bake: Callable[..., BakedProject]) -> None:
    source = newest(tmp_path)
    require_history(source, FIRST)
    project = create(tmp_path / "into", source, "--checkout", FIRST)
    edit_the_first_version(project)
    refused = project.run("python", MIGRATE, check=False)
    assert refused.returncode == 1 and re.fullmatch(r"error: no update is under way: .*\n", refused.stderr)

    project.run("cruft", "update", "--skip-apply-ask")
    done = project.run("python", MIGRATE)
    check_clean(project)
    check_work(project)
    assert "\nepochs: 1 # maximum; " in project.read("conf/train/default.yaml")
    assert project.read("conf/train/ours.yaml") == OLD_TRAIN.replace("training.", "harness.training.fit.")
    assert f"x = keras.layers.BatchNormalization()({POOLING})\n" in project.read(CNN)
    assert ENDPOINT in project.read(SERVICE)
    card = CARD.replace("card", "harness/evaluation/card")
    assert '\n        "# Model card of our forms",\n        heading(workspace),\n' in project.read(card)
    text = project.read(SOURCES)
    assert "root = Path(path).expanduser()\n    if not root.is_dir():" in text and text.endswith(SOURCE)
    assert package_python(project, "from my_experiment.data.images import _read, sha1; print(sha1().name)") == "sha1\n"
    assert re.search(r"^look at +release.sh:1 +python -m my_experiment registry$", done.stdout, re.M)
    owners = {"README.md", "conf/config.yaml", "conf/train/default.yaml", CNN, SERVICE, SOURCES, card, *OWN}
    check_fresh(project, bake(), owners | {"release.sh", "conf/train/ours.yaml"})
    project.run("git", "add", "--all")
    project.run("python", MIGRATE)  # once more
    assert project.run("git", "diff").stdout == ""
    check_runs(project)
    assert "\n---\n\n# Model card of our forms\n" in project.read("reports/model_card.md")


def test_an_edit_that_contradicts_the_new_layout_is_marked_and_named(tmp_path: Path) -> None:
    source = newest(tmp_path)
    require_history(source, FIRST)
    project = create(tmp_path / "into", source, "--checkout", FIRST)
    edit(project, SOURCES, "channels: 1 for grey, 3 for colour.", "channels: 1 for grey, 3 for RGB.")
    project.commit("Ours")
    project.run("cruft", "update", "--skip-apply-ask")
    done = project.run("python", MIGRATE, check=False)
    assert done.returncode == 1, done.stdout
    assert set(re.findall(rf"^CONFLICT +{SOURCES}: (\w+) ", done.stdout, re.M)) == {"digits", "image_folder"}
    text = project.read(SOURCES)
    assert text.count("<<<<<<<") == 2 and "3 for RGB.\n" in text and "1 for gray, 3 for color.\n" in text
    assert not project.has_file(f"{SOURCES}.rej")
    # A conflict that its owner has solved stays solved.
    solved = re.sub(r"<<<<<<< .*\n((?:.*\n)*?)=======\n(?:.*\n)*?>>>>>>> .*\n", r"\1", text)
    (project.path / SOURCES).write_text(solved)
    project.run("python", MIGRATE)
    assert project.read(SOURCES) == solved


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
            "conf/train/default.yaml": ("threads: 4", "threads: 4 # (a number)"),
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
    ({"scope": "service"}, {"scope": "production", "deploy": "ansible"}),
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
