"""The experiment of a sweep's best trial: conf/experiment/<name>.yaml."""

import glob
import re
import shlex
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..core import config, files
from ..core.errors import UserError
from . import worker

GROUP = "experiment"
FOLDER = config.CONF / GROUP
_ABSENT = object()


class _Dumper(yaml.SafeDumper):
    """Writes a list in one line, as the files of conf/ do."""


_Dumper.add_representer(list, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, True))


def refuse_foreign(study: str, front: bool) -> None:
    """Rejects a sweep that would overwrite an experiment of another origin.

    Args:
        study: Name of the study.
        front: Whether the sweep writes an experiment for each trial of a Pareto front.

    Raises:
        UserError: If an experiment of that name exists that the sweep did not write.
    """
    suffix = r"(-[0-9]+)?" if front else ""
    for path in sorted(FOLDER.glob("*.yaml")):
        if re.fullmatch(re.escape(study) + suffix, path.stem) and not _written_by(study, path):
            raise UserError(f"{path} exists and was not written by the sweep {study}: choose another sweep.name")


def write(name: str, study: str, overrides: Sequence[str], parameters: Mapping[str, Any], comment: str) -> Path:
    """Writes the experiment with which the pipeline reproduces a trial.

    Args:
        name: Name of the experiment.
        study: Name of the study.
        overrides: The trial's overrides.
        parameters: The trial's configuration, as dotted key -> value.
        comment: The trial's number and score.

    Returns:
        The file.

    Raises:
        UserError: If the experiment would not compose to the trial's configuration; no file is then written.
    """
    refuse_foreign(study, name != study)
    text = _text(name, study, overrides, parameters, comment)
    path = FOLDER / f"{name}.yaml"
    try:
        differing = sorted(key for key, value in _draft(path.name, text).items() if parameters.get(key) != value)
        if differing:
            raise UserError(f"{', '.join(differing)} would differ")
    except UserError as error:
        raise UserError(
            f"{path} was not written, because it would not reproduce the trial: {error}; write it by hand from "
            f"{shlex.join(overrides)}"
        ) from error
    files.write_text(path, text)
    return path


def _text(name: str, study: str, overrides: Sequence[str], parameters: Mapping[str, Any], comment: str) -> str:
    """The content of an experiment: choices and values that are not defaults."""
    choices = groups(overrides)
    defaults = composed([f"{group}={choice}" for group, choice in choices.items()])
    lines = ["# @package _global_", f"# {_signature(study)}", f"# {comment}", f"# dvc exp run -S {GROUP}={name}"]
    if choices:
        lines += ["defaults:", *(f"  - override /{group}: {choice}" for group, choice in choices.items())]
    text = "\n".join(lines) + "\n"
    if content := _nested({key: value for key, value in parameters.items() if defaults.get(key, _ABSENT) != value}):
        text += "\n" if choices else ""
        text += yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key -> value, as nested mappings."""
    content: dict[str, Any] = {}
    for key, value in flat.items():
        section = content
        *parents, last = key.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = value
    return content


def _draft(file: str, text: str) -> dict[str, Any]:
    """The configuration of a new experiment, composed in a copy of conf/."""
    with tempfile.TemporaryDirectory() as folder:
        conf = Path(shutil.copytree(config.CONF, Path(folder, config.CONF)))
        files.write_text(conf / GROUP / file, text)
        try:
            return composed([f"{GROUP}={Path(file).stem}"], conf)
        except UserError as error:
            raise UserError(str(error).replace(f"{folder}/", "")) from error


def forget(study: str, written: Collection[Path]) -> None:
    """Removes experiments of trials that are no longer among the best.

    Args:
        study: Name of the study.
        written: Experiments that this command wrote; they stay.
    """
    for path in set(FOLDER.glob(f"{glob.escape(study)}*.yaml")) - set(written):
        if _written_by(study, path):
            path.unlink()


def groups(overrides: Sequence[str]) -> dict[str, str]:
    """Configuration group -> choice, if it differs from the default.

    A choice that follows from another one is left out: a linear model chooses its section `train`.

    Args:
        overrides: The trial's overrides.
    """
    wanted, present, chosen = config.choices(overrides=overrides), config.choices(), dict[str, str]()
    for group in sorted(wanted, key=lambda group: group != "model"):  # other choices may follow from the model
        if group != GROUP and wanted[group] is not None and present.get(group) != wanted[group]:
            chosen[group] = wanted[group]
            present = config.choices(overrides=[f"{key}={choice}" for key, choice in chosen.items()])
    return chosen


def composed(overrides: Sequence[str], conf: Path = config.CONF) -> dict[str, Any]:
    """The configuration of a training, as dotted key -> value.

    Args:
        overrides: Overrides in Hydra's grammar.
        conf: The folder with config.yaml and its groups.
    """
    return worker.parameters(yaml.safe_load(config.compose(conf, overrides=overrides)))


def _written_by(study: str, path: Path) -> bool:
    return f"# {_signature(study)}\n" in path.read_text(encoding="utf-8")


def _signature(study: str) -> str:
    return f"Written by the sweep {study}."
