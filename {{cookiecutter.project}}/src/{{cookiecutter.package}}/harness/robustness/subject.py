"""Reads the examples to change, and the exported model."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from .. import prepared
from ..core import config
from ..core.errors import UserError
from ..core.paths import MODELS
from ..evaluation.metrics import evenly_spaced
from ..evaluation.settings import Evaluate, check_fixed
from ..exported import inference, model
from . import kind
from .contracts import Subject

BATCH = 64  # number of examples that the model answers at a time


def read(examples: int) -> Subject:
    """Test examples, evenly spaced in the order of their targets, and the model.

    Args:
        examples: Maximum number of examples.

    Raises:
        UserError: If the test split is empty, a fixed column does not exist, or model.onnx does not have the SHA-256 in
            model.json.
    """
    manifest, targets, settings = prepared.manifest(), prepared.targets("test"), config.load("evaluate", Evaluate)
    check_fixed(settings.fixed, manifest)
    if not len(targets):
        raise UserError("the test split is empty: add examples or raise prepare.test")
    rows = np.sort(np.argsort(targets, kind="stable")[evenly_spaced(len(targets), examples)])
    description = model.read(MODELS)
    # One thread for each batch, and batches at the same time: the bits do not depend on the number of processors.
    predict, pool = inference.predictor(MODELS / "model.onnx", threads=1), ThreadPoolExecutor(os.cpu_count())

    def outputs(feed: inference.Feed) -> NDArray[np.float32]:
        count = len(next(iter(feed.values())))
        parts = [slice(start, start + BATCH) for start in range(0, count, BATCH)]
        batches = ([{name: values[part] for name, values in feed.items()}] for part in parts)
        found = np.concatenate(list(pool.map(predict, batches)))
        if bad := int((~inference.finite_rows(found)).sum()):
            raise UserError(
                f"robustness: the model's answer is not a finite number for {bad} of {len(found)} changed examples: it "
                "answers neither noise nor missing values; choose robustness: none in conf/config.yaml"
            )
        return found

    return Subject(
        rows,
        np.asarray(targets[rows]),
        len(targets),
        manifest,
        description,
        kind(manifest),
        outputs,
        settings,
    )
