"""What the generated pipeline costs, against what a person would use instead: ratios, both sides in one run.

    python benchmarks/pipeline.py [--repeats N] [--project PROJECT] [cold] [change] [noop] [explain] [throughput]

Without names all five are measured, without a project (committed, and cloned) the default one is made: `make bench`.

cold        `dvc repro` in a fresh clone with empty caches, against benchmarks/plain.py, and where it goes
change      `dvc repro` after a change of one line of the model, against the same script
noop        `dvc repro` with nothing to do, against an equally long pipeline of `true` commands
explain     the stage `explain`, against the same with `explain: none`, and so counted apart
throughput  images a second of `keras_training.descend` against a hand-written `model.fit`, and what determinism costs

The sides take turns, so that a machine that slows down slows both; figures are medians. Absolute numbers
belong to the machine; CPU seconds, of all processes, hardly change with what else runs. A goal that is missed is marked
and is no failure: a busy machine misses goals. The last line on stdout is JSON: the ratios.
"""

import argparse
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
VENV = Path(sys.prefix)
REPEATS = 2  # a minute for each side of a cold run
# Epochs that count x fits. The digits' epochs are short, so there are many of them.
FITS = ["digits=5x2", "synthetic_cnn=1", "synthetic_mlp=3"]
# What each process of the pipeline imports, besides small things.
IMPORTS = {
    "dvc": "dvc.cli, dvc.commands.repro, dvc.repo",
    "config": "hydra, omegaconf, pydantic",
    "prepare": "sklearn.datasets, PIL.Image, pydantic",
    "train": "tensorflow, keras, pandas, onnx, onnxruntime",
    "explain": "hydra, omegaconf, pydantic",
    "evaluate": "pandas, matplotlib.pyplot, onnxruntime, mlflow, mlflow.onnx",
}


def environment(folder: Path) -> dict[str, str]:
    """Gives an environment without the person's configuration and caches."""
    dropped = ("GIT_", "DVC_", "MLFLOW_", "HYDRA_", "PYTHON", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    home = folder / "home"
    (home / "dvc").mkdir(parents=True, exist_ok=True)
    # Otherwise DVC starts a process in the background that looks for a newer version.
    (home / "dvc/config").write_text("[core]\n    check_update = false\n    analytics = false\n")
    (home / "gitconfig").write_text("[user]\n\tname = Bench\n\temail = bench@example.org\n")
    (home / "cookiecutter.yaml").write_text(f"cookiecutters_dir: {home}/c\nreplay_dir: {home}/r\n")
    return kept | {
        "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "GIT_CONFIG_GLOBAL": str(home / "gitconfig"),
        "COOKIECUTTER_CONFIG": str(home / "cookiecutter.yaml"),
        "DVC_GLOBAL_CONFIG_DIR": str(home / "dvc"),
        "DVC_SITE_CACHE_DIR": str(home / "dvc-site"),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def run(*command: str | Path, cwd: Path, env: dict[str, str]) -> str:
    """Runs a command and returns what it prints; what it prints is shown where it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"{shlex.join(map(str, command))} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def seconds(work: Callable[[], Any]) -> float:
    """Returns how long `work` takes."""
    return timed(work)[0]


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Returns the seconds of `work` by the clock, and the CPU seconds of the processes that it runs."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, busy


def say(text: str = "") -> None:
    """Prints at once, also into a pipe: some lines are a minute apart."""
    print(text, flush=True)


def verdict(name: str, ratio: float, goal: float, at_most: bool = True) -> None:
    """Prints a ratio beside its goal."""
    kept = ratio <= goal if at_most else ratio >= goal
    say(f"  {name}: {ratio:.2f}   goal {'<=' if at_most else '>='} {goal}   {'met' if kept else 'MISSED'}\n")


def bake(folder: Path, env: dict[str, str]) -> Path:
    """Generates the default project and commits it."""
    run("cookiecutter", HERE.parent, "--no-input", "--output-dir", folder / "bake", cwd=folder, env=env)
    (project,) = (folder / "bake").iterdir()
    return project


def clone(project: Path, target: Path, env: dict[str, str]) -> Path:
    """Clones the project to where nothing is cached: no outputs, no DVC cache, no run cache, no mlflow.db."""
    shutil.rmtree(target, ignore_errors=True)
    # DVC's own database, which remembers hashes of files, lives outside of the repository.
    shutil.rmtree(env["DVC_SITE_CACHE_DIR"], ignore_errors=True)
    run("git", "clone", "--quiet", project, target, cwd=project, env=env)
    (target / ".venv").symlink_to(VENV, target_is_directory=True)
    return target


def choose(project: Path, group: str, option: str) -> None:
    """Chooses a file of a group of conf/."""
    conf = project / "conf/config.yaml"
    conf.write_text(re.sub(rf"^  - {group}: \w+", f"  - {group}: {option}", conf.read_text(), flags=re.M))


def repro_cold(project: Path, folder: Path, env: dict[str, str]) -> dict[str, float]:
    """Reproduces a fresh clone.

    The stages find a `python` first on PATH that notes its seconds and runs the real one: what is left of the
    whole is DVC's own.

    Returns:
        Stage -> seconds of its process, `dvc` -> the rest, `total`, and `CPU` of all together.
    """
    target = clone(project, folder / "cold", env)
    choose(target, "explain", "none")  # as the plain script
    shim, log = folder / "shim" / "python", folder / "stages.log"
    shim.parent.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    note = f'echo "$2 $start $(date +%s%N)" >> {shlex.quote(str(log))}'
    real = shlex.quote(str(VENV / "bin/python"))
    shim.write_text(f'#!/bin/sh\nstart=$(date +%s%N)\n{real} "$@"\ncode=$?\n{note}\nexit $code\n')
    shim.chmod(0o755)
    shimmed = env | {"PATH": f"{shim.parent}{os.pathsep}{env['PATH']}"}
    total, cpu = timed(partial(run, "dvc", "repro", cwd=target, env=shimmed))
    spent: dict[str, float] = {}
    for line in log.read_text().splitlines():
        module, start, end = line.split()
        spent[module.rpartition(".")[2]] = (int(end) - int(start)) / 1e9
    return spent | {"dvc": total - sum(spent.values()), "total": total, "CPU": cpu}


def plain(project: Path, folder: Path, env: dict[str, str]) -> dict[str, Any]:
    """Runs the plain script for as many epochs as a reproduced project has trained.

    Returns:
        What it prints, its `total` seconds, and its `CPU` seconds.
    """
    epochs = len((project / "reports/history.csv").read_text().splitlines()) - 1
    told: list[str] = []
    command = ("python", HERE / "plain.py", project, folder / "plain", str(epochs))
    total, cpu = timed(lambda: told.extend(run(*command, cwd=folder, env=env).splitlines()))
    return json.loads(told[-1]) | {"total": total, "CPU": cpu}


def against(name: str, ours: list[dict[str, float]], theirs: list[dict[str, Any]], goal: float) -> dict[str, float]:
    """Prints the ratios of time and of CPU seconds, and gives them."""
    ratios = {}
    for figure, label in (("total", "time"), ("CPU", "CPU")):
        ratios[f"{name}, {label}"] = median(turn[figure] for turn in ours) / median(turn[figure] for turn in theirs)
        verdict(f"{name} / plain script, {label}", ratios[f"{name}, {label}"], goal)
    return ratios


def cold(project: Path, folder: Path, env: dict[str, str], repeats: int) -> dict[str, float]:
    """Compares cold runs and says where the time goes."""
    say("cold: `dvc repro` in a fresh clone against one plain script\n")
    # First, and thereby the warm-up: neither side shall be the one that reads TensorFlow from the disk.
    imports = {
        process: seconds(partial(run, "python", "-c", f"import {what}", cwd=folder, env=env))
        for process, what in IMPORTS.items()
    }
    ours, theirs = [], []
    for turn in range(repeats):
        ours.append(repro_cold(project, folder, env))
        theirs.append(plain(folder / "cold", folder, env))
        say(f"  turn {turn + 1}: dvc repro {ours[-1]['total']:.1f} s, plain script {theirs[-1]['total']:.1f} s")
    accuracy = json.loads((folder / "cold/reports/metrics.json").read_text())["accuracy"]
    say(f"  test accuracy {accuracy:.4f}, of the plain script {theirs[-1]['accuracy']:.4f}\n")
    spent = {name: median(turn[name] for turn in ours) for name in ours[0]}
    say(f"  {'dvc repro':<12}{'s':>7}{'of which imports':>18}   | plain script      s")
    lapses = {name: median(turn["seconds"][name] for turn in theirs) for name in theirs[0]["seconds"]}
    lapses |= {name: median(turn[name] for turn in theirs) for name in ("total", "CPU")}
    left = [name for name in spent if name not in ("total", "CPU")]
    for name, other in zip([*left, "total", "CPU"], lapses, strict=False):
        cost = imports.get(name, sum(imports.values()))
        told = f"{cost:18.1f}" if name != "CPU" else " " * 18
        say(f"  {name:<12}{spent[name]:7.1f}{told}   | {other:<12}{lapses[other]:7.1f}")
    return against("cold", ours, theirs, 1.2)


def change(project: Path, folder: Path, env: dict[str, str], repeats: int) -> dict[str, float]:
    """Compares what a change of the model costs: it is trained and evaluated again."""
    say("change: `dvc repro` after a change of one line of the model, against one plain script\n")
    target = folder / "cold"
    if not (target / "dvc.lock").exists():
        repro_cold(project, folder, env)
    (model,) = re.findall(r"^  - model: (\w+)$", (target / "conf/config.yaml").read_text(), re.M)
    conf, ours, theirs = target / f"conf/model/{model}.yaml", [], []
    for turn in range(repeats):
        conf.write_text(re.sub(r"^dropout: .*", f"dropout: {0.31 + turn / 100}", conf.read_text(), flags=re.M))
        total, cpu = timed(partial(run, "dvc", "repro", cwd=target, env=env))
        ours.append({"total": total, "CPU": cpu})
        theirs.append(plain(target, folder, env))
        say(f"  turn {turn + 1}: dvc repro {total:.1f} s, plain script {theirs[-1]['total']:.1f} s")
    return against("change", ours, theirs, 1.2)


def equally_long(project: Path, target: Path, env: dict[str, str]) -> Path:
    """Makes a pipeline with the generated one's stages, each with as many inputs, outputs and parameters.

    Every command is `true`, every dependency and output a file of one line. What is left to the
    generated project are its real files and folders, and its configuration.
    """
    stages = yaml.safe_load((project / "dvc.yaml").read_text())["stages"]
    names: dict[str, str] = {"params.yaml": "params.yaml"}

    def name(entry: Any) -> str:
        path = next(iter(entry)) if isinstance(entry, dict) else entry
        return names.setdefault(path, f"file{len(names)}.txt")

    made = {
        stage: {
            "cmd": "true",
            "deps": [name(entry) for entry in wiring["deps"]],
            "params": wiring.get("params", []),
            # Kept, because `true` would not make them again.
            "outs": [
                {name(entry): {"persist": True, "cache": name(entry) != "params.yaml"}}
                for entry in wiring["outs"] + wiring.get("metrics", [])
            ],
        }
        for stage, wiring in stages.items()
    }
    target.mkdir()
    (target / "dvc.yaml").write_text(yaml.safe_dump({"stages": made}, sort_keys=False))
    for file in names.values():
        (target / file).write_text(f"{file}\n")
    shutil.copy(project / "params.yaml", target)  # as many parameters: dvc.lock lists every one
    run("git", "init", "--quiet", cwd=target, env=env)
    run("dvc", "init", "--quiet", cwd=target, env=env)
    run("dvc", "repro", cwd=target, env=env)
    return target


def noop(project: Path, folder: Path, env: dict[str, str], repeats: int) -> dict[str, float]:
    """Compares runs that have nothing to do."""
    say("noop: `dvc repro` with nothing to do, against as many stages, dependencies and outputs of `true`\n")
    ours = folder / "cold"
    if not (ours / "dvc.lock").exists():
        repro_cold(project, folder, env)
    theirs = equally_long(ours, folder / "true", env)
    took: dict[Path, list[float]] = {ours: [], theirs: []}
    for turn in range(2 * repeats + 1):
        for side, times in took.items():
            times.append(seconds(partial(run, "dvc", "repro", cwd=side, env=env)))
            if turn == 0:
                times.clear()  # the first one is the warm-up
    for label, side in (("generated project", ours), ("`true` commands", theirs)):
        say(f"  {label:<20}{median(took[side]):6.2f} s   ({min(took[side]):.2f} to {max(took[side]):.2f})")
    ratio = median(took[ours]) / median(took[theirs])
    verdict("no-op repro / `true` commands", ratio, 1.15)
    return {"noop, time": ratio}


def explain(project: Path, folder: Path, env: dict[str, str], repeats: int) -> dict[str, float]:
    """Measures what explanations add."""
    say("explain: the stage with the default settings, against `explain: none`\n")
    target = folder / "cold"
    if not (target / "dvc.lock").exists():
        repro_cold(project, folder, env)
    command = ("dvc", "repro", "--single-item", "--force", "explain")
    took: dict[str, list[tuple[float, float]]] = {"none": [], "default": []}
    for _ in range(repeats):
        for option, times in took.items():
            choose(target, "explain", option)
            run("dvc", "repro", "config", cwd=target, env=env)
            times.append(timed(partial(run, *command, cwd=target, env=env)))
    choose(target, "explain", "none")
    added = {}
    for place, label in enumerate(("seconds", "CPU seconds")):
        default, none = (median(times[place] for times in took[option]) for option in ("default", "none"))
        added[f"explain, {label}"] = default - none
        verdict(f"explain, {label} more than none ({none:.1f})", default - none, 15)
    return added


def throughput(project: Path, folder: Path, env: dict[str, str], repeats: int) -> dict[str, float]:
    """Compares training, and says what determinism costs."""
    say("throughput: training, images a second; the first epoch of each fit does not count\n")
    ready = folder / "cold"
    if not (ready / "data/prepared").exists():
        ready = clone(project, folder / "cold", env)
        run("dvc", "repro", "prepare", cwd=ready, env=env)
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(repeats):
        for determinism, variants in (("on", "package,hand"), ("off", "hand")):
            told = run("python", HERE / "fit.py", ready, determinism, variants, *FITS, cwd=folder, env=env)
            for data, speeds in json.loads(told.splitlines()[-1]).items():
                for variant, values in speeds.items():
                    found.setdefault(data, {}).setdefault(f"{variant} {determinism}", []).extend(values)
    say(f"  {'data':<15}{'package':>10}{'by hand':>10}{'by hand, not deterministic':>28}")
    for data, speeds in found.items():
        package, hand, free = (median(speeds[side]) for side in ("package on", "hand on", "hand off"))
        say(f"  {data:<15}{package:10,.0f}{hand:10,.0f}{free:28,.0f}")
    say()
    ratios = {}
    for data, speeds in found.items():
        package, hand, free = (median(speeds[side]) for side in ("package on", "hand on", "hand off"))
        say(f"  {data}: determinism takes {1 - hand / free:+.0%} of the throughput by hand")
        ratios[f"{data}, throughput"] = package / hand
        verdict(f"{data}, package / by hand", package / hand, 0.95, at_most=False)
    return ratios


def main() -> None:
    """Runs the benchmarks that are named, or all."""
    known = {"cold": cold, "change": change, "noop": noop, "explain": explain, "throughput": throughput}
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(known)}; without: all")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--project", type=Path, help="a committed project, which is cloned")
    arguments = parser.parse_args()
    if unknown := {*arguments.parts} - {*known}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        env = environment(folder)
        project = arguments.project.resolve() if arguments.project else bake(folder, env)
        for benchmark in arguments.parts or known:
            found |= known[benchmark](project, folder, env, arguments.repeats)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
