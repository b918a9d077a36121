"""Sweeps: trains with other parameters, again and again, and writes down how the best one is reproduced.

    python -m <package>.sweep model=cnn,mlp train.learning_rate=0.001,0.0003        every combination
    python -m <package>.sweep sweep=tpe sweep.trials=50 model=mlp                   what conf/sweep/tpe.yaml searches
    python -m <package>.sweep sweep=tpe 'train.learning_rate=tag(log,interval(1e-4,1e-2))'
    python -m <package>.sweep sweep=tpe launcher=joblib launcher.workers=4          four processes

Arguments are overrides of conf/sweep.yaml in Hydra's grammar. A sweep that was stopped, in whatever way, goes on with
the same command. Trials train on data/prepared as the stage `train` does and touch no output of the pipeline; the best
becomes conf/experiment/<name>.yaml: `dvc exp run -S experiment=<name>` reproduces it.
"""

import functools
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import configuration, prepared, targets
from ..core import config, stages
from ..core.errors import UserError
from ..core.paths import NAME
from . import experiment, launchers, report, runs, search, trials, worker
from . import study as studies

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

SYNC = 5.0  # seconds between two looks at the study, for those who watch it
LOOK = 1.0  # and for what other workers have at hand


class Search(NamedTuple):
    """A sweep, as the command line and conf/ ask for it.

    Attributes:
        section: Section `sweep`.
        launcher: Section `launcher`.
        plan: What identifies the search, as JSON has it.
        data_md5: Of data/prepared, as dvc.lock has it.
    """

    section: search.Sweep
    launcher: Mapping[str, Any]
    plan: dict[str, Any]
    data_md5: str


def main() -> None:
    """Runs the sweep that the command line asks for."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__.replace("<package>", NAME))
        return
    if any(os.environ.get(name) != value for name, value in launchers.ENVIRONMENT.items()):
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **launchers.ENVIRONMENT})
    sought = read(sys.argv[1:])
    name = sought.section.name or f"{sought.section.sampler}-{fingerprint(sought.plan)}"
    experiment.refuse_foreign(name, len(sought.section.metrics) > 1)
    study = studies.create(name, sought.section.metrics, sought.plan)
    if sought.section.sampler == "grid":
        planned = search.grid(search.distributions(sought.plan["space"]))
        budget = min(len(planned), sought.section.trials or len(planned))
        studies.fill(study, {json.dumps(params, sort_keys=True): {"params": params} for params in planned[:budget]})
    else:
        budget = sought.section.trials or 0
    study.set_user_attr("budget", budget)
    study.set_user_attr("data_md5", sought.data_md5)
    launch(study, sought.launcher)
    conclude(study, repeat(study, sought), sought.section)


def read(arguments: Sequence[str]) -> Search:
    """Composes and checks what is asked for.

    Args:
        arguments: Overrides of conf/sweep.yaml.

    Raises:
        UserError: Where something is not valid, or data/prepared is not what conf/ asks for.
    """
    from omegaconf import OmegaConf

    how, fixed, searched = search.divide(arguments)
    sections: Any = OmegaConf.to_container(OmegaConf.create(config.compose(name="sweep", overrides=how + fixed)))
    asked = {"sweep": sections.pop("sweep"), "launcher": sections.pop("launcher")}
    config.check(asked, {"sweep": search.Sweep}, {"launcher"}, origin="conf/sweep.yaml")
    section = search.Sweep.model_validate_json(json.dumps(asked["sweep"]))
    if len(section.metrics) > 1 and section.pruner != "none":
        raise UserError("sweep.pruner: trials are stopped by one metric only: with two, sweep.pruner=none")
    configuration.check(config.compose(overrides=fixed))
    if (sections["train"].get("strategy") or {}).get("distribution") == "multi_worker":
        raise UserError("train/strategy: a trial is trained by one worker: choose default or mirrored for the sweep")
    data_md5 = require_prepared(sections)
    manifest = prepared.manifest()
    known = ["val_loss", f"val_{targets.target(manifest).METRIC}", search.LATENCY]
    if unknown := [metric for metric in section.metrics if metric not in known]:
        raise UserError(f"sweep.metrics: {unknown[0]} is not measured here: choose from {', '.join(known)}")
    if section.sampler != "grid" and section.trials is None:
        raise UserError("sweep.trials: say how many trials to run, sweep.trials=50 for instance")
    plan = {
        **{key: asked["sweep"][key] for key in ("sampler", "seed", "metrics", "pruner", "warmup")},
        "space": search.space(asked["sweep"]["space"], fixed, searched),
        "fixed": fixed,
        "base": worker.parameters(sections),
        "choices": config.choices(overrides=fixed),
        "data": manifest["digests"],
        "code": code(),
    }
    if section.sampler != "grid" and not plan["space"]:
        raise UserError("sweep.space: nothing is searched: name it in conf/sweep/space/ or on the command line")
    return Search(section, asked["launcher"], json.loads(json.dumps(plan)), data_md5)


def require_prepared(sections: Mapping[str, Any]) -> str:
    """Stops where data/prepared is not what the pipeline would train on; returns its MD5, as dvc.lock has it.

    Args:
        sections: The composed configuration.

    Raises:
        UserError: Naming the command that makes it.
    """
    from yaml import safe_load

    lock = Path("dvc.lock")
    stages = safe_load(lock.read_text(encoding="utf-8"))["stages"] if lock.exists() else {}
    stage = stages.get("prepare", {})
    made = config.flatten(stage.get("params", {}).get("params.yaml", {}))
    asked = config.flatten({key: sections[key] for key in ("data", "prepare")})
    if made != asked or not prepared.PREPARED.is_dir():
        other = [key for key in asked if made and asked[key] != made.get(key)]
        why = f"was made with another {', '.join(other)}" if other else "does not exist yet"
        raise UserError(f"{prepared.PREPARED} {why}: run `dvc repro prepare`, or `dvc pull` if it was made elsewhere")
    ask = [sys.executable, "-m", "dvc", "status", "--json", "prepare"]
    status = subprocess.run(ask, capture_output=True, text=True, check=False)
    if status.returncode != 0 or status.stdout.strip() != "{}":
        raise UserError(f"{prepared.PREPARED} is not up to date (see `dvc status prepare`): run `dvc repro prepare`")
    return next(str(out["md5"]) for out in stage["outs"] if out["path"] == prepared.PREPARED.as_posix())


def code() -> str:
    """Returns the SHA-256 of the code that the stage `train` depends on."""
    from yaml import safe_load

    found = hashlib.sha256()
    for dependency in safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]["train"]["deps"]:
        path = Path(dependency)
        for file in [path] if path.suffix == ".py" else sorted(path.rglob("*.py")):
            found.update(f"{file.as_posix()}\n".encode() + file.read_bytes())
    return found.hexdigest()


def fingerprint(plan: Mapping[str, Any]) -> str:
    """Returns eight digits that stand for a search."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:8]


def remaining(study: "optuna.Study") -> int:
    """Returns how many trials have not ended."""
    return max(0, int(study.user_attrs["budget"]) - len(ended(study)))


def ended(study: "optuna.Study") -> "list[FrozenTrial]":
    """Returns the trials that have ended and are not tried again."""
    return [trial for trial in studies.taken(study) if trial.state.is_finished()]


def launch(study: "optuna.Study", launcher: Mapping[str, Any]) -> None:
    """Runs workers until every trial has ended.

    Args:
        study: The study.
        launcher: Section `launcher`.

    Raises:
        UserError: Where workers die before one of them takes a trial.
        KeyboardInterrupt: After Ctrl-C; trials that ran are given back.
    """
    left, done = remaining(study), len(ended(study))
    print(f"sweep {study.study_name}: {done} of {done + left} trials have ended, {left} are left", file=sys.stderr)
    try:
        with watched(study):
            attend(study, launcher)
    except KeyboardInterrupt:
        studies.interrupt(study)
        runs.stop_or_warn(study)
        print(f"\nsweep {study.study_name}: {remaining(study)} trials are left", file=sys.stderr)
        raise


def attend(study: "optuna.Study", launcher: Mapping[str, Any]) -> None:
    """Starts workers as long as there is something for them to do, and waits until every trial has ended.

    Args:
        study: The study.
        launcher: Section `launcher`.

    Raises:
        UserError: Where workers die before one of them takes a trial.
    """
    name, waits = study.study_name, False
    work = functools.partial(worker.work, name, launchers.threads(launcher))
    while True:
        with studies.place(name).one_at_a_time("claim"):
            free = studies.free(study)
        if not (left := remaining(study)):
            return
        if not free:  # until they end, or die
            if not waits:
                print(f"sweep {name}: waiting for {left} trial{'s' * (left > 1)} of other workers", file=sys.stderr)
            waits = True
            threading.Event().wait(LOOK)
            continue
        before = begun(study)
        lost = config.instantiate(launcher, work, studies.place(name).folder)
        for reason in lost:
            print(f"a worker was lost: {reason}", file=sys.stderr)
        if lost and begun(study) == before:
            raise UserError(f"no worker could take a trial: {lost[0]}")


def begun(study: "optuna.Study") -> int:
    """Returns how many trials have been begun, lost ones included."""
    return sum(trial.state.name != "WAITING" for trial in study.get_trials(deepcopy=False))


@contextmanager
def watched(study: "optuna.Study") -> Iterator[None]:
    """Shows how far a study is, and logs to MLflow what has ended, while workers run.

    Args:
        study: The study.
    """
    from tqdm import tqdm

    over, own = threading.Event(), studies.load(study.study_name)  # its caches are no other thread's

    def look() -> None:
        last = warned = False
        with tqdm(total=study.user_attrs["budget"], desc=own.study_name, unit=" trials", disable=None) as bar:
            while not last:
                last = over.wait(SYNC)
                try:
                    bar.set_postfix_str(report.summary(own), refresh=False)
                    bar.update(len(ended(own)) - bar.n)
                    runs.sync_or_warn(own)
                except Exception as error:  # whatever the storage raises: where it stays away, the workers say so
                    if not warned:
                        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                        print(f"warning: how far the sweep is cannot be read: {reason}", file=sys.stderr)
                    warned = True

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def repeat(study: "optuna.Study", sought: Search) -> "optuna.Study | None":
    """Repeats the best trials over other seeds than theirs: the best of many owes something to its seed.

    Args:
        study: The study.
        sought: The sweep.

    Returns:
        The study of the repetitions, where there are any.
    """
    best = trials.best(study, sought.section.top)
    planned = {}
    for trial in best:
        own, first = trial.user_attrs["overrides"], trial.user_attrs["seed"]
        for seed in range(first + 1, first + 1 + sought.section.seeds) if first is not None else ():
            attributes = {"given": [*own, f"train.seed={seed}"], "repeat_of": trial.number}
            planned[f"trial {trial.number}, seed {seed}"] = {"user_attrs": attributes}
    if not planned:
        return None
    plan = {**sought.plan, "fixed": [], "space": {}, "sampler": "random", "pruner": "none"}
    repeats = studies.create(study.study_name + studies.REPEATS, sought.section.metrics, plan)
    repeats.set_user_attr("wanted", list(planned))
    # Solved exactly, without a seed: every repetition would give the same.
    repeats.set_user_attr("exact", [trial.number for trial in best if trial.user_attrs["seed"] is None])
    repeats.set_user_attr("budget", len(planned))
    studies.fill(repeats, planned)
    launch(repeats, sought.launcher)
    return repeats


def conclude(study: "optuna.Study", repeats: "optuna.Study | None", section: search.Sweep) -> None:
    """Writes tables, plots and experiments, and says where they are.

    Args:
        study: The study.
        repeats: Its repetitions over seeds, where there are any.
        section: Section `sweep`.

    Raises:
        UserError: Where no trial was completed.
    """
    name, folder = study.study_name, studies.place(study.study_name).folder
    drawn = [path.stem for path in report.write(study, repeats, folder)]
    print(report.table(study, section.top))
    if repeats is not None:
        print(report.seeds_table(study, repeats))
    runs.finish_or_warn(study, repeats, folder)
    best = trials.winners(study, repeats)
    if not best:
        errors = [trials.error(trial) for trial in ended(study)]
        raise UserError(f"no trial was completed; the last one: {errors[-1]}")
    written = []
    for trial in best:
        own, done = name if len(best) == 1 else f"{name}-{trial.number}", trial.user_attrs
        if config.choices(overrides=done["overrides"]).get("debug") is not None:
            print("debug: these trials are there to look at, no experiment is written")
            break
        comment = report.comment(study, repeats, trial)
        written.append(experiment.write(own, name, done["overrides"], done["parameters"], comment))
        print(f"{written[-1]}: dvc exp run -S {experiment.GROUP}={own}")
    else:
        experiment.forget(name, written)
    fewer = "" if "importances" in drawn else f" (importances take {trials.ENOUGH} complete trials of two parameters)"
    print(f"{folder}/: plots{fewer} and trials.csv; all runs: make mlflow")


if __name__ == "__main__":
    stages.run(main, interrupted="the same command goes on where the sweep was")
