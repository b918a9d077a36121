"""mypy checks that each module for tables fulfills its Protocol; a module that does not is an error of this file."""

import types_check
from my_experiment.harness.batch import tables as batch_tables
from my_experiment.harness.batch.contracts import BatchReader
from my_experiment.harness.capture import tables as capture_tables
from my_experiment.harness.capture.contracts import RequestWriter
from my_experiment.harness.contracts import PreparedInput
from my_experiment.harness.drift import tables as drift_tables
from my_experiment.harness.drift.contracts import Subject
from my_experiment.harness.evaluation import tables as evaluation_tables
from my_experiment.harness.evaluation.contracts import Presenter
from my_experiment.harness.explanation import tables as explanation_tables
from my_experiment.harness.explanation.contracts import Modality
from my_experiment.harness.feedback import tables as feedback_tables
from my_experiment.harness.feedback.contracts import Destination
from my_experiment.harness.inputs import tables as inputs_tables
from my_experiment.harness.inputs.contracts import ArrayDecoder, RequestDecoder
from my_experiment.harness.prepared import tables as prepared_tables

PREPARED: PreparedInput = prepared_tables
PRESENTER: Presenter = evaluation_tables
EXPLAINED: Modality = explanation_tables
BATCH: BatchReader = batch_tables
REQUESTS: RequestWriter = capture_tables
DESTINATION: Destination = feedback_tables
COUNTED: Subject = drift_tables
DECODER: RequestDecoder = inputs_tables


def test_modules_fulfill_their_protocols() -> None:
    types_check.accepts(__file__)
    types_check.refuses(__file__, "BATCH: BatchReader = batch_tables", "BATCH: BatchReader = inputs_tables")


def test_tables_are_not_accepted_as_arrays() -> None:
    assert not isinstance(inputs_tables, ArrayDecoder)
