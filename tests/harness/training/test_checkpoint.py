"""Checkpoints of a training with workers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from my_experiment.harness.training import strategy
from networks import build, fit
from numpy.typing import NDArray

pytestmark = pytest.mark.keras


def test_an_interrupted_training_goes_on_bit_for_bit(workspace: Path) -> None:
    from my_experiment.harness.training import checkpoint, workers

    group = workers.Group(strategy.Cluster(("localhost:1",), 0), None, "")

    def run(stop: int | None = None) -> tuple[Any, list[NDArray[Any]]]:
        def report(epoch: int, measured: Any) -> None:
            if epoch == stop:
                raise KeyboardInterrupt

        model = build()
        history = fit(model, report=report, group=group, epochs=5)
        return history, model.get_weights()

    with pytest.raises(KeyboardInterrupt):
        run(stop=3)
    assert len(list(checkpoint.CHECKPOINTS.glob("*.npz"))) == 1
    continued = run()
    checkpoint.forget()
    whole = run()
    assert continued[0].equals(whole[0])
    for a, b in zip(continued[1], whole[1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert run()[0].equals(whole[0])  # nothing is left to train: what was kept is taken


def test_a_checkpoint_of_another_training_is_not_taken(workspace: Path) -> None:
    from my_experiment.harness.training import checkpoint, workers

    group = workers.Group(strategy.Cluster(("localhost:1",), 0), None, "")
    for rate, rows in ((0.003, 240), (0.002, 240), (0.002, 239)):
        fit(build(), rows, group=group, epochs=2, learning_rate=rate)
    assert len(list(checkpoint.CHECKPOINTS.glob("*.npz"))) == 3
