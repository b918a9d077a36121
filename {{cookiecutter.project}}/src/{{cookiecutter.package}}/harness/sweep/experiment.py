"""The end of a sweep: conf/experiment/<name>.yaml, which says what the winner does otherwise than the defaults."""

import glob
import re
import shlex
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..core import config
from ..core.errors import UserError
from . import worker

FOLDER = config.CONF / "experiment"
GROUP = "experiment"


class _Dumper(yaml.SafeDumper):
    """Writes lists in one line, as the files of conf/ do."""


_Dumper.add_representer(list, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, True))


def refuse_foreign(study: str, front: bool) -> None:
    """Stops where a file was not written by this study, and would be lost.

    Args:
        study: Its name.
        front: Whether it writes a file for each trial of a Pareto front.

    Raises:
        UserError: Naming the file.
    """
    for path in sorted(FOLDER.glob("*.yaml")):
        if re.fullmatch(rf"{re.escape(study)}{r'(-[0-9]+)?' if front else ''}", path.stem) and not _own(path, study):
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
        UserError: Where it would not compose to the trial's parameters, and is therefore not written.
    """
    refuse_foreign(study, name != study)
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
    try:
        with tempfile.TemporaryDirectory() as folder:
            conf = Path(shutil.copytree(config.CONF, Path(folder, config.CONF)))
            (conf / GROUP).mkdir(exist_ok=True)
            (conf / GROUP / path.name).write_text(text, encoding="utf-8")
            found = composed([f"{GROUP}={name}"], conf)
        if other := sorted(key for key, value in found.items() if parameters.get(key) != value):
            raise UserError(f"{', '.join(other)} would be another")
    except UserError as error:
        raise UserError(
            f"{path} is not written, it would not give what the trial did: {str(error).replace(f'{folder}/', '')}; "
            f"write it by hand, from {shlex.join(overrides)}"
        ) from error
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def forget(study: str, kept: Collection[Path]) -> None:
    """Removes what a study has written before it went on, and what is no longer among its best.

    Args:
        study: Its name.
        kept: What it has written now.
    """
    for path in set(FOLDER.glob(f"{glob.escape(study)}*.yaml")) - set(kept):
        if _own(path, study):
            path.unlink()


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


def composed(overrides: Sequence[str], conf: Path = config.CONF) -> dict[str, Any]:
    """Returns what a training depends on, flat.

    Args:
        overrides: In Hydra's grammar.
        conf: The folder with config.yaml and its groups.
    """
    return worker.parameters(yaml.safe_load(config.compose(conf, overrides=overrides)))


def _own(path: Path, study: str) -> bool:
    return f"# {_signature(study)}\n" in path.read_text(encoding="utf-8")


def _signature(study: str) -> str:
    return f"Written by the sweep {study}."
