"""Gradient descent of a regression: the same tests, in a bake whose target is a number."""

import pytest
from networks import TARGET
from test_descent import (  # noqa: F401  Collected here.
    test_a_loss_that_is_no_number_is_one_line,
    test_an_export_that_differs_is_refused,
    test_it_learns,
    test_the_best_epoch_is_kept,
    test_the_same_training_has_the_same_weights,
    test_the_target_alone_says_when_a_metric_is_better,
    test_what_the_target_does_not_have_is_refused,
)

pytestmark = [
    pytest.mark.keras,
    pytest.mark.skipif(TARGET != "regression", reason="this bake classifies as well: test_descent has run them"),
]
