"""Epochs of a training: what is reported of them, and which is kept."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd


def silent(epoch: int, measured: Mapping[str, float]) -> None:
    """Tells nobody how an epoch went."""


def kept(history: "pd.DataFrame", train: Mapping[str, Any]) -> int:
    """Returns the epoch whose weights were kept: the first of the best.

    Args:
        history: A row for each epoch.
        train: Section `train` of the configuration.
    """
    if "monitor" not in train:
        return len(history) - 1
    watched = history[train["monitor"]]
    return int(watched.argmax() if mode(train["monitor"]) == "max" else watched.argmin())


def mode(metric: str) -> Literal["min", "max"]:
    """Returns whether a validation metric is better where it is larger."""
    return "max" if metric == "val_accuracy" else "min"
