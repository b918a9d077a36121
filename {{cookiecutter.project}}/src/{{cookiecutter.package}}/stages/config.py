"""Stage `config`: composes conf/ into params.yaml, checks it, and never overwrites somebody's edit."""

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

from .. import cli, config, training
from .evaluate import Evaluate
from .prepare import Prepare

SCHEMAS: dict[str, type[config.Section]] = {"prepare": Prepare, "evaluate": Evaluate}
REQUIRED = {"data", "model", "train"}  # sections that name a function in `_target_`


def main() -> None:
    """Writes params.yaml, or keeps what `dvc exp run` has just composed."""
    if "DVC_EXP_NAME" not in os.environ:  # `dvc repro`: DVC itself does not look at conf/ (treeverse/dvc#10750)
        composed = config.compose()
        refuse_hand_edit(composed)
        # Checked before it is written: a bad conf/ leaves the last good params.yaml in place.
        check(composed)
        write(composed)
    check(config.PARAMS.read_text(encoding="utf-8"))


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
        raise cli.UserError(f"conf/config.yaml: its defaults must choose {' and '.join(missing)}")
    if isinstance(raw["train"], dict):
        training.refuse_steps(raw["train"])
    config.check(raw, SCHEMAS, {folder.name for folder in config.CONF.iterdir() if folder.is_dir()})
    training.refuse_mismatch(raw["model"], config.target(raw["train"]["_target_"]))


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
        raise cli.UserError(
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


if __name__ == "__main__":
    cli.run_stage("config", main)
