"""Tests of the choice of TensorFlow's kernels."""

import os
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.training import kernels


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process."""
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    for name in kernels.VARIABLES:
        monkeypatch.setenv(name, "2")  # so that the test's own value is restored
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(("portable", "value"), [(True, "0"), (False, "1")])
def test_they_are_chosen_before_tensorflow_starts(monkeypatch: pytest.MonkeyPatch, portable: bool, value: str) -> None:
    kernels.choose(portable)
    assert [os.environ[name] for name in kernels.VARIABLES] == [value, value]
    monkeypatch.setitem(sys.modules, "tensorflow", sys)
    kernels.choose(portable)
    with pytest.raises(UserError, match="cannot be set, TensorFlow has already started"):
        kernels.choose(not portable)


@pytest.mark.usefixtures("alone")
def test_a_notebook_that_has_started_tensorflow_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", sys)
    kernels.choose(True)


@pytest.mark.keras
@pytest.mark.parametrize("compiled", [False, True])
def test_reciprocals_are_those_of_ieee_754(monkeypatch: pytest.MonkeyPatch, compiled: bool) -> None:
    """Without the context, they differ between processors: an estimate of the processor, improved once."""
    import tensorflow as tf
    from my_experiment.harness.training.quiet import keras

    monkeypatch.setenv(kernels.VARIABLES[0], "0")
    x = np.random.default_rng(0).uniform(1e-3, 4, 4096).astype(np.float32)
    ones, usual = np.ones_like(x), tf.math.rsqrt

    def call(function: Any, *arguments: Any) -> Any:
        return np.asarray((tf.function(function, autograph=False) if compiled else function)(*arguments))

    with kernels.exact():
        assert (call(keras.ops.reciprocal, x) == 1 / x).all()
        assert (call(keras.ops.rsqrt, x) == 1 / np.sqrt(x)).all()
        assert call(keras.ops.reciprocal, np.zeros(1, np.float32)) == np.inf
        normalized = call(partial(keras.ops.batch_normalization, axis=-1), x[None], ones, x)[0]
        assert np.allclose(normalized, (x - 1) / np.sqrt(x + 1e-3), rtol=1e-4, atol=1e-5)
        assert np.allclose(call(keras.ops.softmax, x), np.exp(x) / np.exp(x).sum(), rtol=1e-5)
    assert tf.math.rsqrt is usual
