"""params.yaml: composed from conf/, checked, and never overwritten after an edit by hand."""

import hashlib
import sys
from pathlib import Path
from typing import Any

from .core import config, errors
from .evaluation.settings import Evaluate
from .preparation.settings import Prepare
from .training import fit

SCHEMAS: dict[str, type[config.Section]] = {"prepare": Prepare, "evaluate": Evaluate}
REQUIRED = {"data", "model", "train"}  # sections that name a function in `_target_`


def check(text: str) -> None:
    """Checks a composed configuration.

    Args:
        text: The configuration as YAML.

    Raises:
        cli.UserError: With a line for each problem.
    """
    from omegaconf import OmegaConf

    raw: Any = OmegaConf.to_container(OmegaConf.create(text))
    if missing := sorted(REQUIRED - set(raw)):
        raise errors.UserError(f"conf/config.yaml: its defaults must choose {' and '.join(missing)}")
    if isinstance(raw["train"], dict):
        fit.refuse_steps(raw["train"])
    config.check(raw, SCHEMAS, {folder.name for folder in config.CONF.iterdir() if folder.is_dir()})
    fit.refuse_mismatch(raw["model"], config.target(raw["train"]["_target_"]))


def refuse_hand_edit(composed: str) -> None:
    """Stops where params.yaml holds something that neither DVC nor this stage has written.

    Args:
        composed: What conf/ gives now.

    Raises:
        cli.UserError: Naming the two right ways to change a value.
    """
    params = config.PARAMS
    if not params.exists() or params.read_text(encoding="utf-8") == composed:
        return
    if hashlib.md5(params.read_bytes(), usedforsecurity=False).hexdigest() != recorded_hash():
        raise errors.UserError(
            f"{params} was changed by hand (or by an experiment that was stopped): {'; '.join(changes(composed))}. "
            f"Nothing was overwritten. Edit conf/ or use `dvc exp run -S key=value`; `rm {params}` drops the change"
        )


def recorded_hash() -> str | None:
    """Returns the MD5 of params.yaml that dvc.lock records, if any."""
    from omegaconf import OmegaConf

    lock = Path("dvc.lock")
    recorded: Any = OmegaConf.to_container(OmegaConf.load(lock)) if lock.exists() else {}
    stage = recorded.get("stages", {}).get("config", {})
    return next((out["md5"] for out in stage.get("outs", []) if out["path"] == str(config.PARAMS)), None)


def changes(composed: str) -> list[str]:
    """Returns `key: old -> new` for every value in which params.yaml and `composed` differ."""
    from omegaconf import OmegaConf

    old, new = config.flatten(config.read()), config.flatten(OmegaConf.to_container(OmegaConf.create(composed)))
    return [f"{k}: {old.get(k)} -> {new.get(k)}" for k in sorted({*old, *new}) if old.get(k) != new.get(k)]


def write(composed: str) -> None:
    """Writes params.yaml in one step and prints what changed."""
    if config.PARAMS.exists():
        for change in changes(composed):
            print(f"config: {change}", file=sys.stderr)
    temporary = config.PARAMS.with_suffix(".tmp")
    temporary.write_text(composed, encoding="utf-8")
    temporary.replace(config.PARAMS)
