"""Data-parallel training of a Keras model by several processes.

Keras 3 does not support TensorFlow's MultiWorkerMirroredStrategy. Here, every worker fits an ordinary Keras model on
its shard of each batch, and only sums of gradients are exchanged: equal initial weights and equal sums give equal
weights in every step. Method: synchronous stochastic gradient descent (J. Chen, X. Pan, R. Monga, S. Bengio,
R. Jozefowicz, Revisiting Distributed Synchronous SGD, ICLR workshop 2016), without backup workers.
"""

from typing import Any

from .quiet import keras, tf
from .workers import Group


class DistributedModel(keras.Model):
    """A model whose training step uses the whole batch of all workers.

    It shares its layers with the original model, and thereby trains it.
    """

    def __init__(self, model: keras.Model, group: Group, xla: bool) -> None:
        """Takes the layers of a model.

        Args:
            model: The original model, without `compile`.
            group: The workers.
            xla: Whether XLA compiles the gradients; it cannot compile the all-reduce.
        """
        super().__init__(model.input, model.output)
        self.group = group
        self.gradients = tf.function(self._gradients, jit_compile=True) if xla else self._gradients

    def _gradients(self, x: tf.Tensor, y: tf.Tensor, weights: tf.Tensor | None) -> tuple[tf.Tensor, ...]:
        with tf.GradientTape() as tape:
            outputs = self(x, training=True)
            loss = self.compute_loss(x, y, outputs, weights, training=True)
            scaled = self.optimizer.scale_loss(loss)
        return outputs, loss, tape.gradient(scaled, self.trainable_weights)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Updates the weights by the mean gradient of the whole batch.

        The gradient is sum_w n_w g_w / sum_w n_w, with the mean gradient g_w of the n_w rows of worker w; n_w may be 0.

        Args:
            data: This worker's rows of the batch, their targets and, optionally, sample weights.

        Returns:
            Loss of the whole batch, equal in every worker, and metrics of this worker's rows.
        """
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        outputs, loss, gradients = self.gradients(x, y, weights)
        rows = tf.cast(tf.shape(x)[0], tf.float32)
        parts = [tf.math.multiply_no_nan(tf.convert_to_tensor(part), rows) for part in (*gradients, loss)]
        *sums, loss_sum, count = self.group.total([*parts, rows])
        self.optimizer.apply([part / count for part in sums], self.trainable_weights)
        self._update_metrics(y, outputs, loss, rows)
        return {**super().get_metrics_result(), "loss": loss_sum / count}

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Updates the metrics with this worker's rows of a batch.

        Args:
            data: Rows, targets and, optionally, sample weights.
        """
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        outputs = self(x, training=False)
        loss = self.compute_loss(x, y, outputs, weights, training=False)
        self._update_metrics(y, outputs, loss, tf.cast(tf.shape(x)[0], tf.float32))
        return dict(super().get_metrics_result())

    def _update_metrics(self, y: tf.Tensor, outputs: tf.Tensor, loss: tf.Tensor, rows: tf.Tensor) -> None:
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(tf.where(rows > 0, loss, 0.0), sample_weight=rows)
            else:
                metric.update_state(y, outputs)

    def get_metrics_result(self) -> dict[str, tf.Tensor]:
        """The metrics over all workers, read at the end of an epoch.

        Every metric is a sum divided by a number of rows. Both are summed over the workers, so that a second call does
        not change the ratio.
        """
        variables = [variable for metric in self.metrics for variable in metric.variables]
        for variable, total in zip(variables, self.group.total([v.value for v in variables]), strict=True):
            variable.assign(total)
        return dict(super().get_metrics_result())
