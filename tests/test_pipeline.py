"""The generated pipeline, run for real by DVC: what re-runs, what reproduces, what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import (
    OUTPUTS,
    BakedProject,
    Copy,
    digests,
    edit,
    package_python,
    quiet,
    stages_run,
    work_off_queue,
)
from processes import kill

pytestmark = pytest.mark.pipeline


def test_default_reaches_the_promised_accuracy_and_repeats_nothing(reproduced_project: BakedProject) -> None:
    metrics = json.loads(reproduced_project.read("reports/metrics.json"))
    low, high = json.loads(reproduced_project.read("reports/intervals.json"))["accuracy"]
    assert metrics["accuracy"] >= 0.98
    assert low <= metrics["accuracy"] <= high
    assert set(metrics) == {"accuracy", "macro_f1", "log_loss", "roc_auc", "ece", "baseline_accuracy"}
    again = reproduced_project.run("dvc", "repro")
    assert stages_run(again.stdout) == []
    assert reproduced_project.git_status() == ""
    assert "Running" not in reproduced_project.run("dvc", "status").stdout


# What is edited below src/my_experiment -> the stages that run again, and no others.
RERUNS = {
    "stages/config.py": {"config"},
    "stages/prepare.py": {"config", "prepare"},
    "stages/train.py": {"config", "train"},
    "stages/explain.py": {"config", "explain"},
    "stages/evaluate.py": {"config", "evaluate"},
    "stages/robustness.py": {"config", "robustness"},
    "data": {"config", "prepare"},
    "models": {"config", "train"},
    "augmentation.py": {"config", "train"},
    "service.py": set(),
    "tests": set(),
    "__main__.py": set(),
    "harness/automation": set(),
    "harness/notebook": set(),
    "harness/lineage.py": set(),
    "harness/packaging": set(),
    "harness/release": set(),
    "harness/serving": set(),
    "harness/executors": set(),
    "harness/batch": set(),
    "harness/audit": set(),
    "harness/capture": set(),
    "harness/drift": {"evaluate"},
    "harness/sweep": set(),
    "harness/configuration.py": {"config"},
    "harness/evaluation/card.py": {"evaluate"},
    "harness/evaluation/plots.py": {"explain", "robustness", "evaluate"},
    "harness/evaluation": {"config", "explain", "robustness", "evaluate"},
    "harness/explanation": {"config", "explain"},
    "harness/explanation/report.py": {"explain"},
    "harness/robustness": {"robustness"},
    "harness/tracking": {"config"},
    "harness/tracking/log.py": set(),
    "harness/tracking/machine.py": set(),
    "harness/tracking/outcome.py": set(),
    "harness/tracking/proposal.py": set(),
    "harness/tracking/verdict.py": set(),
    "harness/preparation": {"config", "prepare"},
    "harness/training": {"config", "train", "robustness"},
    "harness/prepared": {"prepare", "train", "explain", "robustness", "evaluate"},
    "harness/exported": {"train", "explain", "robustness", "evaluate"},
    "harness/exported/attribution.py": set(),
    "harness/exported/explainer.py": set(),
    "harness/targets": {"config", "train", "explain", "robustness", "evaluate"},
    "harness/inputs": {"prepare"},
    "harness/contracts.py": {"prepare", "train", "explain", "robustness", "evaluate"},
    "harness/core/text.py": {"explain", "robustness", "evaluate"},
    "harness/core/commands.py": set(),
    "harness/core/imports.py": {"train", "explain", "robustness"},
    "harness/core/programs.py": {"config"},
}


def test_an_edit_of_a_room_runs_its_stages_again_and_no_others(reproduced_project: BakedProject, copy: Copy) -> None:
    """DVC says what it would run; nothing is trained."""
    project = copy(reproduced_project)
    rooms = {path.name for path in (project.path / "src/my_experiment/harness").glob("[!_]*")} - {"core"}
    assert {name.split("/")[1] for name in RERUNS if name.startswith("harness/")} - {"core"} == rooms
    code = f"""
import json
from pathlib import Path
from dvc.repo import Repo

told = {{}}
for name in {list(RERUNS)!r}:
    place = Path("src/my_experiment", name)
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    before = {{file: file.read_bytes() for file in files}}
    for file in files:
        file.write_bytes(before[file] + b"# edited\\n")
    told[name] = sorted(Repo().status())
    for file in files:
        file.write_bytes(before[file])
print("told " + json.dumps(told))
"""
    (line,) = [line for line in package_python(project, code).splitlines() if line.startswith("told ")]
    assert json.loads(line.removeprefix("told ")) == {name: sorted(stages) for name, stages in RERUNS.items()}


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("conf/config.yaml", "confidence: 0.95", "confidence: 0.9", ["config", "robustness", "evaluate"]),
        # Three epochs are too few for patience: the same model comes out, and only the card has news.
        ("conf/train/default.yaml", "patience: 8", "patience: 9", ["config", "train", "evaluate"]),
        ("conf/data/image_folder.yaml", "channels: 3", "channels: 1", ["config"]),
        ("conf/model/cnn.yaml", "units: 128", "units: 64", ["config"]),
    ],
)
def test_an_edit_of_conf_runs_the_stages_concerned_and_only_these(
    quick_project: BakedProject, copy: Copy, file: str, old: str, new: str, expected: list[str]
) -> None:
    project = copy(quick_project)
    edit(project, file, old, new)
    assert stages_run(project.run("dvc", "repro").stdout) == expected


def test_an_experiment_trains_what_it_says(quick_project: BakedProject, copy: Copy) -> None:
    project = copy(quick_project)
    overrides = ["-S", "model=mlp", "-S", "model.units=[24]", "-S", "train.learning_rate=0.03"]
    done = project.run("dvc", "exp", "run", "--name", "wide", *overrides)
    assert stages_run(done.stdout) == ["config", "train", "explain", "robustness", "evaluate"]
    # What was trained, not what params.yaml says: the weights are those that the functions give when they are
    # called directly with these values.
    code = """
import numpy as np
from my_experiment.harness import prepared
from my_experiment.harness.core import config
from my_experiment.harness.prepared import images
from my_experiment.harness.training import fit, kernels
kernels.choose(portable=True)
import keras  # after the choice
manifest = prepared.manifest()
inputs = images.inputs(manifest, config.read()["augmentation"])
section = dict(_target_="my_experiment.models.mlp.mlp", units=[24], dropout=0.3)
saved = np.load("models/weights.npz")
for rate in (0.03, 0.02):
    keras.utils.clear_session()  # layers are numbered within a process
    fitted = fit.gradient_descent(section, inputs, manifest, seed=0, epochs=3, batch_size=32, learning_rate=rate,
                                       monitor="val_loss", patience=8)
    print(all(np.array_equal(saved[name], weights) for name, weights in fitted.weights.items()))
"""
    assert package_python(project, code).split()[-2:] == ["True", "False"]
    # The experiment stays in the workspace until conf/ is edited; nothing pretends to be stale.
    assert stages_run(project.run("dvc", "repro").stdout) == []
    runs = package_python(
        project,
        "from my_experiment.harness.tracking import store as t; c = t.client();"
        "print([r.data.tags.get('dvc_exp_name') for r in c.search_runs([t.experiment(c)])])",
    )
    assert "'wide'" in runs


def test_a_queued_sweep_runs_each_of_its_points(quick_project: BakedProject, copy: Copy) -> None:
    project = copy(quick_project)
    sweep = ["-S", "train.learning_rate=0.002,0.02", "-S", "train.epochs=1"]
    project.run("dvc", "exp", "run", "--queue", *sweep)
    # Not `dvc exp run --run-all --jobs 2`: it waits for ever for one of its two workers (DVC 3.67).
    project.run("dvc", "queue", "start", "--jobs", "2")
    work_off_queue(project, 2)
    shown = json.loads(project.run("dvc", "exp", "show", "--json").stdout)
    experiments = [e for row in shown for e in (row.get("experiments") or [])]
    revisions = [e["revs"][0] for e in experiments]
    assert len(revisions) == 2
    models, points = set(), set()
    for revision in revisions:
        data = revision["data"]
        params = data["params"]["params.yaml"]["data"]
        points.add((params["model"]["_target_"].rsplit(".", 1)[-1], params["train"]["learning_rate"]))
        models.add(data["outs"]["models/model.onnx"]["hash"])
    assert points == {("mlp", rate) for rate in (0.002, 0.02)}
    assert len(models) == 2
    # Two processes met one SQLite file; each left its run there, in the project and not in a temporary copy.
    code = (
        "from my_experiment.harness.tracking import store as t; c = t.client();"
        "print(len([r for r in c.search_runs([t.experiment(c)]) if r.data.tags.get('dvc_exp_name')]))"
    )
    assert package_python(project, code).strip() == "2"


def test_a_hand_edit_of_params_is_refused_and_kept(quick_project: BakedProject, copy: Copy) -> None:
    project = copy(quick_project)
    edit(project, "params.yaml", "patience: 8", "patience: 80")
    refused = project.run("dvc", "repro", check=False)
    assert refused.returncode != 0
    assert "train.patience: 80 -> 8" in refused.stderr
    assert "conf/" in refused.stderr and "dvc exp run -S" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "patience: 80" in project.read("params.yaml")
    (project.path / "params.yaml").unlink()  # the way out that the message names
    assert stages_run(project.run("dvc", "repro").stdout) == ["config"]
    assert project.git_status() == ""


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("conf/train/default.yaml", "patience: 8", "patients: 8", "train.patients: unknown key; did you mean"),
        ("conf/model/mlp.yaml", "models.mlp.mlp", "models.mlp.mpl", "model._target_:"),
        ("conf/config.yaml", "- model: mlp", "- model: mlpp", "mlpp"),
        ("conf/config.yaml", "seed: 0", "seed: ${oc.env:SEED}", "conf/config.yaml:14: ${oc.env:...}"),
    ],
)  # fmt: skip
def test_a_wrong_configuration_is_refused_with_the_key(
    quick_project: BakedProject, copy: Copy, file: str, old: str, new: str, expected: str
) -> None:
    """Of each kind one, through DVC; all messages are tests/harness/configuration."""
    project = copy(quick_project)
    edit(project, file, old, new)
    refused = project.run("dvc", "repro", check=False)
    assert refused.returncode != 0
    assert expected in refused.stderr
    assert "Traceback" not in refused.stderr + refused.stdout
    assert stages_run(refused.stdout) == ["config"]
    assert "params.yaml" not in project.git_status()


def test_an_override_that_does_not_exist_is_refused_in_an_experiment_too(
    quick_project: BakedProject, copy: Copy
) -> None:
    project = copy(quick_project)
    refused = project.run("dvc", "exp", "run", "-S", "+train.patients=3", check=False)
    assert refused.returncode != 0
    assert "train.patients: unknown key" in refused.stderr
    assert "Traceback" not in refused.stderr


def interrupt(project: BakedProject, stage: str, how: str) -> None:
    """Starts `dvc repro` and stops it while `stage` runs: Ctrl-C, `kill -9` of all of it, or of dvc alone."""
    env = os.environ | {"PATH": f"{project.path / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"}
    process = subprocess.Popen(
        ["dvc", "repro"], cwd=project.path, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    told = []
    for line in process.stdout:
        told.append(line)
        if f"stages.{stage}" in line:  # DVC prints the command as it starts it
            break
    else:
        kill(process)
        pytest.fail(f"stage {stage} did not run:\n{''.join(told)}")
    if how == "ctrl-c":
        os.killpg(process.pid, signal.SIGINT)
    elif how == "kill":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait(60)


def test_attacks_find_what_noise_does_not_and_adversarial_training_helps(
    quick_project: BakedProject, copy: Copy
) -> None:
    """On the digits, by PGD with 20 steps at 16 of 255: 0.05 more at least, for 0.02 of the clean accuracy at most."""
    project = copy(quick_project)
    edit(project, "conf/config.yaml", "- robustness: none", "- robustness: default")
    edit(project, "conf/train/default.yaml", "epochs: 3", "epochs: 60")
    edit(project, "conf/robustness/default.yaml", "white_box: false", "white_box: true")
    edit(project, "conf/robustness/default.yaml", "queries: 300", "queries: 20")
    edit(project, "conf/robustness/default.yaml", "[8, 16, 32]", "[16]")

    def measured() -> dict[str, dict[str, float]]:
        done = project.run("dvc", "repro")
        quiet(done)
        assert "robustness" in stages_run(done.stdout)
        values = json.loads(project.read("reports/robustness/values.json"))
        assert values["clean"]["examples"] == 200
        assert project.read("reports/robustness/section.md").strip() in project.read("reports/model_card.md")
        return {row["name"]: row for row in [*values["attacks"], {"name": "clean", **values["clean"]}]}

    plain = measured()
    assert plain["pgd"]["value"] <= plain["fgsm"]["high"] and plain["fgsm"]["value"] <= plain["clean"]["high"]
    assert plain["pgd"]["value"] <= plain["square"]["high"] and plain["square"]["value"] <= plain["noise"]["value"]
    before = digests(project)
    project.run("dvc", "repro", "--force", "--single-item", "robustness")
    assert digests(project) == before
    edit(project, "conf/train/default.yaml", "epsilon: 0 ", "epsilon: 16 ")
    hardened = measured()
    assert hardened["pgd"]["value"] >= plain["pgd"]["value"] + 0.05
    assert hardened["clean"]["value"] >= plain["clean"]["value"] - 0.02


def test_interrupted_runs_end_in_the_same_bytes(quick_project: BakedProject, copy: Copy) -> None:
    project = copy(quick_project)
    for how in ("ctrl-c", "kill dvc alone"):
        # From nothing both times: where this process is slow to see that `prepare` runs, it may have ended by then.
        for folder in (*OUTPUTS, ".dvc/cache"):
            shutil.rmtree(project.path / folder, ignore_errors=True)
        for file in ("params.yaml", "dvc.lock"):
            (project.path / file).unlink(missing_ok=True)
        interrupt(project, "prepare", how)
    interrupt(project, "train", "kill")
    interrupt(project, "train", "kill dvc alone")  # its training goes on: the next one must wait for it
    interrupt(project, "evaluate", "kill")
    project.run("dvc", "repro")
    project.run("git", "add", "--all")
    assert project.git_status() == ""
    assert digests(project) == digests(quick_project)


def test_own_pictures_from_dvc_add_to_model(quick_project: BakedProject, copy: Copy) -> None:
    project = copy(quick_project)
    folder = project.path / "data/raw/images"
    code = """
import numpy as np
from pathlib import Path
from PIL import Image
from sklearn.datasets import load_digits
digits = load_digits()
for row, (image, label) in enumerate(zip(digits.images, digits.target)):
    if label < 3:
        size = (8, 8) if row % 2 else (16, 12)
        suffix = [".png", ".bmp", ".gif", ".webp", ".jpg"][row % 5]
        target = Path("data/raw/images", "zero one two".split()[label], f"{row}{suffix}")
        target.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray((image * 15).astype(np.uint8)).resize(size)
        picture.convert("RGB" if row % 3 else "L").save(target)
"""
    project.run(sys.executable, "-c", code)
    (folder / "one/broken.png").write_bytes(b"")
    (folder / "two/notes.txt").write_text("not a picture")
    project.run("dvc", "add", "data/raw/images")
    edit(project, "conf/config.yaml", "- data: digits", "- data: image_folder")
    edit(project, "conf/data/image_folder.yaml", "image_size: [64, 64]", "image_size: [8, 8]")
    stopped = project.run("dvc", "repro", check=False)
    assert stopped.returncode != 0
    assert "data/raw/images/one/broken.png: the file is empty" in stopped.stderr
    assert "data/raw/images/two/notes.txt: its name does not end in" in stopped.stderr
    assert "2 of 539 files cannot be used" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    edit(project, "conf/data/image_folder.yaml", "on_invalid: stop", "on_invalid: drop")
    project.run("dvc", "repro")
    report = json.loads(project.read("reports/data.json"))
    assert report["skipped"] == 2
    assert sum(report["examples"].values()) == 537
    assert json.loads(project.read("models/model.json"))["classes"] == ["one", "two", "zero"]
    # A changed data set re-runs what depends on it, and moves no other example to another split.
    before = {s: project.read(f"data/prepared/{s}/index.csv").splitlines()[1:] for s in ("train", "validation", "test")}
    shutil.copy(folder / "zero/0.png", folder / "zero/again.png")
    project.run("dvc", "add", "data/raw/images")
    assert stages_run(project.run("dvc", "repro", "prepare").stdout) == ["prepare"]
    after = {s: project.read(f"data/prepared/{s}/index.csv").splitlines()[1:] for s in before}
    assert all(set(before[split]) <= set(after[split]) for split in before)
    assert sum(map(len, after.values())) == 538
    assert json.loads(project.read("reports/data.json"))["duplicate_files"] == [["zero/again.png", "zero/0.png"]]


def test_data_that_the_stage_does_not_declare_are_refused(
    quick_project: BakedProject, copy: Copy, tmp_path: Path
) -> None:
    project = copy(quick_project)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    edit(project, "conf/config.yaml", "- data: digits", "- data: image_folder")
    edit(project, "conf/data/image_folder.yaml", "data/raw/images", str(tmp_path))
    refused = project.run("dvc", "repro", check=False)
    assert refused.returncode != 0
    assert "under stages.prepare.deps in dvc.yaml" in refused.stderr


def test_dvc_shows_metrics_and_plots(reproduced_project: BakedProject, copy: Copy) -> None:
    project = copy(reproduced_project)
    assert "accuracy" in project.run("dvc", "metrics", "show").stdout
    project.run("dvc", "plots", "show", "--out", "plots-page")
    page = project.read("plots-page/index.html")
    for name in ("Loss", "Accuracy", "Confusion", "Reliability"):
        assert name in page
    assert len(list((project.path / "plots-page/static").glob("*.png"))) == 7  # three of explanations


def test_no_output_holds_a_path_a_run_or_a_time(
    reproduced_project: BakedProject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp().parent  # of every copy of the project, that which was reproduced too
    run = package_python(
        reproduced_project,
        "from my_experiment.harness.tracking import lockfile as l, runs as r;"
        "print(r.find(training_key=l.training(l.read_lock()).key).info.run_id)",
    ).split()[-1]
    for name in [*digests(reproduced_project), "dvc.lock", "machine.json", "params.yaml"]:
        content = (reproduced_project.path / name).read_bytes()
        assert str(folder).encode() not in content, name
        assert run.encode() not in content, name
