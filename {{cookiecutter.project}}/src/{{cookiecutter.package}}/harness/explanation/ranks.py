"""Rank correlation."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def mean_correlation(pairs: Iterable[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> float:
    """Mean of the rank correlations; NaN if all are undefined."""
    from scipy.stats import rankdata

    found = []
    for first, second in pairs:
        ranks = [rankdata(values) for values in (first, second)]
        centered = [rank - rank.mean() for rank in ranks]
        scale = float(np.sqrt((centered[0] @ centered[0]) * (centered[1] @ centered[1])))
        if scale:
            found.append(float(centered[0] @ centered[1]) / scale)
    return float(np.mean(found)) if found else float("nan")
