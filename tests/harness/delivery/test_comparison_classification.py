"""Two classifiers on the same requests."""

import numpy as np
import pytest
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.delivery import comparison
from my_experiment.harness.delivery.comparison import Pair

DESCRIPTION = {"target": "classification", "input": "images", "classes": ["cat", "dog"], "sha256": "ab" * 32}


def outputs(*cats: float) -> np.ndarray:
    """Probabilities of both classes, from those of the first."""
    return np.array([[cat, 1 - cat] for cat in cats], np.float32)


def test_disagreements_shares_and_largest_changes_are_told() -> None:
    before, after = outputs(0.9, 0.8, 0.3, 0.2), outputs(0.9, 0.4, 0.3, 0.1)
    told = comparison.told(Pair(("a/1", "a/2"), (DESCRIPTION, DESCRIPTION), (before, after), "examples"))
    assert told[0] == "a/1 and a/2 disagree on 1 of 4 (25.0%, 95% interval 0.6% to 80.6%) examples"
    assert told[2:5] == [
        "answer  a/1    a/2    change",
        "cat     50.0%  25.0%  -25.0 points",
        "dog     50.0%  75.0%  +25.0 points",
    ]
    assert "cat  dog  1" in told[7].replace("  ", " ").replace("  ", " ").replace(" ", "  ")
    assert told[10].split() == ["1", "cat", "dog", "0.4"]


def test_equal_models_have_no_changes() -> None:
    same = outputs(0.9, 0.2)
    told = comparison.told(Pair(("a/1", "a/2"), (DESCRIPTION, DESCRIPTION), (same, same), "examples"))
    assert told[0].startswith("a/1 and a/2 disagree on 0 of 2 (0.0%")
    assert len(told) == 5


def test_models_of_other_classes_are_not_compared() -> None:
    other = {**DESCRIPTION, "classes": ["cat", "cow"]}
    with pytest.raises(UserError, match="a/1 and a/2 cannot be compared: classes"):
        comparison.told(Pair(("a/1", "a/2"), (DESCRIPTION, other), (outputs(0.9), outputs(0.9)), "examples"))
