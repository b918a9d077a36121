"""The cost of a sweep, compared with the alternatives: ratios, both sides in one run.

    python benchmarks/sweep.py [--trials N] [--project PROJECT] [launchers] [queue] [pruning] [cores]

Without names all four are measured, without a project (with prepared data, and git) a new one is made: `make bench`.

launchers   trials a minute of a sweep in one process and in two, against Hydra's basic launcher; overhead of a trial
queue       trials a minute with two workers, against `dvc queue start --jobs 2` doing the same trials
pruning     seconds until a fixed score is reached, with and without pruning, the same trials in the same order
cores       trials a minute with two workers: with the threads of the configuration, against one thread each

The project trains the mlp on the digits for a few epochs. Absolute numbers belong to the machine. A goal that is missed
is marked and is no failure: a busy machine misses goals. The last line on stdout is JSON: the ratios.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from pipeline import bake, environment, run, say, seconds, verdict

TRIALS = 64

# The same with Hydra alone: the function in a `@hydra.main`, `--multirun` with the basic launcher.
BASIC = """
import os, time
started = time.perf_counter()
import hydra
from omegaconf import OmegaConf
from my_experiment.harness import prepared
from my_experiment.harness.core import config

@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    sections = OmegaConf.to_container(cfg, resolve=True)
    manifest = prepared.manifest()
    modality = prepared.modality(manifest)
    inputs = modality.inputs(manifest, sections[modality.SECTION])
    fitted = config.instantiate(sections["train"], sections["model"], inputs, manifest)
    return float(fitted.history["val_loss"].min())

main()
"""


def grid(trials: int) -> tuple[str, ...]:
    """The overrides of a grid of trials."""
    rates = ",".join(f"{0.0005 * 12 ** (step / trials):.3g}" for step in range(trials))
    return "model=mlp", "train.epochs=4", f"train.learning_rate={rates}"


def prepare(folder: Path, env: dict[str, str]) -> Path:
    """Generates a project and prepares its data."""
    project = bake(folder, env)
    (project / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    run("dvc", "repro", "--quiet", "prepare", cwd=project, env=env)
    run("git", "add", "--all", cwd=project, env=env)
    run("git", "commit", "--quiet", "--message", "Prepared", cwd=project, env=env)
    return project


def sweep(project: Path, env: dict[str, str], name: str, *arguments: str) -> tuple[float, list[dict[str, Any]]]:
    """Runs a sweep; returns its seconds and its trials."""
    command = ("python", "-m", "my_experiment", "sweep", f"sweep.name={name}", *arguments)
    spent = seconds(lambda: run(*command, cwd=project, env=env))
    code = f"""
import json
from my_experiment.harness.sweep import study
print(json.dumps([{{"state": t.state.name, "values": t.values, "begin": t.datetime_start.timestamp(),
                   "end": t.datetime_complete.timestamp(), **t.user_attrs}}
                  for t in study.load({name!r}).get_trials()]))
"""
    output = run("python", "-c", code, cwd=project, env=env)
    return spent, json.loads(output.splitlines()[-1])


def launchers(project: Path, env: dict[str, str], trials: int) -> dict[str, float]:
    """Compares a sweep's launchers with Hydra's basic one, and says what a trial costs beyond its fit."""
    say(f"launchers: {trials} trials of four epochs\n")
    script = project / "basic.py"
    script.write_text(BASIC)
    basic = seconds(lambda: run("python", script, "--multirun", *grid(trials), cwd=project, env=env))
    script.unlink()
    shutil.rmtree(project / "multirun")
    single, done = sweep(project, env, "one", *grid(trials))
    double, _ = sweep(project, env, "two", *grid(trials), "launcher=joblib", "launcher.workers=2")
    for name, spent in (
        ("Hydra's basic launcher", basic),
        ("sweep, one process", single),
        ("sweep, two processes", double),
    ):
        say(f"  {name:<24}{spent:6.1f} s{trials * 60 / spent:8.1f} trials a minute")
    # From one trial's start to the next one's; the first one waits for TensorFlow.
    starts = [trial["begin"] for trial in done]
    beyond = [b - a - t["fit_seconds"] for a, b, t in zip(starts[1:], starts[2:], done[1:], strict=False)]
    outside = [b - a - t["seconds"] for a, b, t in zip(starts[1:], starts[2:], done[1:], strict=False)]
    say(f"  a trial beyond its fit: {median(beyond) * 1000:.0f} ms, of which storage, MLflow and bookkeeping between")
    say(f"  two trials are {median(outside) * 1000:.0f} ms, the rest composing it and clearing up\n")
    verdict("two processes / Hydra's basic launcher, trials a minute", basic / double, 1.0, at_most=False)
    verdict("seconds of a trial beyond its fit", median(beyond), 0.1)
    return {"of basic launcher": basic / double, "beyond fit, s": median(beyond)}


def queue(project: Path, env: dict[str, str], trials: int) -> dict[str, float]:
    """Compares two workers with DVC's queue."""
    say(f"queue: {trials} trials of four epochs, two at a time\n")
    arguments = [part for override in grid(trials) for part in ("-S", override)]
    run("dvc", "exp", "run", "--queue", *arguments, cwd=project, env=env)

    def work_off() -> None:
        run("dvc", "queue", "start", "--jobs", "2", cwd=project, env=env)
        while (status := run("dvc", "queue", "status", cwd=project, env=env)).count("Success") < trials:
            if "Failed" in status:
                sys.exit(status)
            time.sleep(1)  # between two looks at the condition

    theirs = seconds(work_off)
    run("dvc", "queue", "stop", cwd=project, env=env)
    ours, _ = sweep(project, env, "queue", *grid(trials), "launcher=joblib", "launcher.workers=2")
    say(f"  dvc queue start --jobs 2   {theirs:6.1f} s{trials * 60 / theirs:8.1f} trials a minute")
    say(f"  sweep, two processes       {ours:6.1f} s{trials * 60 / ours:8.1f} trials a minute")
    verdict("sweep / dvc queue, trials a minute", theirs / ours, 8.0, at_most=False)
    return {"of dvc queue": theirs / ours}


def pruning(project: Path, env: dict[str, str], trials: int) -> dict[str, float]:
    """Compares the time to a fixed score with and without pruning."""
    say("pruning: 16 trials at random, up to 20 epochs, the same parameters\n")
    common = ("sweep=random", "sweep.trials=16", "sweep.warmup=2", "model=mlp", "train.epochs=20")
    studies = {
        name: sweep(project, env, f"pruning-{name}", *common, f"sweep.pruner={name}")[1] for name in ("none", "median")
    }
    best = min(trial["values"][0] for trial in studies["none"] if trial["state"] == "COMPLETE")
    goal = 1.02 * best
    spent = {}
    for name, trials in studies.items():
        reached = [t["end"] for t in trials if t["state"] == "COMPLETE" and t["values"][0] <= goal]
        whole = trials[-1]["end"] - trials[0]["begin"]
        spent[name] = (min(reached) if reached else trials[-1]["end"]) - trials[0]["begin"]
        pruned = sum(trial["state"] == "PRUNED" for trial in trials)
        epochs = sum(len(trial["history"]) for trial in trials)
        say(
            f"  {name:<8}{pruned:3} pruned{epochs:5} epochs{whole:7.1f} s in all"
            f"{spent[name]:7.1f} s to val_loss {goal:.4f}"
        )
    verdict("time to the score, median pruner / none", spent["median"] / spent["none"], 0.9)
    return {"pruned": spent["median"] / spent["none"]}


def cores(project: Path, env: dict[str, str], trials: int) -> dict[str, float]:
    """Compares two workers with a single one, and with one thread each."""
    say(f"cores: two workers on {len(os.sched_getaffinity(0))} cores, four trials of the cnn\n")
    common = ("model=cnn", "train.epochs=2", "train.learning_rate=0.001,0.002,0.003,0.004")
    two = ("launcher=joblib", "launcher.workers=2")
    _, alone = sweep(project, env, "alone", *common)
    _, both = sweep(project, env, "both", *common, *two)
    _, single = sweep(project, env, "single", *common, *two, "train.threads=1")
    rate = {
        name: 60 * len(trials) / (max(t["end"] for t in trials) - min(t["begin"] for t in trials))
        for name, trials in (("alone", alone), ("both", both), ("single", single))
    }
    say(f"  one worker                      {rate['alone']:6.1f} trials a minute")
    say(f"  two workers                     {rate['both']:6.1f}")
    say(f"  two workers, one thread each    {rate['single']:6.1f}")
    verdict("two workers / one worker, trials a minute", rate["both"] / rate["alone"], 1.0, at_most=False)
    verdict("two workers / with one thread each, trials a minute", rate["both"] / rate["single"], 0.8, at_most=False)
    return {"of one worker": rate["both"] / rate["alone"], "of one thread each": rate["both"] / rate["single"]}


PARTS = {"launchers": launchers, "queue": queue, "pruning": pruning, "cores": cores}


def main() -> None:
    """Runs the parts named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; without: all")
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--project", type=Path, help="with prepared data; it is changed")
    arguments = parser.parse_args()
    if unknown := {*arguments.parts} - {*PARTS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    folder = Path(tempfile.mkdtemp(prefix="bench-sweep-"))
    try:
        env = environment(folder) | {"PYTHONPATH": "src"}
        project = arguments.project.resolve() if arguments.project else prepare(folder, env)
        found: dict[str, float] = {}
        for name in arguments.parts or PARTS:
            found |= PARTS[name](project, env, arguments.trials)
        print(json.dumps(found))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
