"""Adversarial training: every batch is replaced by changes of it that the model takes worst.

Source: A. Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import NonNegativeFloat, PositiveInt

from .. import contracts
from ..core import config
from ..core.errors import UserError

if TYPE_CHECKING:
    import keras
    import numpy as np
    from numpy.typing import NDArray


class Adversarial(config.Section):
    """Section `train.adversarial` of the configuration.

    Attributes:
        epsilon: Largest change: of a value of a pixel, of 255, or of an encoded number; 0 for none.
        steps: Number of gradients that are followed for each batch.
    """

    epsilon: NonNegativeFloat = 0.0
    steps: PositiveInt = 4


class Ball(NamedTuple):
    """The changes among which the worst is sought.

    Attributes:
        epsilon: Largest change of a row's numbers, float32, [] or [F].
        low: Lower end of all numbers.
        high: Upper end of all numbers.
        steps: Number of gradients.
        seed: Seed of the random start.
    """

    epsilon: NDArray[np.float32]
    low: float
    high: float
    steps: int
    seed: int


def ball(settings: Adversarial, inputs: contracts.Inputs, manifest: contracts.Manifest, seed: int) -> Ball | None:
    """The changes of a training; None if there are none.

    Of a table, only the encoded numbers change, not the indicators of levels and missing values.

    Args:
        settings: Section `train.adversarial` of the configuration.
        inputs: Arrays on which the model is fitted.
        manifest: Manifest of the prepared data.
        seed: Seed of the training.

    Raises:
        UserError: If a table has no encoded numbers.
    """
    import numpy as np  # here, not above: the stage `config` reads the section

    if not settings.epsilon:
        return None
    if inputs.preprocessing is None:
        return Ball(np.array(settings.epsilon, np.float32), 0, 255, settings.steps, seed)
    numbers = {column["name"] for column in manifest["columns"] if column["type"] == "number"}
    (encoded,) = (entry.value for entry in inputs.preprocessing.metadata_props if entry.key == "columns")
    changes = np.array([name in numbers for name, *_ in json.loads(encoded)], np.float32)
    if not changes.any():
        raise UserError("train.adversarial: the table has no encoded numbers to change: set epsilon to 0")
    return Ball(np.float32(settings.epsilon) * changes, -np.inf, np.inf, settings.steps, seed)


def harden(model: keras.Model, ball: Ball) -> None:
    """Makes each training step of a compiled model replace its batch first.

    The random start depends only on the seed and the number of the step, so that equal trainings are equal, also those
    that are resumed.

    Args:
        model: The compiled model.
        ball: The changes among which the worst is sought.
    """
    from .quiet import keras, tf

    step = model.train_step

    def changed(x: Any, y: Any) -> Any:
        clean = tf.cast(x, tf.float32)
        low, high = tf.maximum(clean - ball.epsilon, ball.low), tf.minimum(clean + ball.epsilon, ball.high)
        # int32: XLA has no other numbers of steps.
        seed = tf.stack([ball.seed, tf.cast(model.optimizer.iterations, tf.int32)])
        start = tf.random.stateless_uniform(tf.shape(clean), seed, -1.0, 1.0)
        worst = tf.clip_by_value(clean + ball.epsilon * start, low, high)
        for _ in range(ball.steps):
            with tf.GradientTape() as tape:
                tape.watch(worst)
                loss = model.optimizer.scale_loss(model.compute_loss(worst, y, model(worst, training=False)))
            slope = tf.sign(tape.gradient(loss, worst))
            worst = tf.clip_by_value(worst + 2.5 / ball.steps * ball.epsilon * slope, low, high)
        return tf.stop_gradient(worst)

    def train_step(data: Any) -> Any:
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        return step(keras.utils.pack_x_y_sample_weight(changed(x, y), y, weights))

    model.train_step = train_step
