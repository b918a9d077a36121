"""Sweeps of a generated project, with the real Optuna, Keras, MLflow and DVC."""

import csv
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import VENV, BakedProject, Copy, Result, digests, edit, package_python, quiet
from processes import running

pytestmark = pytest.mark.pipeline

SWEEP = (sys.executable, "-m", "my_experiment", "sweep")
ENV = {"PYTHONPATH": "src"}


def sweep(project: BakedProject, *arguments: str, check: bool = True) -> Result:
    """Runs a sweep."""
    return project.run(*SWEEP, *arguments, check=check, env=ENV)


def trials(project: BakedProject, name: str) -> list[dict[str, Any]]:
    """The trials of a study, from its storage."""
    code = f"""
import json
from my_experiment.harness.sweep import study
print(json.dumps([{{"number": t.number, "state": t.state.name, "values": t.values, "params": t.params, **t.user_attrs}}
                  for t in study.load({name!r}).get_trials()]))
"""
    content: list[dict[str, Any]] = json.loads(package_python(project, code).splitlines()[-1])
    return content


def runs(project: BakedProject) -> list[dict[str, Any]]:
    """The runs of sweeps in MLflow's store: tags, parameters, and the number of epochs."""
    code = """
import json
from my_experiment.harness.tracking import store as t
c = t.client()
runs = [r for r in c.search_runs([t.experiment(c)], max_results=1000) if "sweep" in r.data.tags]
print(json.dumps([{"id": r.info.run_id, "status": r.info.status, "tags": r.data.tags, "params": r.data.params,
                   "metrics": r.data.metrics, "epochs": len(c.get_metric_history(r.info.run_id, "val_loss")),
                   "files": [f.path for f in c.list_artifacts(r.info.run_id)]} for r in runs]))
"""
    content: list[dict[str, Any]] = json.loads(package_python(project, code).splitlines()[-1])
    return content


def test_a_grid_in_two_processes_ends_in_a_reproducible_commit(quick_project: BakedProject, copy: Copy) -> None:
    project = copy(quick_project)
    before = digests(project)
    # Ten billion units: no machine has the memory. Such a trial fails, the others go on.
    grid = ("model.units=[64],[10000000000]", "train.learning_rate=0.003,0.01")
    done = sweep(project, *grid, "sweep.name=widths", "launcher=joblib", "launcher.workers=2")
    assert "sweep widths: 0 of 4 trials have ended, 4 are left" in done.stderr
    quiet(done)
    studied = trials(project, "widths")
    assert sorted(trial["state"] for trial in studied) == ["COMPLETE", "COMPLETE", "FAIL", "FAIL"]
    for trial in studied:
        assert (trial["state"] == "FAIL") == ("model.units=[10000000000]" in trial["overrides"])
        if trial["state"] == "FAIL":
            assert "\n" not in trial["error"] and "has not enough memory" in trial["error"]
    # Nothing of the pipeline was touched, and git shows one new file.
    assert digests(project) == before
    assert project.git_status() == "?? conf/experiment/widths.yaml\n"
    best = min((trial for trial in studied if trial["values"]), key=lambda trial: trial["values"])
    lines = project.read("conf/experiment/widths.yaml").splitlines()
    rate = next(o.split("=")[1] for o in best["overrides"] if o.startswith("train.learning_rate"))
    assert lines[0] == "# @package _global_"
    assert f"Trial {best['number']} of 4: val_loss" in "\n".join(lines[:4])
    assert lines[4:] == ["train:", f"  learning_rate: {rate}", "model:", "  units: [64]"]
    # Every trial is a run below the sweep's.
    logged = runs(project)
    (parent,) = (run for run in logged if "mlflow.parentRunId" not in run["tags"])
    children = [run for run in logged if run["tags"].get("mlflow.parentRunId") == parent["id"]]
    assert sorted((run["tags"]["state"], run["status"], run["epochs"]) for run in children) == [
        *[("complete", "FINISHED", 3)] * 2,
        *[("failed", "FAILED", 0)] * 2,
    ]
    for run in children:
        assert run["tags"]["data_md5"] in project.read("dvc.lock")
        assert run["tags"]["seed"] == run["params"]["train.seed"] == "0"
    assert parent["files"]
    pictures = {path.stem for path in project.path.glob("sweeps/widths/*.png")}
    assert pictures == {"history", "parallel_coordinates", "slices", "learning_curves"}
    # The same command again: nothing is left, nothing is doubled.
    again = sweep(project, *grid, "sweep.name=widths")
    assert "4 of 4 trials have ended, 0 are left" in again.stderr
    assert len(runs(project)) == len(logged)
    # Through the pipeline: the same numbers, to the last digit, in every epoch.
    project.commit("The winner")
    project.run("dvc", "exp", "run", "-S", "experiment=widths")
    with (project.path / "reports/history.csv").open() as file:
        epochs = [{key: float(value) for key, value in row.items() if key != "epoch"} for row in csv.DictReader(file)]
    assert epochs == best["history"]
    assert min(epoch["val_loss"] for epoch in epochs) == best["values"][0]


def test_a_killed_sweep_continues(quick_project: BakedProject, copy: Copy) -> None:
    """kill -9 of the whole process group while a trial runs, then the same command once more."""
    project = copy(quick_project)
    command = [*SWEEP, "sweep=random", "sweep.trials=4", "sweep.name=killed", "sweep.pruner=none", "model=mlp"]
    environment = {**os.environ, **ENV, "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    with running(*command, cwd=project.path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        deadline = time.monotonic() + 300
        while ended(project.path) < 2:
            assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
            time.sleep(0.05)  # between two looks at the condition
    finished = {trial["number"]: trial for trial in trials(project, "killed") if trial["state"] == "COMPLETE"}
    left = 4 - len(finished)
    done = sweep(project, *command[4:])
    assert f"sweep killed: {len(finished)} of 4 trials have ended, {left} are left" in done.stderr
    studied = trials(project, "killed")
    complete = [trial for trial in studied if trial["state"] == "COMPLETE"]
    assert len(complete) == 4
    assert all(studied[number] == trial for number, trial in finished.items())
    assert len({json.dumps(trial["params"]) for trial in complete}) == 4
    # The trial that ran when it was killed has failed, and was queued again with the same parameters.
    retried = {trial["retry_of"]: trial for trial in studied if "retry_of" in trial}
    lost = [trial for trial in studied if trial["state"] == "FAIL"]
    assert {trial["number"] for trial in lost} == set(retried)
    for trial in lost:
        assert trial["params"].items() <= retried[trial["number"]]["params"].items()
    assert len(runs(project)) == 1 + len(studied)


def ended(project: Path) -> int:
    """Number of complete trials, read without importing Optuna."""
    import sqlite3

    if not (project / "sweeps/optuna.db").exists():
        return 0
    try:
        with sqlite3.connect(f"file:{project}/sweeps/optuna.db?mode=ro", uri=True) as store:
            return int(store.execute("select count(*) from trials where state = 'COMPLETE'").fetchone()[0])
    except sqlite3.OperationalError:  # its tables are being made
        return 0


def test_hopeless_trials_are_pruned_and_the_best_are_repeated(quick_project: BakedProject, copy: Copy) -> None:
    project = copy(quick_project)
    edit(project, "conf/train/default.yaml", "epochs: 3", "epochs: 4")
    options = ("sweep.trials=7", "sweep.warmup=0", "sweep.name=best", "sweep.seeds=2", "sweep.top=2")
    done = sweep(project, "sweep=tpe", "model=mlp", *options)
    studied = trials(project, "best")
    pruned = [trial for trial in studied if trial["state"] == "PRUNED"]
    assert pruned and all(0 < len(trial["history"]) < 4 for trial in pruned)
    repeats = trials(project, "best-seeds")
    assert len(repeats) == 4 and {trial["state"] for trial in repeats} == {"COMPLETE"}
    by_trial: dict[int, list[float]] = {}
    for trial in repeats:
        assert trial["seed"] in (1, 2)  # not the seed of the search
        by_trial.setdefault(trial["repeat_of"], []).append(trial["values"][0])
    means = {number: float(np.mean(values)) for number, values in by_trial.items()}
    winner = min(means, key=means.__getitem__)
    text = project.read("conf/experiment/best.yaml")
    assert re.search(rf"Trial {winner}\b", text) and f"{means[winner]:.4g}"[:5] in text
    quiet(done)


def test_accuracy_against_latency(quick_project: BakedProject, copy: Copy) -> None:
    project = copy(quick_project)
    arguments = ("model.units=[8],[1024,1024]", "sweep.metrics=[val_loss,latency]", "sweep.name=front")
    done = sweep(project, *arguments)
    studied = trials(project, "front")
    assert {trial["state"] for trial in studied} == {"COMPLETE"}
    front = {
        trial["number"]
        for trial in studied
        if not any(
            all(a <= b for a, b in zip(other["values"], trial["values"], strict=True))
            and other["values"] != trial["values"]
            for other in studied
        )
    }
    written = {file.stem for file in (project.path / "conf/experiment").glob("front*.yaml")}
    assert written == ({f"front-{number}" for number in front} if len(front) > 1 else {"front"})
    assert "latency" in done.stdout
    assert list((project.path / "sweeps/front").glob("*.png"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train.learning_rate=fast"], "train.learning_rate"),
        (["train.lerning_rate=0.1"], "train.lerning_rate"),
        (["sweep=nothing"], "sweep"),
        (["sweep=tpe", "sweep.trials=null"], "sweep.trials: set the number of trials"),
        (["sweep.metrics=[accuracy]"], "sweep.metrics: accuracy is not a metric of this project"),
        (["prepare.seed=1,2"], "prepare.seed: a sweep searches training parameters only"),
        (["prepare.seed=5"], "data/prepared was made with another prepare.seed: run `dvc repro prepare`"),
        (["train.learning_rate=interval(0.1,0.2)"], "train.learning_rate: an interval has no grid"),
        (["sweep=tpe", "sweep.sampler=best"], "sweep.sampler"),
        (["sweep.name=mlp"], "conf/experiment/mlp.yaml exists and was not written by the sweep mlp"),
    ],
)
def test_mistakes_are_one_line(quick_project: BakedProject, arguments: list[str], message: str) -> None:
    refused = sweep(quick_project, *arguments, check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ") and message in refused.stderr
    assert "Traceback" not in refused.stderr and len(refused.stderr.splitlines()) <= 2
    assert quick_project.git_status() == ""
