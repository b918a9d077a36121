"""The validation metric that early stopping monitors."""

from typing import TYPE_CHECKING, Literal

from ..contracts import Target

if TYPE_CHECKING:
    import pandas as pd

LOSS = "val_loss"


def choices(target: Target) -> tuple[str, str]:
    """Columns of the history that can be monitored."""
    return LOSS, f"val_{target.METRIC}"


def mode(monitor: str, target: Target) -> Literal["min", "max"]:
    """Direction of improvement of a monitored metric.

    Args:
        monitor: One of `choices`.
        target: Target of the model.
    """
    return "max" if monitor != LOSS and target.HIGHER_IS_BETTER else "min"


def best_epoch(history: "pd.DataFrame", monitor: str | None, target: Target) -> int:
    """Index of the first best epoch, whose weights early stopping restores.

    Args:
        history: A row for each epoch.
        monitor: One of `choices`; None for a model without epochs, which has a single row.
        target: Target of the model.
    """
    if monitor is None:
        return len(history) - 1
    values = history[monitor]
    return int(values.argmax() if mode(monitor, target) == "max" else values.argmin())
