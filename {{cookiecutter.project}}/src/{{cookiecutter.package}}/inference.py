"""Asking the exported model: in the pipeline, with data that stay on disk."""

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
