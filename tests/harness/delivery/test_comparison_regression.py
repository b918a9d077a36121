"""Two regressions on the same requests."""

import numpy as np
from my_experiment.harness.delivery import comparison
from my_experiment.harness.delivery.comparison import Pair

DESCRIPTION = {"target": "regression", "input": "tables", "calibration": {"half_widths": {"0.9": 2.0}}}


def test_numbers_disagree_outside_of_the_interval() -> None:
    before, after = (np.array([numbers], np.float32).T for numbers in ([1, 2, 3, 4], [1, 3, 6, 4]))
    told = comparison.told(Pair(("a/1", "a/2"), (DESCRIPTION, DESCRIPTION), (before, after), "examples"))
    assert told[0].startswith("a/1 and a/2 disagree on 1 of 4 (25.0%")
    assert told[0].endswith("examples, the number is outside the 90% interval of the first")
    assert told[1] == "mean 2.5 -> 3.5, largest difference 3, median 0.5"
    assert told[4].split() == ["2", "3", "6", "3"]
