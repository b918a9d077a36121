"""Training, with Keras itself: seeded, every batch once, the best epoch kept, an export that says the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from tests import PACKAGE, ROOT, module

cli, config, export = module("cli"), module("config"), module("export")
inference, prepared = module("inference"), module("data.prepared")

pytestmark = pytest.mark.keras

# Each project has one of them, or both.
TARGET = "classification" if (ROOT / f"src/{PACKAGE}/targets/classification.py").exists() else "regression"
MANIFEST = {"target": TARGET, "classes": ["low", "middle", "high"]}
SETTINGS: dict[str, Any] = {
    "seed": 0,
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 0.003,
    "monitor": "val_loss",
    "patience": 6,
    "class_weights": "none",
}
Split = tuple[NDArray[np.float32], NDArray[Any]]


def split(seed: int, count: int) -> Split:
    """Rows whose sum says the answer, as a class or as a number."""
    rows = np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)
    total = rows.sum(1)
    answers = np.digitize(total, [-1, 1]) if TARGET == "classification" else 50 + 10 * total.astype(np.float64)
    return rows, answers


def build() -> Any:
    """The untrained mlp of conf/model/."""
    training = module("keras_training")
    training.keras.utils.clear_session()  # layers are numbered within a process; a stage has one of its own
    training.make_deterministic(0)

    def layers() -> tuple[Any, Any]:
        entry = training.keras.Input((4,), name="encoded")
        return entry, entry

    section = yaml.safe_load((ROOT / "conf/model/mlp.yaml").read_text(encoding="utf-8"))
    head = prepared.target(MANIFEST).head(MANIFEST, split(0, 240)[1])
    return config.instantiate(section, layers, head)


def fit(model: Any, count: int = 240, **changes: Any) -> Any:
    """Trains a model; returns its history."""
    training = module("keras_training")
    train = split(0, count)
    compiled = prepared.target(MANIFEST).compile_arguments(MANIFEST, train[1])
    return training.descend(model, train, split(1, 60), compiled, training.Settings(**{**SETTINGS, **changes}))


def test_the_same_training_has_the_same_weights() -> None:
    one = build()
    history = fit(one)
    two = build()
    assert fit(two).equals(history)
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_it_learns() -> None:
    history = fit(build(), epochs=10)
    assert history["val_loss"].iloc[-1] < history["val_loss"].iloc[0]
    metric = prepared.target(MANIFEST).METRIC
    assert set(history.columns) == {"loss", "val_loss", metric, f"val_{metric}"}


def test_the_best_epoch_is_kept() -> None:
    model = build()
    history = fit(model, patience=1, epochs=40, learning_rate=0.05)
    assert len(history) < 40
    target = prepared.target(MANIFEST)
    metric = history[f"val_{target.METRIC}"].iloc[int(history["val_loss"].argmin())]
    rows, answers = split(1, 60)
    output = np.asarray(model(rows, training=False))
    right = output.argmax(1) == answers if TARGET == "classification" else np.abs(output[:, 0] - answers)
    found = right.mean()
    assert found == pytest.approx(metric, rel=1e-4)


def test_a_loss_that_is_no_number_is_one_line() -> None:
    model = build()
    model.set_weights([np.full_like(weights, np.nan) for weights in model.get_weights()])
    with pytest.raises(cli.UserError, match=r"lower train\.learning_rate") as error:
        fit(model)
    assert "\n" not in str(error.value)


def test_an_export_that_differs_is_refused(tmp_path: Path) -> None:
    model, (rows, _) = build(), split(2, 10)
    model(rows)  # Keras exports no model that has never been called
    output = prepared.target(MANIFEST).OUTPUT
    serialised = export.canonical(export.to_onnx(model), ["encoded"], [output]).SerializeToString()
    answers = inference.predict(serialised, [{"encoded": rows[:6]}, {"encoded": rows[6:]}])
    export.verify(np.asarray(model(rows)), answers)
    with pytest.raises(cli.UserError, match="differs from the fitted model"):
        export.verify(np.asarray(model(rows)) * 1.1, answers)


def test_batches_cover_every_example_once_in_a_seeded_order() -> None:
    training = module("keras_training")
    rows = np.arange(50, dtype=np.uint8).reshape(50, 1, 1, 1)
    data = rows, rows[:, 0, 0, 0].astype(np.int64)

    def epochs(seed: int | None) -> list[list[int]]:
        read = training.batches(data, 16, seed)
        pairs = [[(part.numpy(), targets.numpy()) for part, targets in read] for _ in range(2)]
        for part, targets in pairs[0]:
            assert (part[:, 0, 0, 0] == targets).all()
        return [np.concatenate([targets for _, targets in epoch]).tolist() for epoch in pairs]

    assert epochs(None) == [list(range(50))] * 2
    first, second = epochs(1)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert epochs(1) == [first, second] != epochs(2)


def test_class_weights_balance() -> None:
    assert module("keras_training").class_weights(np.array([0, 0, 0, 1]), 2) == {0: 4 / 6, 1: 2.0}


@pytest.mark.parametrize("count", [20, 250])
def test_every_batch_is_seen_once_an_epoch(count: int) -> None:
    # Several steps run at a time; neither count fills the last execution, nor the last batch.
    model = build()
    fit(model, count)
    assert int(model.optimizer.iterations) == SETTINGS["epochs"] * -(-count // 16)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {"monitor": "val_mae" if TARGET == "classification" else "val_accuracy"},
            r"^train\.monitor: .* choose val_loss",
        ),
        *([({"class_weights": "balanced"}, r"^train\.class_weights: ")] if TARGET == "regression" else []),
    ],
)
def test_what_the_target_does_not_have_is_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(cli.UserError, match=named):
        model = {"_target_": f"{PACKAGE}.models.mlp.mlp"}
        module("training").gradient_descent(model, None, MANIFEST, **{**SETTINGS, **changes})
