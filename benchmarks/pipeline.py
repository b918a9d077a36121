"""What the generated pipeline costs, against what a person would use instead: ratios, both sides in one run.

    python benchmarks/pipeline.py [cold] [noop] [throughput]      without names: all three (`make bench`)

cold        `dvc repro` in a fresh clone with empty caches, against benchmarks/plain.py, and where it goes
noop        `dvc repro` with nothing to do, against an equally long pipeline of `true` commands
throughput  images a second of `keras_training.descend` against a hand-written `model.fit`, and what determinism costs

The sides take turns, so that a machine that slows down slows both; figures are medians. Absolute numbers
belong to the machine. A goal that is missed is marked and is no failure: a busy machine misses goals.
"""

import json
import os
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
COLD_REPEATS = 2  # a minute for each side
NOOP_REPEATS = 5
FIT_PROCESSES = 2  # for each setting of determinism
# Epochs that count x fits. The digits' epochs are short, so there are many of them.
FITS = ["digits=5x2", "synthetic_cnn=1", "synthetic_mlp=3"]
# What each process of the pipeline imports, besides small things.
IMPORTS = {
    "dvc": "dvc.cli, dvc.commands.repro, dvc.repo",
    "config": "hydra, omegaconf, pydantic",
    "prepare": "sklearn.datasets, PIL.Image, pydantic",
    "train": "tensorflow, keras, pandas, onnx, onnxruntime",
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
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


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


def repro_cold(project: Path, folder: Path, env: dict[str, str]) -> dict[str, float]:
    """Reproduces a fresh clone.

    The stages find a `python` first on PATH that notes its seconds and runs the real one: what is left of the
    whole is DVC's own.

    Returns:
        Stage -> seconds of its process, `dvc` -> the rest, `total`.
    """
    target = clone(project, folder / "cold", env)
    shim, log = folder / "shim" / "python", folder / "stages.log"
    shim.parent.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    note = f'echo "$2 $start $(date +%s%N)" >> {shlex.quote(str(log))}'
    real = shlex.quote(str(VENV / "bin/python"))
    shim.write_text(f'#!/bin/sh\nstart=$(date +%s%N)\n{real} "$@"\ncode=$?\n{note}\nexit $code\n')
    shim.chmod(0o755)
    shimmed = env | {"PATH": f"{shim.parent}{os.pathsep}{env['PATH']}"}
    total = seconds(partial(run, "dvc", "repro", cwd=target, env=shimmed))
    spent: dict[str, float] = {}
    for line in log.read_text().splitlines():
        module, start, end = line.split()
        spent[module.rpartition(".")[2]] = (int(end) - int(start)) / 1e9
    return spent | {"dvc": total - sum(spent.values()), "total": total}


def cold(project: Path, folder: Path, env: dict[str, str]) -> None:
    """Compares cold runs and says where the time goes."""
    say("cold: `dvc repro` in a fresh clone against one plain script\n")
    # First, and thereby the warm-up: neither side shall be the one that reads TensorFlow from the disk.
    imports = {
        process: seconds(partial(run, "python", "-c", f"import {what}", cwd=folder, env=env))
        for process, what in IMPORTS.items()
    }
    ours, theirs, walls = [], [], []
    for turn in range(COLD_REPEATS):
        ours.append(repro_cold(project, folder, env))
        done = folder / "cold"
        epochs = len((done / "reports/history.csv").read_text().splitlines()) - 1
        start = time.perf_counter()
        told = run("python", HERE / "plain.py", done, folder / "plain", str(epochs), cwd=folder, env=env)
        walls.append(time.perf_counter() - start)
        theirs.append(json.loads(told.splitlines()[-1]))
        say(f"  turn {turn + 1}: dvc repro {ours[-1]['total']:.1f} s, plain script {walls[-1]:.1f} s")
    accuracy = json.loads((folder / "cold/reports/metrics.json").read_text())["accuracy"]
    say(f"  {epochs} epochs; test accuracy {accuracy:.4f}, of the plain script {theirs[-1]['accuracy']:.4f}\n")
    spent = {name: median(turn[name] for turn in ours) for name in ours[0]}
    say(f"  {'dvc repro':<12}{'s':>7}{'of which imports':>18}   | plain script      s")
    lapses = {name: median(turn["seconds"][name] for turn in theirs) for name in theirs[0]["seconds"]}
    right = [f"{name:<12}{value:7.1f}" for name, value in lapses.items()]
    for number, name in enumerate([*(name for name in spent if name != "total"), "total"]):
        cost = imports.get(name, sum(imports.values()))
        other = f"{'total':<12}{median(walls):7.1f}" if name == "total" else right[number]
        say(f"  {name:<12}{spent[name]:7.1f}{cost:18.1f}   | {other}")
    say(
        f"  left out of imports: {spent['total'] - sum(imports.values()):.1f} s"
        f" against {median(walls) - lapses['imports']:.1f} s"
    )
    verdict("cold repro / plain script", spent["total"] / median(walls), 1.6)


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


def noop(project: Path, folder: Path, env: dict[str, str]) -> None:
    """Compares runs that have nothing to do."""
    say("noop: `dvc repro` with nothing to do, against as many stages, dependencies and outputs of `true`\n")
    ours = folder / "cold"
    if not (ours / "dvc.lock").exists():
        repro_cold(project, folder, env)
    theirs = equally_long(ours, folder / "true", env)
    took: dict[Path, list[float]] = {ours: [], theirs: []}
    for turn in range(NOOP_REPEATS + 1):
        for side, times in took.items():
            times.append(seconds(partial(run, "dvc", "repro", cwd=side, env=env)))
            if turn == 0:
                times.clear()  # the first one is the warm-up
    for label, side in (("generated project", ours), ("`true` commands", theirs)):
        say(f"  {label:<20}{median(took[side]):6.2f} s   ({min(took[side]):.2f} to {max(took[side]):.2f})")
    verdict("no-op repro / `true` commands", median(took[ours]) / median(took[theirs]), 1.15)


def throughput(project: Path, folder: Path, env: dict[str, str]) -> None:
    """Compares training, and says what determinism costs."""
    say("throughput: training, images a second; the first epoch of each fit does not count\n")
    ready = folder / "cold"
    if not (ready / "data/prepared").exists():
        ready = clone(project, folder / "cold", env)
        run("dvc", "repro", "prepare", cwd=ready, env=env)
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(FIT_PROCESSES):
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
    for data, speeds in found.items():
        package, hand, free = (median(speeds[side]) for side in ("package on", "hand on", "hand off"))
        say(f"  {data}: determinism takes {1 - hand / free:+.0%} of the throughput by hand")
        verdict(f"{data}, package / by hand", package / hand, 0.95, at_most=False)


def main() -> None:
    """Runs the benchmarks that are named, or all."""
    known = {"cold": cold, "noop": noop, "throughput": throughput}
    chosen = sys.argv[1:] or list(known)
    if unknown := set(chosen) - set(known):
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        env = environment(folder)
        project = bake(folder, env)
        for benchmark in chosen:
            known[benchmark](project, folder, env)


if __name__ == "__main__":
    main()
