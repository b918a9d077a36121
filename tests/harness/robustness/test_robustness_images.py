"""Robustness of a model of pictures: wide ones in color, told apart by their brightness."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from graphs_made import save_linear_classifier
from matplotlib import pyplot as plt
from my_experiment.harness import prepared
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.preparation import splits
from my_experiment.harness.prepared import images as prepared_images
from my_experiment.harness.robustness import contracts, images, images_changes, images_plots, report, subject
from my_experiment.harness.robustness.images_gradients import STEPS
from my_experiment.harness.robustness.images_gradients import attacked as attacked_by_gradients
from numpy.typing import NDArray

SHAPE, COUNT, EPSILONS = (5, 8, 3), 60, [2.0, 8.0, 24.0]
SETTINGS: dict[str, Any] = {"seed": 0, "examples": 40, "queries": 40, "epsilons": EPSILONS, "white_box": False}


def save_model(weights: NDArray[np.float32]) -> None:
    """Writes a linear model: the sum of weighted values against 128 tells dark from light."""
    flat = np.stack([-weights.ravel(), weights.ravel()], 1)
    bias = 128 * weights.sum()
    digest = save_linear_classifier(flat, [bias, -bias], SHAPE)
    Path("models/model.json").write_text(json.dumps({"sha256": digest}), encoding="utf-8")


@pytest.fixture
def trained(workspace: Path) -> Path:
    """Pictures around a middle gray, and a model that looks at all pixels."""
    random = np.random.default_rng(0)
    gray = np.where(np.arange(COUNT) % 2, 128 + random.integers(2, 40, COUNT), 128 - random.integers(2, 40, COUNT))
    pictures = np.clip(gray[:, None, None, None] + random.integers(-3, 4, (COUNT, *SHAPE)), 0, 255).astype(np.uint8)
    with splits.replaced() as folder:
        for split in prepared.SPLITS:
            np.save(folder / split / "images.npy", pictures)
            np.save(folder / split / "targets.npy", np.arange(COUNT) % 2)
        manifest = {
            "input": "images",
            "target": "classification",
            "target_name": "class",
            "classes": ["dark", "light"],
            "shape": SHAPE,
            "digests": dict.fromkeys(prepared.SPLITS, "0" * 64),
        }
        splits.write_manifest(manifest, folder)
    save_model(np.full(SHAPE, 0.002, np.float32))
    evaluate = {"seed": 0, "resamples": 100, "confidence": 0.9, "examples": 6, "shipped": 3}
    Path("params.yaml").write_text(yaml.safe_dump({"evaluate": evaluate}), encoding="utf-8")
    return workspace


def clean_pictures(found: contracts.Subject) -> images.Pictures:
    """The unchanged pictures."""
    return prepared_images.load("test")[found.rows].astype(np.float32)


@pytest.mark.usefixtures("trained")
def test_the_report() -> None:
    images.pictures(**SETTINGS)
    folder = Path("reports/robustness")
    values = json.loads((folder / "values.json").read_text(encoding="utf-8"))
    assert (values["metric"], values["clean"]["value"], values["clean"]["examples"]) == ("accuracy", 1.0, 40)
    found = {(row["name"], row["strength"]): row["value"] for row in values["attacks"]}
    assert set(found) == {(name, epsilon) for name in ("noise", "square") for epsilon in EPSILONS}
    # The model adds up all values: noise cancels out, an attack does not.
    assert [found["noise", epsilon] >= 0.95 for epsilon in EPSILONS] == [True] * 3
    assert 1 > found["square", 8.0] > found["square", 24.0]
    assert {row["name"] for row in values["changes"]} == set(images_changes.CHANGES)
    assert all(row["low"] <= row["value"] <= row["high"] for row in values["attacks"] + values["changes"])
    section = (folder / "section.md").read_text(encoding="utf-8")
    assert section.startswith("## Robustness\n\n40 of 60 test examples were changed")
    assert f"**Within an epsilon of 8 of 255, random noise leaves accuracy {found['noise', 8.0]:g}" in section
    assert f"the strongest attack tried, Square (40 queries), accuracy {found['square', 8.0]:g}" in section
    for picture in ("curves", "pairs", "changes"):
        assert f"(robustness/{picture}.png)" in section
        assert (folder / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
    first = {file: file.read_bytes() for file in folder.iterdir()}
    images.pictures(**SETTINGS)
    assert {file: file.read_bytes() for file in folder.iterdir()} == first


@pytest.mark.usefixtures("trained")
def test_attacked_pictures_are_pictures_within_epsilon_and_the_model_answers_them() -> None:
    found = subject.read(40)
    clean = clean_pictures(found)
    score: dict[tuple[str, float], float] = {}
    for name, _, epsilon, changed in images.within(found, clean, 60, EPSILONS, 0):
        assert np.abs(changed - clean).max() <= epsilon
        assert changed.min() >= 0 and changed.max() <= 255
        assert (changed == np.rint(changed)).all()
        score[name, epsilon] = found.kind.score(found.outputs({"image": changed}), found.targets).mean()
    for smaller, larger in zip([0.0, *EPSILONS], EPSILONS, strict=False):
        assert score["square", larger] <= score.get(("square", smaller), 1.0)
        assert score["square", larger] <= score["noise", larger]


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("corner", [(0, 0), (-1, -1)])
def test_a_search_reaches_every_pixel(corner: tuple[int, int]) -> None:
    """A model that looks at one pixel in a corner is fooled by it, where gray levels allow it."""
    weights = np.zeros(SHAPE, np.float32)
    weights[corner] = 0.1
    save_model(weights)
    found = subject.read(40)
    clean = clean_pictures(found)
    *_, (_, _, _, changed) = images.within(found, clean, 400, [60.0], 0)
    assert found.kind.score(found.outputs({"image": clean}), found.targets).mean() > 0.9
    assert found.kind.score(found.outputs({"image": changed}), found.targets).mean() < 0.2


@pytest.mark.parametrize("shape", [(9, 12, 3), (8, 8, 1), (1, 5, 1)])
def test_natural_changes_grow(shape: tuple[int, int, int]) -> None:
    pictures = np.random.default_rng(1).integers(40, 200, (4, *shape)).astype(np.float32)
    distance: dict[str, list[float]] = {}
    for name, _, changed in images_changes.changed(pictures, np.random.default_rng(0)):
        assert changed.shape == pictures.shape
        assert changed.min() >= 0 and changed.max() <= 255
        distance.setdefault(name, []).append(float(np.abs(changed - pictures).mean()))
    assert set(distance) == {"sensor_noise", "blur", "dark", "bright", "contrast", "jpeg", "fog"}
    for name, (weak, middle, strong) in distance.items():
        assert 0 < weak < middle < strong or (name == "jpeg" and shape == (1, 5, 1)), name


@pytest.mark.keras
@pytest.mark.usefixtures("trained")
def test_gradients_have_the_same_bits_on_every_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras computes without the estimates of a processor, in each gradient that is followed, and only there."""
    from my_experiment.harness.training import kernels
    from my_experiment.harness.training.quiet import keras, tf

    layers = keras.layers
    entry = layers.Input(SHAPE, name="image")
    hidden = layers.BatchNormalization()(layers.Flatten()(entry))
    model = keras.Model(entry, layers.Dense(2, activation="softmax")(hidden))
    weights: dict[str, Any] = {variable.path: np.asarray(variable) for variable in model.weights}
    np.savez("models/weights.npz", **weights)
    path, calls = Path("models/model.json"), dict.fromkeys(("softmax", "batch_normalization"), 0)
    description = json.loads(path.read_text(encoding="utf-8")) | {"keras": json.loads(model.to_json())}
    path.write_text(json.dumps(description), encoding="utf-8")

    def counted(name: str, function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            calls[name] += 1
            return function(*arguments, **options)

        return call

    for name in calls:
        monkeypatch.setattr(kernels, name, counted(name, getattr(kernels, name)))
    monkeypatch.setenv(kernels.VARIABLES[0], "0")
    usual, found = tf.nn.softmax, subject.read(20)
    attempts = list(attacked_by_gradients(found, clean_pictures(found), [8.0], 0))
    assert [name for name, *_ in attempts] == ["fgsm", "pgd"] and tf.nn.softmax is usual
    assert all(count > STEPS for count in calls.values()), calls
    assert all(np.abs(changed - clean_pictures(found)).max() <= 8 for *_, changed in attempts)


@pytest.mark.usefixtures("trained")
def test_only_what_is_worse_counts_as_harm() -> None:
    """Of a picture that is right only after a change, the report shows nothing."""
    found = subject.read(4)
    right = np.eye(2, dtype=np.float32)[found.targets]
    clean, changed = right.copy(), right.copy()
    clean[0], changed[1] = 1 - clean[0], 1 - changed[1]
    trial = contracts.Trial("square", "Square", 8.0, changed)
    study = contracts.Study(found, "of 255", clean, [trial], [], [])
    assert report.harmed(study, trial).tolist() == [1]


@pytest.mark.usefixtures("trained")
def test_gradients_of_a_model_without_any_are_one_line() -> None:
    found = subject.read(4)
    with pytest.raises(UserError, match=r"^robustness\.white_box: only Keras models have gradients"):
        next(attacked_by_gradients(found, clean_pictures(found), EPSILONS, 0))


def test_long_names_above_a_picture_are_in_several_lines() -> None:
    """Those of neighbors were written over each other."""
    axes = plt.subplots()[1]
    images_plots.show(axes, np.zeros((4, 6, 3), np.float32), "taken for circle_in_the_evening_light\n0.5")
    *lines, last = axes.get_title().splitlines()
    assert "".join(lines).replace(" ", "") == "takenforcircle_in_the_evening_light" and last == "0.5"
    assert all(len(line) <= images_plots.LONGEST for line in lines)
    plt.close()
