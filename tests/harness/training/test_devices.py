"""What TensorFlow says of devices, as lines that a user can act on."""

from typing import Any

import pytest
from my_experiment.harness.core import errors
from my_experiment.harness.training.strategy import Strategy
from networks import build, fit

pytestmark = pytest.mark.keras

ONE, XLA = Strategy(), Strategy(xla=True)
# As TensorFlow says it on GPUs; there is none to say it here.
KERNEL = "Deterministic GPU implementation of unsorted segment reduction op not available. [Op:UnsortedSegmentSum]"
VERSIONS = """DNN library initialization failed. Look at the errors above for more details.
Loaded runtime CuDNN library: 8.9.7 but source was compiled with: 9.3.0."""


def said(error: Any, strategy: Strategy = ONE) -> str:
    """The line for an exception."""
    from my_experiment.harness.training import devices

    with pytest.raises(errors.UserError) as raised, devices.errors_in_one_line(strategy, 64):
        raise error
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_too_little_memory_is_one_line() -> None:
    from my_experiment.harness.training import devices
    from my_experiment.harness.training.quiet import keras, tf

    class Greedy(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x + tf.reduce_sum(tf.random.uniform([tf.shape(x, tf.int64)[0], 1 << 45]))

    model = build()
    greedy = keras.Model(model.input, Greedy()(model.output))
    with pytest.raises(errors.UserError) as error, devices.errors_in_one_line(ONE, 64):
        fit(greedy)
    assert str(error.value).startswith("train: CPU:0 has not enough memory: lower train.batch_size (now 64), choose")
    line = said(tf.errors.InternalError(None, None, "CUDA_ERROR_OUT_OF_MEMORY: out of memory, GPU:1"))
    assert line.startswith("train: GPU:1 has not enough memory")


def test_what_has_no_deterministic_kernel_is_one_line() -> None:
    from my_experiment.harness.training.quiet import tf

    line = said(tf.errors.UnimplementedError(None, None, KERNEL))
    assert line.startswith("model: a layer has no deterministic kernel for GPUs (Deterministic GPU implementation ")
    assert line.endswith("train on the processor: CUDA_VISIBLE_DEVICES=-1")
    assert said(tf.errors.UnimplementedError(None, None, KERNEL), XLA).endswith("set it to false")


def test_another_cuda_in_the_way_is_one_line() -> None:
    from my_experiment.harness.training.quiet import tf

    line = said(tf.errors.FailedPreconditionError(None, None, VERSIONS))
    assert line.startswith("train: the GPU or its libraries failed (DNN library init") and "LD_LIBRARY_PATH" in line


def test_a_bug_stays_a_traceback() -> None:
    from my_experiment.harness.training import devices
    from my_experiment.harness.training.quiet import tf

    with pytest.raises(tf.errors.InvalidArgumentError), devices.errors_in_one_line(ONE, 64):
        tf.reshape(tf.zeros(3), [2])


def test_an_unused_gpu_is_told_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from my_experiment.harness.training import devices, gpu

    monkeypatch.setattr(gpu, "unused", lambda root, environment: "do this")
    devices.tell_unused_gpu.cache_clear()
    devices.tell_unused_gpu()
    devices.tell_unused_gpu()
    assert capsys.readouterr().err == "train: computes on the processor, not on the NVIDIA GPU: do this\n"
