"""The end of a sweep: conf/experiment/<name>.yaml, which says what the winner does otherwise than the defaults."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from .. import config
from ..cli import UserError
from . import worker

FOLDER = config.CONF / "experiment"
GROUP = "experiment"


class _Dumper(yaml.SafeDumper):
    """Writes lists in one line, as the files of conf/ do."""


_Dumper.add_representer(list, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, True))


def refuse_foreign(name: str, study: str) -> None:
    """Stops where a file of this name was not written by this study: it would be lost.

    Args:
        name: Of the experiment.
        study: Of the study.

    Raises:
        UserError: Naming the file.
    """
    path = FOLDER / f"{name}.yaml"
    if path.exists() and _signature(study) not in path.read_text(encoding="utf-8"):
        raise UserError(f"{path} is there and was not written by the sweep {study}: choose another sweep.name")


def write(name: str, study: str, overrides: Sequence[str], parameters: Mapping[str, Any], comment: str) -> Path:
    """Writes an experiment with which the pipeline does what a trial did.

    Args:
        name: Of the experiment.
        study: Of the study.
        overrides: Of the trial.
        parameters: Dotted key -> value: what the trial was trained with.
        comment: Which trial, and its score.

    Returns:
        The file.

    Raises:
        UserError: Where the file would not compose to the trial's parameters.
    """
    refuse_foreign(name, study)
    chosen = groups(overrides)
    base = composed([f"{group}={choice}" for group, choice in chosen.items()])
    content: dict[str, Any] = {}
    for key, value in parameters.items():
        if key not in base or base[key] != value:
            section = content
            *parents, last = key.split(".")
            for parent in parents:
                section = section.setdefault(parent, {})
            section[last] = value
    lines = ["# @package _global_", f"# {_signature(study)}", f"# {comment}", f"# dvc exp run -S {GROUP}={name}"]
    if chosen:
        lines += ["defaults:", *(f"  - override /{group}: {choice}" for group, choice in chosen.items())]
    text = "\n".join(lines) + "\n"
    if content:
        text += ("\n" if chosen else "") + yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    path = FOLDER / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    other = {key for key, value in composed([f"{GROUP}={name}"]).items() if parameters.get(key) != value}
    if other:
        raise UserError(f"{path} does not compose to what the trial did: {', '.join(sorted(other))}; write it by hand")
    return path


def groups(overrides: Sequence[str]) -> dict[str, str]:
    """Returns group -> choice, for those that differ from the defaults and do not follow from another one.

    Args:
        overrides: Of the trial.
    """
    wanted, have, chosen = config.choices(overrides=overrides), config.choices(), dict[str, str]()
    for group in sorted(wanted, key=lambda group: group != "model"):  # a linear model chooses its training itself
        if group != GROUP and wanted[group] is not None and have.get(group) != wanted[group]:
            chosen[group] = wanted[group]
            have = config.choices(overrides=[f"{key}={choice}" for key, choice in chosen.items()])
    return chosen


def composed(overrides: Sequence[str]) -> dict[str, Any]:
    """Returns what a training depends on, flat.

    Args:
        overrides: In Hydra's grammar.
    """
    return worker.parameters(yaml.safe_load(config.compose(overrides=overrides)))


def _signature(study: str) -> str:
    return f"Written by the sweep {study}."
