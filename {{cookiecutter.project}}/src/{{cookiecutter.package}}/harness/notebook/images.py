"""Pictures of a split for a notebook."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..prepared import images


def read(split: str) -> NDArray[Any]:
    """The pictures, uint8 [N, H, W, C].

    Args:
        split: `train`, `validation` or `test`.
    """
    return np.asarray(images.load(split))
