"""The plan of a sweep, read from the command line and conf/."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .. import configuration, prepared, targets
from ..contracts import Target
from ..core import config, programs
from ..core.errors import UserError
from ..targets import monitor
from ..tracking import lockfile
from . import samplers, space, worker
from .samplers import Direction
from .settings import LATENCY, Sweep


class Search(NamedTuple):
    """A sweep, described by the command line and conf/.

    Attributes:
        settings: Section `sweep`.
        objectives: Metric -> its direction.
        launcher: Section `launcher`.
        plan: All that the trials depend on, which identifies the search; a JSON object.
        data_md5: MD5 of data/prepared in dvc.lock.
    """

    settings: Sweep
    objectives: dict[str, Direction]
    launcher: Mapping[str, Any]
    plan: dict[str, Any]
    data_md5: str

    @property
    def name(self) -> str:
        """Name of the study."""
        digest = hashlib.sha256(json.dumps(self.plan, sort_keys=True).encode()).hexdigest()
        return self.settings.name or f"{self.settings.sampler}-{digest[:8]}"


def read(arguments: Sequence[str]) -> Search:
    """Composes and checks a sweep.

    Args:
        arguments: Overrides of conf/sweep.yaml.

    Raises:
        UserError: If a value is not valid, or data/prepared does not match the configuration.
    """
    overrides = space.divide(arguments)
    fixed = overrides.fixed
    sections = _sections("sweep", overrides.settings + fixed)
    sweep, launcher = sections.pop("sweep"), sections.pop("launcher")
    config.check({"sweep": sweep, "launcher": launcher}, {"sweep": Sweep}, {"launcher"}, origin="conf/sweep.yaml")
    settings = Sweep.model_validate_json(json.dumps(sweep))
    configuration.check(config.compose(overrides=fixed))
    _refuse_unsupported(settings, sections["train"])
    data_md5 = require_prepared(sections)
    manifest = prepared.manifest()
    objectives = _objectives(settings, targets.target(manifest))
    plan = {
        **{key: sweep[key] for key in ("sampler", "seed", "metrics", "pruner", "warmup")},
        "space": space.resolve(sweep["space"], overrides),
        "fixed": fixed,
        "base": worker.parameters(sections),
        "choices": config.choices(overrides=fixed),
        "data": manifest["digests"],
        "code": code_digest(),
    }
    if settings.sampler != "grid" and not plan["space"]:
        raise UserError("sweep.space: it is empty: name parameters in conf/sweep/space/ or on the command line")
    return Search(settings, objectives, launcher, json.loads(json.dumps(plan)), data_md5)


def _sections(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    from omegaconf import OmegaConf

    sections: Any = OmegaConf.to_container(OmegaConf.create(config.compose(name=name, overrides=overrides)))
    return dict(sections)


def _refuse_unsupported(settings: Sweep, train: Mapping[str, Any]) -> None:
    if len(settings.metrics) > 1 and settings.pruner != "none":
        raise UserError("sweep.pruner: trials are pruned by one metric only: with two, set sweep.pruner=none")
    if (train.get("strategy") or {}).get("distribution") == "multi_worker":
        raise UserError("train/strategy: one worker trains a trial: choose default or mirrored for the sweep")
    if settings.sampler != "grid" and settings.trials is None:
        raise UserError("sweep.trials: set the number of trials, sweep.trials=50 for instance")


def _objectives(settings: Sweep, target: Target) -> dict[str, Direction]:
    """Metric to optimize -> its direction."""
    known = [*monitor.choices(target), LATENCY]
    if unknown := [metric for metric in settings.metrics if metric not in known]:
        raise UserError(f"sweep.metrics: {unknown[0]} is not a metric of this project: choose from {', '.join(known)}")
    return {metric: samplers.direction(metric, target) for metric in settings.metrics}


def require_prepared(sections: Mapping[str, Any]) -> str:
    """Checks that data/prepared is up to date.

    Args:
        sections: The composed configuration.

    Returns:
        The MD5 of data/prepared in dvc.lock.

    Raises:
        UserError: If data/prepared is missing or outdated; the message names the command that makes it.
    """
    stage = lockfile.stages(lockfile.LOCK.read_text(encoding="utf-8") if lockfile.LOCK.exists() else "").get("prepare")
    recorded = config.flatten(stage.parameters if stage else {})
    required = config.flatten({name: sections[name] for name in ("data", "prepare")})
    if stage is None or recorded != required or not prepared.PREPARED.is_dir():
        changed = [key for key in required if recorded and required[key] != recorded.get(key)]
        problem = f"was made with another {' and '.join(changed)}" if changed else "does not exist yet"
        raise UserError(
            f"{prepared.PREPARED} {problem}: run `dvc repro prepare`, or `dvc pull` if it was made elsewhere"
        )
    if programs.answer(sys.executable, "-m", "dvc", "status", "--json", "prepare") != "{}":
        raise UserError(f"{prepared.PREPARED} is not up to date (see `dvc status prepare`): run `dvc repro prepare`")
    return stage.outputs[prepared.PREPARED.as_posix()]


def code_digest() -> str:
    """SHA-256 of the code on which the stage `train` depends."""
    from yaml import safe_load

    digest = hashlib.sha256()
    for dependency in safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]["train"]["deps"]:
        path = Path(dependency)
        for file in [path] if path.suffix == ".py" else sorted(path.rglob("*.py")):
            digest.update(f"{file.as_posix()}\n".encode() + file.read_bytes())
    return digest.hexdigest()
