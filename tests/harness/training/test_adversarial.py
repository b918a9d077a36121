"""Adversarial training, with Keras itself: changes within their ball, the same again, with XLA, refused with phases."""

from typing import Any

import numpy as np
import pytest
from my_experiment.harness import targets
from my_experiment.harness.core import errors
from my_experiment.harness.training import strategy
from my_experiment.harness.training.adversarial import Adversarial, Ball, ball, harden
from networks import MANIFEST, build, fit, split

pytestmark = pytest.mark.keras
BALL = Ball(np.array([0.3, 0.3, 0, 0.3], np.float32), -2.0, 2.0, 4, 0)  # the third number stays as it is


def test_a_batch_is_replaced_by_worse_changes_of_it() -> None:
    from my_experiment.harness.training.quiet import keras

    model = build(dropout=0.0)
    fit(model, epochs=5)
    rows, answers = split(3, 32)
    rows = np.clip(rows, -2, 2)
    model.compile(keras.optimizers.Adam(), **targets.target(MANIFEST).compile_arguments(MANIFEST, split(0, 240)[1]))
    seen: list[Any] = []
    model.train_step = lambda data: seen.append(data)
    harden(model, BALL)
    model.train_step((rows, answers))
    model.train_step((rows, answers, np.ones(32, np.float32)))
    changed, same, no_weights = keras.utils.unpack_x_y_sample_weight(seen[0])
    again, _, weights = keras.utils.unpack_x_y_sample_weight(seen[1])
    np.testing.assert_array_equal(changed, again)  # the number of the step is the same
    assert no_weights is None and weights.sum() == 32
    np.testing.assert_array_equal(same, answers)
    changes = np.abs(np.asarray(changed) - rows)
    assert (changes <= BALL.epsilon + 1e-6).all() and np.abs(changed).max() <= 2
    assert changes[:, 2].max() == 0 and changes[:, [0, 1, 3]].max(0) == pytest.approx([0.3] * 3, abs=1e-6)

    def loss(rows: Any) -> float:
        return float(model.compute_loss(rows, answers, model(rows, training=False)))

    noise = np.clip(rows + BALL.epsilon * np.random.default_rng(0).choice([-1, 1], rows.shape), -2, 2)
    assert loss(changed) > loss(noise.astype(np.float32))
    assert loss(changed) > 1.2 * loss(rows)


@pytest.mark.parametrize("xla", [False, True])
def test_the_same_training_has_the_same_weights(xla: bool) -> None:
    first = build()
    how = strategy.Strategy(xla=xla)
    history = fit(first, ball=BALL, strategy=how)
    second = build()
    assert fit(second, ball=BALL, strategy=how).equals(history)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    if not xla:
        assert not fit(build()).equals(history)


def test_a_model_whose_features_are_computed_once_is_refused() -> None:
    model = build()
    model.phases = lambda *_: []
    with pytest.raises(errors.UserError, match=r"^train\.adversarial: .* computed once"):
        fit(model, ball=BALL)


def test_the_ball_of_pictures_has_their_values() -> None:
    inputs: Any = type("Inputs", (), {"preprocessing": None})
    assert ball(Adversarial(), inputs, {}, 1) is None
    assert ball(Adversarial(epsilon=8), inputs, {}, 1) == Ball(np.array(8, np.float32), 0, 255, 4, 1)
