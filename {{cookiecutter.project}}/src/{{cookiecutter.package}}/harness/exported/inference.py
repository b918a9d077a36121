"""Asking the exported model: in the pipeline, with data that stay on disk."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray


def predict(model: Path | bytes, feeds: Iterable[Mapping[str, NDArray[Any]]]) -> NDArray[np.float32]:
    """Asks an ONNX model batch by batch, so that data on disk stay there.

    Args:
        model: The ONNX file, or its content.
        feeds: Batches: input -> array.

    Returns:
        Its only output, float32 [N, ...].
    """
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, feed)[0] for feed in feeds])


def finite_rows(outputs: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether all numbers of each row are finite, bool [N].

    Args:
        outputs: Outputs of a model, [N, ...].
    """
    finite: NDArray[np.bool_] = np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)
    return finite


def latency(model: Path | bytes, feed: Mapping[str, NDArray[Any]]) -> float:
    """Returns how long an ONNX model takes for one answer, in ms: the median of 200, on one thread.

    Args:
        model: The ONNX file, or its content.
        feed: Input -> array; its first row is asked.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    one = {name: values[:1] for name, values in feed.items()}
    seconds = []
    for _ in range(220):  # the first 20 warm up
        started = time.perf_counter()
        session.run(None, one)
        seconds.append(time.perf_counter() - started)
    return float(f"{np.median(seconds[20:]) * 1000:.4g}")


def misfit(model: Path | bytes, feed: Mapping[str, NDArray[Any]]) -> str | None:
    """Returns why an ONNX model cannot be asked with such a batch, or None where it can.

    Args:
        model: The ONNX file, or its content.
        feed: Input -> array.
    """
    types = {"f4": "tensor(float)", "f8": "tensor(double)", "O": "tensor(string)"}
    wanted = {i.name: i for i in onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).get_inputs()}
    if lacking := sorted(wanted.keys() - feed.keys()):
        return f"it wants {', '.join(lacking)}"
    if unknown := sorted(feed.keys() - wanted.keys()):
        return f"it does not know {', '.join(unknown)}"
    for name, values in feed.items():
        shape = wanted[name].shape[1:]
        same = len(shape) == values.ndim - 1 and all(
            size == given or not isinstance(size, int) for size, given in zip(shape, values.shape[1:], strict=False)
        )
        if not same or wanted[name].type != types.get(values.dtype.str.lstrip("<>|=")):
            return f"{name} is {wanted[name].type} {shape} to it, and {values.dtype} {list(values.shape[1:])} here"
    return None
