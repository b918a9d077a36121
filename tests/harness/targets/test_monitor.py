"""The monitored metric: its direction is the target's, whatever its name."""

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from my_experiment.harness.targets import monitor

HISTORY = pd.DataFrame({"val_loss": [3.0, 1.0, 1.0, 2.0], "val_auc": [0.5, 0.9, 0.7, 0.9]})


def target(higher: bool) -> Any:
    """A target with a metric of that direction."""
    return SimpleNamespace(METRIC="auc", HIGHER_IS_BETTER=higher)


@pytest.mark.parametrize("higher", [True, False])
def test_a_loss_is_better_if_it_is_lower(higher: bool) -> None:
    assert monitor.choices(target(higher)) == ("val_loss", "val_auc")
    assert monitor.mode("val_loss", target(higher)) == "min"
    assert monitor.best_epoch(HISTORY, "val_loss", target(higher)) == 1  # the first of the best


@pytest.mark.parametrize(("higher", "mode", "best"), [(True, "max", 1), (False, "min", 0)])
def test_the_target_says_when_its_metric_is_better(higher: bool, mode: str, best: int) -> None:
    assert monitor.mode("val_auc", target(higher)) == mode
    assert monitor.best_epoch(HISTORY, "val_auc", target(higher)) == best


def test_a_model_without_epochs_has_one_row() -> None:
    assert monitor.best_epoch(HISTORY[:1], None, target(True)) == 0
