"""mypy checks that each module of a classification fulfills its Protocol; any other is an error here."""

import types_check
from my_experiment.harness.contracts import Target
from my_experiment.harness.drift import classification as drift_classification
from my_experiment.harness.drift.contracts import Verdicts
from my_experiment.harness.evaluation import classification as evaluation_classification
from my_experiment.harness.evaluation.contracts import Evaluator
from my_experiment.harness.explanation import classification as explanation_classification
from my_experiment.harness.explanation.contracts import Answers
from my_experiment.harness.targets import classification as targets_classification

TARGET: Target = targets_classification
EVALUATOR: Evaluator = evaluation_classification
ANSWERS: Answers = explanation_classification
VERDICTS: Verdicts = drift_classification


def test_modules_fulfill_their_protocols() -> None:
    types_check.accepts(__file__)
    types_check.refuses(
        __file__, "TARGET: Target = targets_classification", "TARGET: Target = evaluation_classification"
    )
