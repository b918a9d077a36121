"""Configuration: every option is valid, and every experiment trains."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ..harness import configuration, prepared
from ..harness.core import config
from ..harness.core.errors import UserError
from ..harness.training import fit
from . import ROOT

NO_SECTIONS = {"debug", "experiment", "gates", "launcher", "sweep"}  # groups that are not sections of config.yaml
OPTIONS = sorted((f.parent.name, f.stem) for f in ROOT.glob("conf/*/*.yaml") if f.parent.name not in NO_SECTIONS)
EXPERIMENTS = sorted(file.stem for file in ROOT.glob("conf/experiment/*.yaml"))
DEBUG = sorted(file.stem for file in ROOT.glob("conf/debug/*.yaml"))
OVERRIDES = [f"experiment={name}" for name in EXPERIMENTS] + [f"debug={name}" for name in DEBUG]
SLOW = {"mobilenet_v3", "resnet50", "limit", "overfit"}  # large networks, or many epochs


def compose(override: str) -> str:
    """The configuration with an override; skips debug=... if the project's model is no Keras model."""
    composed = config.compose(overrides=[override])
    if override.startswith("debug=") and fit.method(yaml.safe_load(composed)["model"]) != "default":
        pytest.skip("debug=... is for Keras models")
    return composed


def test_the_defaults_are_valid() -> None:
    configuration.check(config.compose())


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_of_a_group_is_valid(workspace: Path, group: str, option: str) -> None:
    composed = config.compose(overrides=[f"{group}={option}"])
    try:
        configuration.check(composed.replace("???", "chosen"))  # csv and parquet have no default target
    except UserError as error:
        assert group == "train" and "choose train:" in str(error)  # e.g. `solver`, which the default model cannot use
    written = yaml.safe_load(Path(f"conf/{group}/{option}.yaml").read_text("utf-8"))
    section = written.get(group, written)  # an option that overrides other groups is `@package _global_`
    section.pop("defaults", None)
    assert section.items() <= yaml.safe_load(composed)[group].items()


@pytest.mark.parametrize("override", OVERRIDES)
def test_an_experiment_is_valid_and_differs_from_the_defaults(override: str) -> None:
    composed = compose(override)
    configuration.check(composed)
    assert composed != config.compose()


@pytest.mark.parametrize("name", sorted(configuration.REQUIRED))
def test_an_unknown_key_is_one_line_that_names_it(name: str) -> None:
    raw = yaml.safe_load(config.compose())
    raw[name]["unknwon"] = 1
    with pytest.raises(UserError, match=rf"\n  {name}\.unknwon: unknown key") as error:
        configuration.check(yaml.safe_dump(raw))
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.keras
@pytest.mark.parametrize(
    "override",
    [pytest.param(o, marks=pytest.mark.slow if o.partition("=")[2] in SLOW else ()) for o in OVERRIDES],
)
@pytest.mark.skipif(not (ROOT / prepared.PREPARED).is_dir(), reason="needs data/prepared: `dvc repro prepare`")
def test_an_experiment_trains(override: str, workspace: Path) -> None:
    """One epoch on the project's data, with random instead of downloaded weights."""
    (workspace / "data").mkdir()
    (workspace / prepared.PREPARED).symlink_to(ROOT / prepared.PREPARED)
    sections: dict[str, Any] = yaml.safe_load(compose(override))
    if "epochs" in sections["train"]:
        sections["train"].update(epochs=1, limit=64, threads=None)
    if "iterations" in sections["train"]:
        sections["train"].update(iterations=2)
    if "weights" in sections["model"]:
        sections["model"].update(weights=None, fine_tune_epochs=1)
    manifest = prepared.manifest()
    modality = prepared.modality(manifest)
    inputs = modality.inputs(manifest, sections[modality.SECTION])
    fitted = config.instantiate(sections["train"], sections["model"], inputs, manifest)
    assert len(fitted.history) >= 1
