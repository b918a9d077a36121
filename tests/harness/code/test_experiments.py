"""Every file of conf/experiment/ and conf/debug/ composes, is valid, and trains: none rots unseen."""

from pathlib import Path
from typing import Any
import pytest
import yaml
from support import ROOT
from my_experiment.harness import configuration
from my_experiment.harness.core import config
from my_experiment.harness.core import errors
from my_experiment.harness import prepared

EXPERIMENTS = sorted(file.stem for file in ROOT.glob("conf/experiment/*.yaml"))
DEBUG = sorted(file.stem for file in ROOT.glob("conf/debug/*.yaml"))
SLOW = {"mobilenet_v3", "resnet50", "limit", "overfit"}
OVERRIDES = [f"experiment={name}" for name in EXPERIMENTS] + [f"debug={name}" for name in DEBUG]


@pytest.fixture
def in_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """The project itself as working directory, for its prepared data."""
    monkeypatch.chdir(ROOT)
    if not prepared.PREPARED.is_dir():
        pytest.skip("needs data/prepared: `dvc repro prepare`")



def fit(sections: dict[str, Any]) -> Any:
    """Trains what a configuration says; returns the history."""
    manifest = prepared.manifest()
    modality = prepared.modality(manifest)
    inputs = modality.inputs(manifest, sections[modality.SECTION])
    return config.instantiate(sections["train"], sections["model"], inputs, manifest).history



@pytest.mark.parametrize("override", OVERRIDES)
def test_it_is_a_valid_configuration(override: str, workspace: Path) -> None:
    text = config.compose(overrides=[override])
    configuration.check(text)
    assert text != config.compose()



@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("preset", DEBUG)
def test_a_debug_preset_suits_every_model_that_is_trained_in_steps(preset: str, name: str, workspace: Path) -> None:
    text = config.compose(overrides=[f"experiment={name}", f"debug={preset}"])
    if "exact" not in yaml.safe_load(text)["train"]["_target_"]:
        configuration.check(text)
        return
    with pytest.raises(errors.UserError, match=r"^train\.\w+.*: a model that is solved exactly knows no steps, ") as error:
        configuration.check(text)
    assert "\n" not in str(error.value)



@pytest.mark.keras
@pytest.mark.parametrize(
    "override",
    [
        pytest.param(override, marks=pytest.mark.slow if override.partition("=")[2] in SLOW else ())
        for override in OVERRIDES
    ],
)
@pytest.mark.usefixtures("in_project")
def test_it_trains(override: str) -> None:
    """On the project's own data, with a tiny budget and random weights in place of downloaded ones."""
    sections: dict[str, Any] = yaml.safe_load(config.compose(overrides=[override]))
    if "epochs" in sections["train"]:
        sections["train"].update(epochs=1, limit=64, threads=None)
    if "weights" in sections["model"]:
        sections["model"].update(weights=None, fine_tune_epochs=1)
    assert len(fit(sections)) >= 1
    if override == "debug=profile":
        assert list(Path("build/profile").rglob("*.xplane.pb"))



@pytest.mark.keras
@pytest.mark.slow
@pytest.mark.usefixtures("in_project")
def test_one_batch_can_be_learnt_by_heart() -> None:
    history = fit(yaml.safe_load(config.compose(overrides=["debug=overfit", "model=mlp", "train.epochs=60"])))["loss"]
    assert history.iloc[-1] < 0.05 * history.iloc[0]



