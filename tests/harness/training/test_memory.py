"""Tests of the memory of a process that fits one model after another."""

import gc
from typing import Any

import numpy as np
import pytest
from my_experiment.harness.training import memory


@pytest.mark.keras
def test_nothing_is_left_of_a_fit() -> None:
    from my_experiment.harness.training.quiet import keras, tf
    from tensorflow.python.framework import ops
    from tensorflow.python.framework.func_graph import FuncGraph

    @tf.custom_gradient
    def of_the_owner(x: Any) -> Any:
        return x, lambda upstream: upstream

    x, y = np.zeros((8, 3), "float32"), np.zeros(8, "int64")

    def fit() -> None:
        model = keras.Sequential([keras.layers.Dense(2, activation="softmax")])
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(x, y, verbose=0)

    traced = tf.function(of_the_owner).get_concrete_function(tf.constant(1.0))
    before = set(ops.gradient_registry.list())
    graphs = {id(each) for each in gc.get_objects() if isinstance(each, FuncGraph)}
    with memory.released():
        fit()
        assert set(ops.gradient_registry.list()) > before  # Keras' optimizer sums gradients over one replica
    assert set(ops.gradient_registry.list()) == before
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, FuncGraph) and id(each) not in graphs]
    assert traced(tf.constant(2.0)).numpy() == 2.0
