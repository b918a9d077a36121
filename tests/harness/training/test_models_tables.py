"""Models of tables: with every encoding, each trains, gives the same bytes again, and its export says the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from my_experiment.data import tables as data_tables
from my_experiment.harness import contracts, preparation, prepared
from my_experiment.harness.core import config, errors
from my_experiment.harness.exported import inference
from my_experiment.harness.packaging import savedmodel, tensorflow_model
from my_experiment.harness.preparation import schema_inference
from my_experiment.harness.prepared import tables as prepared_tables
from my_experiment.harness.training import export, fit, restore
from support import ROOT

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {
        "seed": 0, "epochs": 1, "batch_size": 64, "learning_rate": 0.003, "monitor": "val_loss", "patience": 6,
    },
    "boosting": {"seed": 0, "iterations": 30, "learning_rate": 0.1, "monitor": "val_loss", "patience": 6},
    "solver": {},
}  # fmt: skip
# Method -> an encoding that its models refuse, and the advice.
REFUSED = {
    "default": ("linear", "precision: float32"),
    "boosting": ("embedding", "choose features: trees"),
    "solver": ("trees", "choose features: linear"),
}


def options(group: str) -> dict[str, dict[str, Any]]:
    """Option -> section, of a group of conf/."""
    found = {}
    for file in sorted(ROOT.glob(f"conf/{group}/*.yaml")):
        section = yaml.safe_load(file.read_text(encoding="utf-8"))
        found[file.stem] = section.get(group, section)
    return found


def method(model: str) -> str:
    """The training method of a model."""
    return str(fit.method(options("model")[model]))


# Keras computes in 32 bits; embeddings are its own; a linear model needs a value in every row.
SUITABLE = {
    "default": {"default", "embedding", "hashing"},
    "boosting": {"default", "hashing", "linear", "trees"},
    "solver": {"default", "hashing", "linear"},
}


PAIRS = [
    pytest.param(
        model, features, marks=pytest.mark.keras if method(model) == "default" else [], id=f"{model}-{features}"
    )
    for model in options("model")
    for features in options("features")
    if features in SUITABLE[method(model)]
]


@pytest.fixture
def manifest(workspace: Path) -> dict[str, Any]:
    """A prepared table of numbers and categories, both with gaps, for the target of this project."""
    random = np.random.default_rng(0)
    size, colour = random.normal(size=300).round(3), random.choice(np.array(["red", "grün", "blue sky", None]), 300)
    signal = size + (colour == "red") + random.normal(size=300)
    problem = config.read(ROOT / "conf/data/csv.yaml")["problem"]
    rows = {
        "size in cm": np.where(random.random(300) < 0.1, np.nan, size),
        "weight": random.uniform(40, 90, 300).round(1),
        "colour ✨": colour,
        "y": signal.round(3) if problem == "regression" else np.where(signal > 0.3, "yes", "no"),
    }
    path = Path("data/raw/table.csv")
    path.parent.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(path, index=False)
    source = data_tables.csv(
        path=str(path), delimiter=",", encoding="utf-8", target="y", problem=problem, drop=[], categories=[], id=None,
        time=None, group=None, split="random", nulls=[], decimal=".", thousands=None, schema="schema/table.yaml",
        on_invalid="stop",
    )  # fmt: skip
    schema_inference.write(schema_inference.infer(source), source.schema)
    preparation.write(source, contracts.Splits(0, 0.2, 0.2))
    content: dict[str, Any] = prepared.manifest()
    return content


def train(model: str, features: str, manifest: dict[str, Any], folder: Path) -> tuple[Any, dict[str, bytes]]:
    """Trains and exports; returns what it was trained on, and the files."""
    sections = {"model": options("model")[model], "features": options("features")[features]}
    inputs = prepared_tables.inputs(manifest, sections["features"])
    name = method(model)
    if name == "default":
        from my_experiment.harness.training.quiet import keras

        keras.utils.clear_session()  # layers are numbered within a process
    fitted = fit.METHODS[name](sections["model"], inputs, manifest, **SETTINGS[name])
    export.save(fitted, inputs, manifest, sections, folder)  # compares ONNX with what was fitted
    return inputs, {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize(("model", "features"), PAIRS)
def test_every_model_trains_to_the_same_bytes_and_is_exported(
    manifest: dict[str, Any], model: str, features: str
) -> None:
    inputs, first = train(model, features, manifest, Path("one"))
    assert set(first) == {"model.json", "model.onnx", "weights.npz"}
    # To a network, the others are as the default: numbers.
    if method(model) != "default" or features in ("default", "embedding"):
        assert train(model, features, manifest, Path("two"))[1] == first
    answers = inference.predict(Path("one/model.onnx"), prepared_tables.feeds("test"))
    assert answers.shape == (manifest["examples"]["test"], len(manifest.get("classes", [0])))
    assert np.isfinite(answers).all()
    assert (answers != answers[0]).any()
    if method(model) == "default":
        rebuilt = restore.load_keras(Path("one"))
        np.testing.assert_allclose(np.asarray(rebuilt(inputs.array("test"))), answers, rtol=0, atol=1e-5)


@pytest.mark.parametrize("model", sorted(options("model")))
def test_an_encoding_that_a_model_cannot_use_is_refused(manifest: dict[str, Any], model: str) -> None:
    features, advice = REFUSED[method(model)]
    with pytest.raises(errors.UserError, match=advice):
        train(model, features, manifest, Path("one"))


@pytest.mark.parametrize("model", sorted(options("model")))
def test_a_way_of_fitting_that_a_model_has_not_is_refused(manifest: dict[str, Any], model: str) -> None:
    inputs = prepared_tables.inputs(manifest, options("features")["default"])
    section = options("model")[model]
    needed = method(model)
    for name in fit.METHODS.keys() - {needed}:
        with pytest.raises(errors.UserError, match=rf"^train: .* is not fitted by .*: choose train: {needed} in "):
            fit.METHODS[name](section, inputs, manifest, **SETTINGS[name])


@pytest.mark.keras
@pytest.mark.parametrize(("model", "features"), PAIRS)
def test_tensorflow_serving_gets_a_model_that_answers_as_the_exported_one(
    manifest: dict[str, Any], model: str, features: str
) -> None:
    train(model, features, manifest, Path("one"))
    Path("params.yaml").write_text("data: {schema: schema/table.yaml}")  # which says what is private
    schema = Path("schema/table.yaml").read_text(encoding="utf-8")
    Path("schema/table.yaml").write_text(schema.replace("  weight: {", "  weight: {private: drop, "), encoding="utf-8")
    if features == "hashing":
        with pytest.raises(errors.UserError, match="MurmurHash3"):
            tensorflow_model.read(Path("one"))
        return
    differences = savedmodel.write(tensorflow_model.read(Path("one")), Path("served"), Path("one"))
    assert set(differences) == {"serving_default", "regress" if manifest["target"] == "regression" else "classify"}
    assert max(differences.values()) <= 1e-5
    (warm_up,) = Path("served").rglob("tf_serving_warmup_requests")
    asked = next(iter(prepared.modality(manifest).feeds("test", 1)))
    assert np.float32(asked["weight"]).tobytes() not in warm_up.read_bytes()
