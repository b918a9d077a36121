"""mypy checks that each module for tables fulfills its Protocol; a module that does not is an error of this file."""

import types_check
from my_experiment.harness.batch import tables as batch_tables
from my_experiment.harness.batch.contracts import BatchReader
from my_experiment.harness.contracts import PreparedTable
from my_experiment.harness.evaluation import tables as evaluation_tables
from my_experiment.harness.evaluation.contracts import Presenter
from my_experiment.harness.inputs import tables as inputs_tables
from my_experiment.harness.inputs.contracts import ArrayDecoder, RequestDecoder
from my_experiment.harness.prepared import tables as prepared_tables

PREPARED: PreparedTable = prepared_tables
PRESENTER: Presenter = evaluation_tables
BATCH: BatchReader = batch_tables
DECODER: RequestDecoder = inputs_tables


def test_modules_fulfill_their_protocols() -> None:
    types_check.accepts(__file__)
    types_check.refuses(__file__, "BATCH: BatchReader = batch_tables", "BATCH: BatchReader = inputs_tables")


def test_tables_are_not_accepted_as_arrays() -> None:
    assert not isinstance(inputs_tables, ArrayDecoder)
    assert isinstance(prepared_tables, PreparedTable)
