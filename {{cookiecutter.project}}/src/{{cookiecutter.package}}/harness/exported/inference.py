"""Inference with the exported model, batch by batch."""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from . import softmax

Feed = Mapping[str, NDArray[Any]]  # name of an input -> array [n, ...]
Predict = Callable[[Iterable[Feed]], NDArray[np.float32]]
PROVIDERS = ["CPUExecutionProvider"]
TYPES = {"f4": "tensor(float)", "f8": "tensor(double)", "O": "tensor(string)"}  # NumPy -> ONNX
# The last level of optimization stores convolutions in blocks as wide as the processor's vectors, and sums over trees
# are split by the number of threads: results would depend on the machine.
PORTABLE = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
THREADS = 4
WARM_UP, CALLS = 20, 200  # numbers of calls in a latency measurement


def predict(model: Path | bytes, feeds: Iterable[Feed], portable: bool = True) -> NDArray[np.float32]:
    """Outputs of an ONNX model, float32 [N, ...].

    Args:
        model: The ONNX file, or its content.
        feeds: Batches, each as name of an input -> array [n, ...].
        portable: Whether to give the same bits on every x86-64 processor; otherwise, convolutions take a half to a
            quarter of the time.
    """
    return predictor(model, portable)(feeds)


def predictor(model: Path | bytes, portable: bool = True, threads: int = THREADS) -> Predict:
    """A function from batches to outputs, for many calls: the model is loaded once.

    Args:
        model: The ONNX file, or its content.
        portable: As in `predict`.
        threads: Number of threads of a portable model; the bits depend on it.
    """
    options = onnxruntime.SessionOptions()
    if portable:
        options.graph_optimization_level = PORTABLE
        options.intra_op_num_threads = threads
        # A thread that waits by computing takes a third of the CPU time, and on two cores saves no time.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        model = softmax.spelled_out(model)
    session = onnxruntime.InferenceSession(model, options, providers=PROVIDERS)
    return lambda feeds: np.concatenate([session.run(None, feed)[0] for feed in feeds])


def finite_rows(outputs: NDArray[Any]) -> NDArray[np.bool_]:
    """Mask of the rows whose numbers are all finite, bool [N].

    Args:
        outputs: Outputs of a model, [N, ...].
    """
    finite: NDArray[np.bool_] = np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)
    return finite


def latency(model: Path | bytes, feed: Mapping[str, NDArray[Any]]) -> float:
    """Latency of one prediction in ms: median of `CALLS` single-threaded calls.

    Args:
        model: The ONNX file, or its content.
        feed: Name of an input -> array; its first row is predicted.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=PROVIDERS)
    row = {name: values[:1] for name, values in feed.items()}
    seconds = []
    for _ in range(WARM_UP + CALLS):
        started = time.perf_counter()
        session.run(None, row)
        seconds.append(time.perf_counter() - started)
    return float(f"{np.median(seconds[WARM_UP:]) * 1000:.4g}")


def misfit(model: Path | bytes, feed: Mapping[str, NDArray[Any]]) -> str | None:
    """The mismatch of an ONNX model and a batch; None if they match.

    Args:
        model: The ONNX file, or its content.
        feed: Name of an input -> array.
    """
    inputs = {value.name: value for value in onnxruntime.InferenceSession(model, providers=PROVIDERS).get_inputs()}
    if missing := sorted(inputs.keys() - feed.keys()):
        return f"it needs the inputs {', '.join(missing)}"
    if unknown := sorted(feed.keys() - inputs.keys()):
        return f"it has no inputs {', '.join(unknown)}"
    for name, values in feed.items():
        shape, kind = inputs[name].shape[1:], inputs[name].type
        if kind != TYPES.get(values.dtype.str.lstrip("<>|=")) or not _fits(values.shape[1:], shape):
            return f"its input {name} is {kind} {shape}, the data have {values.dtype} {list(values.shape[1:])}"
    return None


def _fits(actual: tuple[int, ...], expected: list[Any]) -> bool:
    """Whether a shape matches an ONNX shape, whose symbolic sizes match any."""
    return len(actual) == len(expected) and all(
        size == length or not isinstance(size, int) for size, length in zip(expected, actual, strict=True)
    )
