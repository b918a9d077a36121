"""params.yaml: composed from conf/, checked, protected after an edit by hand."""

import json
import sys
from collections.abc import Mapping
from typing import Any

from .core import config, files
from .core.errors import UserError
from .evaluation.settings import Evaluate
from .explanation.settings import Explain
from .preparation.settings import Prepare
from .tracking import lockfile
from .training import fit

SCHEMAS: dict[str, type[config.Section]] = {"prepare": Prepare, "explain": Explain, "evaluate": Evaluate}
REQUIRED = {"data", "model", "train", "explain"}  # sections that a folder of conf/ holds


def check(text: str) -> None:
    """Checks a composed configuration.

    Args:
        text: The configuration as YAML.

    Raises:
        UserError: If the configuration is not valid; the message has a line for each problem.
    """
    check_sections(parse(text))


def check_sections(content: Mapping[str, Any]) -> None:
    """Checks the sections of a composed configuration.

    Args:
        content: Section name -> section.

    Raises:
        UserError: If the configuration is not valid; the message has a line for each problem.
    """
    if missing := sorted(REQUIRED - content.keys()):
        raise UserError(f"conf/config.yaml: its defaults must choose {' and '.join(missing)}")
    if isinstance(content["train"], dict):
        fit.refuse_steps(content["train"])
    config.check(content, SCHEMAS, {folder.name for folder in config.CONF.iterdir() if folder.is_dir()})
    fit.refuse_mismatch(content["model"], config.target(content["train"]["_target_"]))
    refuse_unknown_names(content)


def refuse_unknown_names(content: Mapping[str, Any]) -> None:
    """Rejects names in section `evaluate` that the data do not have, before a model is trained on them.

    Args:
        content: The sections of the configuration.

    Raises:
        UserError: Naming a column or class that does not exist.
    """
    settings = Evaluate.model_validate_json(json.dumps(content["evaluate"]))
    if not (settings.fixed or settings.slices or settings.monitored or settings.decision):
        return
    from . import preparation  # here, not above: most configurations have no names
    from .evaluation import names

    try:
        described = preparation.described(config.instantiate(content["data"]))
    except UserError:
        return  # without data, nothing is known of them; `prepare` says what is wrong
    names.check(settings, described)


def parse(text: str) -> dict[str, Any]:
    """The sections of a composed configuration.

    Args:
        text: The configuration as YAML.
    """
    from omegaconf import OmegaConf

    content: Any = OmegaConf.to_container(OmegaConf.create(text))
    return dict(content)


def refuse_hand_edit(composed: str) -> None:
    """Rejects a params.yaml that was edited by hand.

    Args:
        composed: The configuration composed from conf/, as YAML.

    Raises:
        UserError: If params.yaml is neither `composed` nor the version in dvc.lock; the message names the right ways to
            change a value.
    """
    params = config.PARAMS
    if not params.exists() or params.read_text(encoding="utf-8") == composed:
        return
    if files.digest(params, "md5") != recorded_hash():
        raise UserError(
            f"{params} was changed by hand (or by an experiment that was stopped): {'; '.join(changes(composed))}. "
            f"Nothing was overwritten. Edit conf/ or use `dvc exp run -S key=value`; `rm {params}` drops the change"
        )


def recorded_hash() -> str | None:
    """The MD5 of params.yaml in dvc.lock; None if it is not recorded."""
    stages = lockfile.stages(lockfile.read_lock()) if lockfile.LOCK.exists() else {}
    return stages["config"].outputs.get(str(config.PARAMS)) if "config" in stages else None


def changes(composed: str) -> list[str]:
    """A line `key: old -> new` for each value that differs from params.yaml.

    Args:
        composed: The other configuration, as YAML.
    """
    old, new = config.flatten(config.read()), config.flatten(parse(composed))
    return [f"{key}: {old.get(key)} -> {new.get(key)}" for key in sorted({*old, *new}) if old.get(key) != new.get(key)]


def write(composed: str) -> None:
    """Writes params.yaml atomically and prints the changed values.

    Args:
        composed: The configuration as YAML.
    """
    if config.PARAMS.exists():
        for change in changes(composed):
            print(f"config: {change}", file=sys.stderr)
    files.write_text(config.PARAMS, composed)
