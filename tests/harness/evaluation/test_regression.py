"""Regression: metrics against scikit-learn, conformal intervals against cases worked out by hand, the report."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.evaluation import regression
from my_experiment.harness.evaluation.metrics import Estimate, Metric, Metrics, bootstrap, mean, unweighted
from my_experiment.harness.evaluation.settings import Evaluate
from my_experiment.harness.evaluation.workspace import Predictions
from my_experiment.harness.targets import regression as target
from numpy.typing import NDArray
from sklearn import metrics as reference

SETTINGS = Evaluate(seed=0, resamples=100, confidence=0.9, examples=3, shipped=0)
MANIFEST = {"target_name": "$price"}


def described(examples: int, half: float | None) -> dict[str, Any]:
    """The content of models/model.json: intervals of this half-width at every level."""
    return {"calibration": {"examples": examples, "half_widths": dict.fromkeys(map(str, target.LEVELS), half)}}


def metrics(numbers: NDArray[Any], predictions: NDArray[Any], half: float | None = None) -> Metrics:
    """The metrics of predictions, as a function of the examples' weights."""
    return regression.metrics(predictions[:, None], numbers, described(9, half))


def case(seed: int, examples: int, scale: float = 1.0, offset: float = 0.0) -> tuple[NDArray[Any], NDArray[Any]]:
    """Targets, and predictions that say something about them."""
    generator = np.random.default_rng(seed)
    numbers = generator.normal(offset, scale, examples)
    return numbers, numbers + generator.normal(0, scale / 2, examples)


CASES = [
    pytest.param(*case(0, 300), id="around zero"),
    pytest.param(*case(1, 50, 1e-6, 2e-6), id="tiny"),
    pytest.param(*case(2, 200, 3, 1e6), id="far from zero"),
    pytest.param(*case(3, 2), id="two examples"),
]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("numbers", "predictions"), CASES)
def test_metrics_equal_those_of_scikit_learn(
    numbers: NDArray[np.float64], predictions: NDArray[np.float64], weighted: bool
) -> None:
    weights = np.random.default_rng(0).integers(1, 4, len(numbers)) if weighted else np.ones(len(numbers))
    given = {"y_true": numbers, "y_pred": predictions, "sample_weight": weights}
    expected = {
        "mae": reference.mean_absolute_error(**given),
        "rmse": reference.root_mean_squared_error(**given),
        "r2": reference.r2_score(**given),
        "mape": reference.mean_absolute_percentage_error(**given),
    }
    values = metrics(numbers, predictions)(weights.astype(float))
    assert {name: values[name] for name in expected} == pytest.approx(expected, rel=1e-9, abs=0)


@pytest.mark.parametrize(
    ("numbers", "undefined"),
    [
        pytest.param([0.1] * 10, ["r2"], id="all equal"),
        pytest.param([0.0] * 10, ["r2", "mape"], id="all zero"),
        pytest.param([1.0, 0.0, 2.0], ["mape"], id="a zero"),
        pytest.param([3.0], ["r2"], id="one example"),
    ],
)
def test_undefined_metrics_are_nan_and_explained(numbers: list[float], undefined: list[str]) -> None:
    actual = np.array(numbers)
    with np.errstate(all="raise"):
        values = unweighted(metrics(actual, actual + 0.5, 1.0), len(actual))
    assert [name for name, value in values.items() if np.isnan(value)] == undefined
    notes = regression.undefined_metrics(actual, described(9, 1.0))
    assert [note.split()[0].lower() for note in notes] == undefined


@pytest.mark.filterwarnings("error")
def test_equal_targets_and_answers_have_a_report_as_well(tmp_path: Path) -> None:
    description = {"calibration": target.calibrate(np.zeros((9, 1)), np.zeros(9))}
    test = Predictions(np.zeros((3, 1), np.float32), np.zeros(3), np.zeros(3), MANIFEST, description)
    results = regression.evaluate(test, SETTINGS, tmp_path)
    assert "compared with 0 for always predicting 0, the mean of the training split: no better." in results.headline
    assert {"mae", "rmse", "coverage"} <= set(results.estimates)


def test_a_resample_of_one_example_alone_has_no_r2() -> None:
    numbers, predictions = case(4, 5, 1, 0.1)
    assert np.isnan(metrics(numbers, predictions)(np.array([0.0, 5.0, 0.0, 0.0, 0.0]))["r2"])
    value, low, high = bootstrap(metrics(numbers, predictions), 5, 500, 0.9, seed=0)["r2"]
    assert low is not None and high is not None and low <= value <= high


def test_bootstrap_intervals_hold_the_true_value_about_as_often_as_they_say() -> None:
    truth = np.sqrt(2 / np.pi)  # E|e| of standard normal errors
    held = 0
    for seed in range(100):
        errors = np.random.default_rng(seed).normal(size=100)
        _, low, high = bootstrap(metrics(np.arange(100.0), np.arange(100) + errors), 100, 200, 0.9, seed=1)["mae"]
        assert low is not None and high is not None
        held += low <= truth <= high
    assert 80 <= held <= 97


@pytest.mark.parametrize(
    ("examples", "expected"),
    [
        # Errors are 1, 2, ... n; the rank is ceil((n + 1) level), undefined above n.
        (0, [None, None, None, None, None]),
        (1, [1, None, None, None, None]),
        (8, [5, 8, None, None, None]),
        (9, [5, 8, 9, None, None]),
        (19, [10, 16, 18, 19, None]),
        (59, [30, 48, 54, 57, None]),
        (98, [50, 80, 90, 95, None]),
        (99, [50, 80, 90, 95, 99]),
    ],
)
def test_calibration_by_hand(examples: int, expected: list[int | None]) -> None:
    errors = np.random.default_rng(0).permutation(np.arange(1.0, examples + 1))
    signs = np.where(np.arange(examples) % 2, 1.0, -1.0)
    calibration = target.calibrate(np.zeros((examples, 1), np.float32), signs * errors)
    assert calibration["examples"] == examples
    assert calibration["half_widths"] == dict(zip(["0.5", "0.8", "0.9", "0.95", "0.99"], expected, strict=True))


@pytest.mark.parametrize("noise", ["normal", "laplace", "exponential"])
def test_intervals_have_the_coverage_of_their_level(noise: str) -> None:
    # Over many calibrations the coverage is level to level + 1 / (n + 1), whatever the noise (Lei et al., theorem 2).
    generator = np.random.default_rng(0)
    shares = []
    for _ in range(400):
        errors = getattr(generator, noise)(size=49 + 200)
        half = target.calibrate(errors[:49, None], np.zeros(49))["half_widths"]
        shares.append([(np.abs(errors[49:]) <= half[str(level)]).mean() for level in target.LEVELS[:4]])
    for level, share in zip(target.LEVELS, np.mean(shares, 0), strict=False):
        assert level - 0.015 <= share <= level + 1 / 50 + 0.015


def test_evaluation(tmp_path: Path) -> None:
    numbers = np.array([1.0, 2.0, 3.0, 4.0, 10.0])
    outputs = np.array([[1.5], [2.0], [2.5], [4.0], [6.0]], np.float32)
    description = {"calibration": target.calibrate(np.zeros((9, 1)), np.arange(1.0, 10.0) / 3)}
    test = Predictions(outputs, numbers, np.array([0.0, 10.0]), MANIFEST, description)
    results = regression.evaluate(test, SETTINGS, tmp_path)
    values = {name: estimate.value for name, estimate in results.estimates.items()}
    assert (values["mae"], values["baseline_mae"]) == (1.0, 3.0)  # the baseline predicts 5, off by 4, 3, 2, 1 and 5
    assert values["baseline_rmse"] == pytest.approx(11**0.5)
    assert (values["coverage"], values["interval_width"]) == (0.8, 6.0)
    assert results.estimates["interval_width"] == Estimate(6.0)
    assert results.headline == (
        "MAE 1, compared with 3 for always predicting 5, the mean of the training split: 67% lower."
    )
    assert results.worst.rows == [4, 0, 2]
    assert results.worst.captions[0] == "actual 10, predicted 6"
    assert any("| 90% | 3 | 80.0% |" in section for section in results.sections)
    assert results.notes == []
    assert (tmp_path / "predictions.csv").read_text(encoding="utf-8").splitlines()[-1] == "6,10,4"
    assert (tmp_path / "coverage.csv").read_text(encoding="utf-8").splitlines()[0] == "level,coverage"
    for plot in ("predictions", "residuals", "intervals"):
        assert (tmp_path / f"{plot}.png").read_bytes().startswith(b"\x89PNG")


def test_too_few_validation_examples_leave_the_interval_undefined(tmp_path: Path) -> None:
    description = {"calibration": target.calibrate(np.zeros((8, 1)), np.arange(8.0))}
    numbers, predictions = case(5, 30)
    outputs = predictions[:, None].astype(np.float32)
    results = regression.evaluate(Predictions(outputs, numbers, numbers, MANIFEST, description), SETTINGS, tmp_path)
    assert not {"coverage", "interval_width"} & set(results.estimates)
    assert results.notes == [
        "The 90% prediction intervals are undefined: they need a validation split of at least 9 examples, but it has 8."
    ]
    assert target.answers(outputs[:1], description) == [{"value": float(outputs[0, 0]), "low": None, "high": None}]


def test_a_metric_is_added_in_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function and its line in `METRICS`: then it is estimated, has a label for the card, and the gates know it."""

    def bias(targets: NDArray[Any], predictions: NDArray[Any]) -> Any:
        return mean(predictions - targets)

    monkeypatch.setitem(regression.METRICS, "bias", Metric("bias", "near 0", bias))
    numbers, predictions = case(6, 30)
    test = Predictions(predictions[:, None].astype(np.float32), numbers, numbers, MANIFEST, described(9, 1.0))
    results = regression.evaluate(test, SETTINGS, tmp_path)
    value, low, high = results.estimates["bias"]
    assert value == pytest.approx((predictions - numbers).mean(), abs=1e-6)
    assert low is not None and high is not None and low < value < high
    assert results.labels["bias"] == ("bias", "near 0")
    assert "bias" in unweighted(regression.metrics(test.outputs, numbers, test.description), 30)


def test_the_card_states_the_direction_that_the_target_defines() -> None:
    assert regression.METRICS[target.METRIC].better == ("higher" if target.HIGHER_IS_BETTER else "lower")


def test_answers() -> None:
    description = {"calibration": target.calibrate(np.zeros((9, 1)), np.arange(1.0, 10.0))}
    answers = target.answers(np.array([[100.5], [-1]], np.float32), description)
    assert answers == [{"value": 100.5, "low": 91.5, "high": 109.5}, {"value": -1.0, "low": -10.0, "high": 8.0}]
    assert target.counts(np.zeros((2, 1), np.float32), description) == {"": 2}


def test_a_target_beyond_32_bits_is_refused() -> None:
    with pytest.raises(UserError, match=r"the target reaches 1e\+200.*divide it"):
        target.head({}, np.array([1.0, 1e200]))


@pytest.mark.keras
@pytest.mark.parametrize(("mean", "deviation"), [(1e5, 1e3), (7.0, 0.0)])
def test_a_keras_model_with_this_head_learns_in_any_units(mean: float, deviation: float) -> None:
    import keras

    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32)
    numbers = mean + deviation * x[:, 0].astype(np.float64)
    entry = keras.Input((2,))
    model = keras.Model(entry, target.head({}, numbers)(entry))
    model.compile(keras.optimizers.Adam(0.1), **target.compile_arguments({}, numbers))
    history = model.fit(x, numbers, epochs=20, verbose=0).history
    assert set(history) == {"loss", target.METRIC}
    outputs = np.asarray(model(x))
    assert outputs.shape == (400, 1)
    assert history["loss"][-1] < 0.01
    np.testing.assert_allclose(outputs[:, 0], numbers, atol=0.1 * (deviation or 1))
    # In the target's own units, after an epoch in which hardly anything is learnt any more.
    assert history["mae"][-1] == pytest.approx(np.abs(outputs[:, 0] - numbers).mean(), abs=0.05 * (deviation or 1))
