"""Gradient descent, with Keras itself: the same again, every batch once, the best epoch kept."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from my_experiment.harness import targets
from my_experiment.harness.core import errors
from my_experiment.harness.exported import graphs, inference
from my_experiment.harness.targets import monitor
from my_experiment.harness.training import export, strategy
from networks import MANIFEST, SETTINGS, TARGET, build, fit, split
from support import PACKAGE

pytestmark = pytest.mark.keras


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
    metric = targets.target(MANIFEST).METRIC
    assert set(history.columns) == {"loss", "val_loss", metric, f"val_{metric}"}


def test_the_best_epoch_is_kept() -> None:
    model = build()
    history = fit(model, patience=1, epochs=40, learning_rate=0.05)
    assert len(history) < 40
    target = targets.target(MANIFEST)
    metric = history[f"val_{target.METRIC}"].iloc[int(history["val_loss"].argmin())]
    rows, answers = split(1, 60)
    output = np.asarray(model(rows, training=False))
    right = output.argmax(1) == answers if TARGET == "classification" else np.abs(output[:, 0] - answers)
    found = right.mean()
    assert found == pytest.approx(metric, rel=1e-4)


def test_the_target_alone_says_when_a_metric_is_better() -> None:
    from my_experiment.harness.training.quiet import keras

    target = targets.target(MANIFEST)
    loss = target.compile_arguments(MANIFEST, split(0, 240)[1])["loss"]
    weights = {}
    for higher in (False, True):
        classes = TARGET == "classification"
        metric = keras.metrics.SparseCategoricalCrossentropy if classes else keras.metrics.MeanAbsoluteError
        other = SimpleNamespace(METRIC="error", HIGHER_IS_BETTER=higher)
        model = build()
        history = fit(
            model,
            target=other,
            compiled={"loss": loss, "metrics": [metric(name="error")]},
            monitor="val_error",
            epochs=9,
            patience=2,
        )
        best = monitor.best_epoch(history, "val_error", other)
        assert best == (history["val_error"].argmax() if higher else history["val_error"].argmin())
        assert len(history) == min(9, best + 3)
        weights[higher] = model.get_weights()
    assert any((a != b).any() for a, b in zip(weights[False], weights[True], strict=True))


def test_a_loss_that_is_no_number_is_one_line() -> None:
    model = build()
    model.set_weights([np.full_like(weights, np.nan) for weights in model.get_weights()])
    with pytest.raises(errors.UserError, match=r"lower train\.learning_rate") as error:
        fit(model)
    assert "\n" not in str(error.value)


def test_an_export_that_differs_is_refused() -> None:
    model, (rows, _) = build(), split(2, 10)
    model(rows)  # Keras exports no model that has never been called
    output = targets.target(MANIFEST).OUTPUT
    serialised = graphs.canonical(export.to_onnx(model), ["encoded"], [output]).SerializeToString()
    answers = inference.predict(serialised, [{"encoded": rows[:6]}, {"encoded": rows[6:]}])
    export.verify(np.asarray(model(rows)), answers)
    with pytest.raises(errors.UserError, match="differs from the fitted model"):
        export.verify(np.asarray(model(rows)) * 1.1, answers)


def test_half_precision_is_for_the_training_alone() -> None:
    from my_experiment.harness.training import devices as hardware

    devices = strategy.Strategy(precision="mixed_bfloat16")
    model = build(devices.precision)
    assert "bfloat16" in {layer.compute_dtype for layer in model.layers}
    fit(model, strategy=devices)
    plain = hardware.exportable(model, devices)
    assert {layer.compute_dtype for layer in plain.layers} == {"float32"}
    rows = split(2, 10)[0]
    plain(rows)
    output = targets.target(MANIFEST).OUTPUT
    serialised = graphs.canonical(export.to_onnx(plain), ["encoded"], [output]).SerializeToString()
    export.verify(np.asarray(plain(rows)), inference.predict(serialised, [{"encoded": rows}]))


WORKERS = {"worker": ["a:1", "b:1"]}


def test_xla_learns_the_same() -> None:
    # XLA draws other random numbers: dropout would drop other units.
    one, two = (fit(build(dropout=0.0), strategy=strategy.Strategy(xla=xla)) for xla in (False, True))
    np.testing.assert_allclose(one.filter(like="loss"), two.filter(like="loss"), rtol=1e-3)


def test_class_weights_balance() -> None:
    from my_experiment.harness.training import descent

    assert descent.class_weights(np.array([0, 0, 0, 1]), 2) == {0: 4 / 6, 1: 2.0}


@pytest.mark.parametrize("count", [20, 250])
def test_every_batch_is_seen_once_an_epoch(count: int) -> None:
    # Several steps run at a time; neither count fills the last execution, nor the last batch.
    model = build()
    fit(model, count)
    assert int(model.optimizer.iterations) == SETTINGS["epochs"] * math.ceil(count / 16)


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
    from my_experiment.harness.training import fit as ways

    with pytest.raises(errors.UserError, match=named):
        model = {"_target_": f"{PACKAGE}.models.mlp.mlp"}
        inputs: Any = None  # is not looked at
        ways.gradient_descent(model, inputs, MANIFEST, **{**SETTINGS, **changes})
