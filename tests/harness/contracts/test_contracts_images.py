"""mypy checks that each module for pictures fulfills its Protocol; a module that does not is an error of this file."""

import types_check
from my_experiment.harness.batch import images as batch_images
from my_experiment.harness.batch.contracts import BatchReader
from my_experiment.harness.capture import images as capture_images
from my_experiment.harness.capture.contracts import RequestWriter
from my_experiment.harness.contracts import PreparedInput
from my_experiment.harness.drift import images as drift_images
from my_experiment.harness.drift.contracts import Subject
from my_experiment.harness.evaluation import images as evaluation_images
from my_experiment.harness.evaluation.contracts import Presenter
from my_experiment.harness.explanation import images as explanation_images
from my_experiment.harness.explanation.contracts import Modality
from my_experiment.harness.feedback import images as feedback_images
from my_experiment.harness.feedback.contracts import Destination
from my_experiment.harness.inputs import images as inputs_images
from my_experiment.harness.inputs.contracts import ArrayDecoder
from my_experiment.harness.prepared import images as prepared_images

PREPARED: PreparedInput = prepared_images
PRESENTER: Presenter = evaluation_images
EXPLAINED: Modality = explanation_images
BATCH: BatchReader = batch_images
REQUESTS: RequestWriter = capture_images
DESTINATION: Destination = feedback_images
COUNTED: Subject = drift_images
DECODER: ArrayDecoder = inputs_images


def test_modules_fulfill_their_protocols() -> None:
    types_check.accepts(__file__)
    types_check.refuses(__file__, "PREPARED: PreparedInput = prepared_images", "PREPARED: PreparedInput = batch_images")


def test_only_pictures_are_accepted_as_arrays() -> None:
    assert isinstance(inputs_images, ArrayDecoder)
