"""mypy checks that each module of a regression fulfills its Protocol; any other is an error here."""

import types_check
from my_experiment.harness.contracts import Target
from my_experiment.harness.drift import regression as drift_regression
from my_experiment.harness.drift.contracts import Verdicts
from my_experiment.harness.evaluation import regression as evaluation_regression
from my_experiment.harness.evaluation.contracts import Evaluator
from my_experiment.harness.explanation import regression as explanation_regression
from my_experiment.harness.explanation.contracts import Answers
from my_experiment.harness.targets import regression as targets_regression

TARGET: Target = targets_regression
EVALUATOR: Evaluator = evaluation_regression
ANSWERS: Answers = explanation_regression
VERDICTS: Verdicts = drift_regression


def test_modules_fulfill_their_protocols() -> None:
    types_check.accepts(__file__)
    types_check.refuses(__file__, "TARGET: Target = targets_regression", "TARGET: Target = evaluation_regression")
