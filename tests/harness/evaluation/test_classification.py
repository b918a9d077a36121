"""Classification: metrics against scikit-learn and against cases worked out by hand, the report, the answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot as plt
from my_experiment.harness.evaluation import classification, classification_plots, plots
from my_experiment.harness.evaluation.metrics import Estimate, bootstrap, unweighted
from my_experiment.harness.evaluation.settings import Evaluate
from my_experiment.harness.evaluation.workspace import Predictions
from my_experiment.harness.targets import classification as target
from numpy.typing import NDArray
from sklearn import metrics as reference

Case = tuple[NDArray[np.int64], NDArray[np.float64]]


def case(seed: int, examples: int, classes: int, tied: bool = False) -> Case:
    """Labels, each class at least once, and probabilities that say something about them."""
    generator = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), generator.integers(0, classes, examples - classes)])
    if tied:
        counts = generator.multinomial(4, np.full(classes, 1 / classes), examples) + np.eye(classes, dtype=int)[labels]
        return labels, counts / 5
    scores = generator.normal(size=(examples, classes)) + 2 * np.eye(classes)[labels]
    return labels, np.exp(scores) / np.exp(scores).sum(1, keepdims=True)


CASES = [
    pytest.param(*case(0, 300, 10), id="ten classes"),
    pytest.param(*case(1, 50, 2), id="two classes"),
    pytest.param(*case(2, 400, 4, tied=True), id="ties"),
    pytest.param(*case(5, 60, 2, tied=True), id="two classes, ties"),
    pytest.param(*case(3, 5, 5), id="one example a class"),
]


def values(labels: NDArray[np.int64], probabilities: NDArray[Any]) -> dict[str, float]:
    """Every metric, all examples counting once."""
    return unweighted(classification.metrics(probabilities, labels, {}), len(labels))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("labels", "probabilities"), CASES)
def test_metrics_equal_those_of_scikit_learn(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], weighted: bool
) -> None:
    weights = np.random.default_rng(0).integers(1, 4, len(labels)) if weighted else np.ones(len(labels))
    predictions, classes = probabilities.argmax(1), range(probabilities.shape[1])
    scores = probabilities if len(classes) > 2 else probabilities[:, 1]
    expected = {
        "accuracy": reference.accuracy_score(labels, predictions, sample_weight=weights),
        "macro_f1": reference.f1_score(labels, predictions, average="macro", sample_weight=weights),
        "log_loss": reference.log_loss(labels, probabilities, labels=classes, sample_weight=weights),
        "roc_auc": reference.roc_auc_score(labels, scores, multi_class="ovr", sample_weight=weights),
    }
    metrics = classification.metrics(probabilities, labels, {})(weights.astype(float))
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=0, abs=1e-9)


@pytest.mark.parametrize(("labels", "probabilities"), CASES)
def test_classes_equal_those_of_scikit_learn(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> None:
    predictions, classes = probabilities.argmax(1), range(probabilities.shape[1])
    matrix = classification.confusion(labels, predictions, len(classes))
    assert (matrix == reference.confusion_matrix(labels, predictions, labels=classes)).all()
    expected = reference.precision_recall_fscore_support(labels, predictions, labels=classes, zero_division=np.nan)
    for name, values in zip(("precision", "recall", "f1"), expected, strict=False):
        np.testing.assert_allclose(classification.by_class(matrix)[name], values, atol=1e-9)


def test_a_class_that_never_occurs_is_left_out() -> None:
    labels, probabilities = case(4, 200, 3)
    widened = np.hstack([probabilities, np.zeros((200, 1))])
    assert values(labels, widened) == pytest.approx(values(labels, probabilities), abs=1e-12)


def test_one_class_alone_has_no_roc_curve() -> None:
    assert np.isnan(values(np.zeros(4, np.int64), case(1, 4, 2)[1])["roc_auc"])


def test_a_certain_mistake_costs_a_finite_log_loss() -> None:
    wrong = np.array([[0.0, 1.0]], np.float32)
    assert values(np.array([0]), wrong)["log_loss"] == pytest.approx(-np.log(np.finfo(np.float32).eps))


def test_calibration_error_by_hand() -> None:
    # Bins of 1/15: 0.95 and 0.96 fall in the last (0.933 to 1), 0.55 in the ninth (0.533 to 0.6).
    confidence = np.array([0.95, 0.96, 0.95, 0.96, 0.55])
    labels = np.array([0, 0, 0, 1, 1])  # class 0 is always predicted: three of four right, then none of one
    expected = 4 / 5 * abs(3 / 4 - 0.955) + 1 / 5 * abs(0 - 0.55)
    probabilities = np.stack([confidence, 1 - confidence], 1)
    assert values(labels, probabilities)["ece"] == pytest.approx(expected, abs=1e-12)
    bins = classification.reliability(labels, probabilities)
    assert bins["count"].tolist() == [1, 4]
    assert bins["accuracy"].tolist() == [0, 0.75]


def test_full_confidence_belongs_to_the_last_bin() -> None:
    assert values(np.array([0, 1]), np.eye(2))["ece"] == 0


@pytest.mark.parametrize(("labels", "probabilities"), CASES[:3])
def test_bootstrap_intervals(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> None:
    metrics = classification.metrics(probabilities, labels, {})
    estimates = bootstrap(metrics, len(labels), 200, 0.95, seed=1)
    assert list(estimates) == list(classification.METRICS)
    for name, (value, low, high) in estimates.items():
        assert value == values(labels, probabilities)[name]
        assert low is not None and high is not None and low < high
        if name != "ece":  # an absolute value: resampling can only raise it if the model is well calibrated
            assert low <= value <= high
    assert bootstrap(metrics, len(labels), 200, 0.95, seed=1) == estimates
    assert bootstrap(metrics, len(labels), 200, 0.95, seed=2) != estimates
    for name, (_, low, high) in bootstrap(metrics, len(labels), 200, 0.5, seed=1).items():
        _, lower, higher = estimates[name]
        assert low is not None and high is not None and lower is not None and higher is not None
        assert lower <= low < high <= higher


def test_a_resample_counts_like_the_rows_it_draws() -> None:
    labels, probabilities = case(6, 80, 3)
    rows = np.random.default_rng(0).integers(0, 80, 80)
    weights = np.bincount(rows, minlength=80).astype(float)
    resampled = classification.metrics(probabilities, labels, {})(weights)
    assert resampled == pytest.approx(values(labels[rows], probabilities[rows]), abs=1e-12)


def test_evaluation(tmp_path: Path) -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    sure = np.array([0.9, 0.8, 0.3, 0.6, 0.9, 0.9, 0.9, 0.95])  # of the right class: row 2 alone is wrong
    outputs = np.stack([np.where(labels == 0, sure, 1 - sure), np.where(labels == 1, sure, 1 - sure)], 1)
    settings = Evaluate(seed=0, resamples=100, confidence=0.9, examples=5, shipped=0)
    manifest = {"classes": ["no", "$yes|"]}  # neither a formula nor a cell of its own
    test = Predictions(outputs.astype(np.float32), labels, np.array([1, 0, 1]), manifest, {})
    results = classification.evaluate(test, settings, tmp_path)
    assert results.estimates["accuracy"].value == 7 / 8
    assert results.estimates["baseline_accuracy"] == Estimate(5 / 8)
    assert results.headline == (
        "87.5% of 8 test examples are correctly classified, compared with 62.5% for always predicting \\$yes\\|, "
        "the most frequent class in training: 67% fewer errors."
    )
    assert results.worst[1:] == ([2], ["no taken for $yes| (70.0%)"], 1)
    assert r"| \$yes\| | 0.833 | 1.000 | 0.909 | 5 |" in results.sections[1].splitlines()
    rows = (tmp_path / "confusion.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == "actual,predicted"
    assert rows[3] == "no,$yes|"
    for plot in ("confusion_matrix", "reliability"):
        assert (tmp_path / f"{plot}.png").read_bytes().startswith(b"\x89PNG")


def test_mistakes_come_most_confident_first(tmp_path: Path) -> None:
    probabilities = np.array([[0.6, 0.4], [0.1, 0.9], [0.2, 0.8], [0.9, 0.1], [0.1, 0.9]], np.float32)
    labels = np.array([1, 1, 0, 0, 0])
    settings = Evaluate(seed=0, resamples=100, confidence=0.9, examples=2, shipped=0)
    test = Predictions(probabilities, labels, labels, {"classes": ["a", "b"]}, {})
    worst = classification.evaluate(test, settings, tmp_path).worst
    assert (worst.rows, worst.total) == ([4, 2], 3)


def test_the_card_states_the_direction_that_the_target_defines() -> None:
    assert classification.METRICS[target.METRIC].better == ("higher" if target.HIGHER_IS_BETTER else "lower")


def test_answers() -> None:
    outputs = np.array([[0.25, 0.75], [1, 0]], np.float32)
    assert target.answers(outputs, {"classes": ["no", "yes"]}) == [
        {"label": "yes", "probabilities": {"no": 0.25, "yes": 0.75}},
        {"label": "no", "probabilities": {"no": 1.0, "yes": 0.0}},
    ]
    assert target.calibrate(outputs, np.array([1, 0])) == {}
    assert target.counts(np.repeat(outputs, 3, axis=0), {"classes": ["no", "yes"]}) == {"no": 3, "yes": 3}
    assert target.counts(outputs[1:], {"classes": ["no", "yes"]}) == {"no": 1}


@pytest.mark.keras
def test_a_keras_model_with_this_head_learns() -> None:
    import keras

    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    labels = (x[:, 0] > 0).astype(np.int64)
    manifest = {"classes": ["left", "right"]}
    entry = keras.Input((2,))
    model = keras.Model(entry, target.head(manifest, labels)(entry))
    model.compile(keras.optimizers.Adam(0.1), **target.compile_arguments(manifest, labels))
    history = model.fit(x, labels, epochs=10, verbose=0).history
    assert set(history) == {"loss", target.METRIC}
    assert history["accuracy"][-1] > 0.95
    np.testing.assert_allclose(np.asarray(model(x)).sum(1), 1, atol=1e-6)


def test_characters_that_the_font_lacks_are_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure, axes = plt.subplots()
    axes.set_title("企鹅 🐧")
    plots.save(figure, tmp_path / "plot.png")
    assert capsys.readouterr().err == (
        f"{tmp_path / 'plot.png'} shows boxes for characters that matplotlib's font lacks\n"
    )


def test_long_names_leave_room_for_the_matrix_and_its_title(tmp_path: Path) -> None:
    widths = []
    for name in ("short", "circle_in_the_evening_light"):
        classification_plots.confusion_matrix(np.eye(3, dtype=np.int64), [name, "b", "c"], tmp_path / "matrix.png")
        widths.append(plt.imread(tmp_path / "matrix.png").shape[1])
    assert widths[0] == 440 and widths[1] > 560
