"""Linear models: what least squares and maximum likelihood share. They are fitted exactly, not by gradient descent.

Rows stay on disk and are read in batches; sums over them are double precision. Coefficients are solved for on the
encoded columns, which are well scaled, and reported in the unit of the table's columns: with z = (x - offset) / scale,
b0 + sum b_j z_j = (b0 - sum b_j offset_j / scale_j) + sum (b_j / scale_j) x_j: a linear map, which the covariance
follows.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from .. import contracts, prepared
from ..core.errors import UserError

if TYPE_CHECKING:
    import onnx
    import pandas as pd

    from . import encoding

BATCH_BYTES = 1 << 20  # stays in the processor's cache
# A column whose distance to the span of those before it is less than this fraction of its length is a combination of
# them: a variance inflation factor above 10^14.
COLLINEAR = 1e-7
INTERCEPT = "(intercept)"
Matrix = NDArray[Any]  # float64
# Threads of BLAS wait for each other longer than these small products take (ten times where others use the processor),
# and sum in an order that depends on how many there are: with one, more cores do not give other bytes.
one_thread = threadpool_limits.wrap(limits=1, user_api="blas")


def require(manifest: contracts.Manifest, target: str, model: str, other: str) -> None:
    """Stops where a model cannot answer what is asked.

    Args:
        manifest: Of the prepared data.
        target: What the model answers: `classification` or `regression`.
        model: Its name.
        other: The model to take instead.

    Raises:
        UserError: Where the data are of the other kind.
    """
    if manifest["target"] != target:
        raise UserError(
            f"model: {model} is for {target}, but {manifest['target_name']!r} is a target of "
            f"{manifest['target']}: choose model: {other} in conf/config.yaml"
        )


def encoded_columns(inputs: contracts.Inputs) -> "list[encoding.Column]":
    """Returns what the columns of a table's rows are.

    Args:
        inputs: What the model is fitted on.

    Raises:
        UserError: Where they are not encoded rows of a table.
    """
    from . import encoding

    if inputs.preprocessing is None:
        raise UserError("model: linear models are for tables: choose another option of model in conf/config.yaml")
    found = encoding.columns(inputs.preprocessing)
    if any(column.levels for column in found):
        raise UserError("model: linear models have no embeddings: choose features: linear in conf/config.yaml")
    return found


def batches(rows: NDArray[Any]) -> Iterator[tuple[slice, Matrix]]:
    """Yields consecutive rows with a first column of ones, for the intercept.

    Args:
        rows: float32 or float64 [N, F], on disk.

    Yields:
        Which rows, and float64 [B, 1 + F].
    """
    width = rows.shape[1] + 1
    count = max(BATCH_BYTES // (8 * width), 2 * width)  # fewer rows than columns would make each batch a waste
    for start in range(0, len(rows), count):
        part = slice(start, min(start + count, len(rows)))
        batch = np.ones((part.stop - part.start, rows.shape[1] + 1))
        batch[:, 1:] = rows[part]
        yield part, batch


def triangle(rows: NDArray[Any], last: Matrix | None = None) -> Matrix:
    """Returns R of the QR decomposition of all rows, from batches.

    Unlike X'X, it keeps the digits of nearly collinear columns. Source: J. Demmel, L. Grigori, M. Hoemmen, J. Langou,
    Communication-optimal Parallel and Sequential QR and LU Factorizations, SIAM J. Sci. Comput. 34, 2012 (flat TSQR).

    Args:
        rows: [N, F], on disk.
        last: A column to append, float64 [N].

    Returns:
        Upper triangular, of intercept, columns and the appended one.
    """
    found = np.empty((0, rows.shape[1] + 1 + (last is not None)))
    for part, batch in batches(rows):
        if last is not None:
            batch = np.column_stack([batch, last[part]])
        found = triangular(np.vstack([found, batch]))
    return found


def triangular(matrix: Matrix) -> Matrix:
    """Returns R of the QR decomposition of a matrix in memory."""
    return np.asarray(np.linalg.qr(matrix, mode="r"))


def independent(found: Matrix, columns: "Sequence[encoding.Column]") -> list[int]:
    """Returns the columns, intercept included, that are no linear combination of those before them; warns of the rest.

    Such a column adds nothing to what the others predict, and no data tell its coefficient from theirs: it is fixed
    at 0, as R's `lm` does.

    Args:
        found: What `triangle` has returned for intercept and columns.
        columns: What they are.
    """
    kept = list(range(found.shape[1]))
    lengths = np.linalg.norm(found, axis=0)
    while True:
        # What is left of each column once those before it are taken away; a dropped one must not count among them.
        distances = np.zeros(len(kept))
        diagonal = np.abs(np.diagonal(triangular(found[:, kept])))
        distances[: len(diagonal)] = diagonal
        dependent = np.flatnonzero(distances <= COLLINEAR * lengths[kept])
        if not len(dependent):
            break
        del kept[dependent[0]]
    dropped = [columns[j - 1].name for j in range(found.shape[1]) if j not in kept]
    if dropped:
        print(
            f"train: linear combinations of other columns in the training rows, their coefficients are fixed at 0: "
            f"{', '.join(map(repr, dropped))}",
            file=sys.stderr,
        )
    return kept


def coefficients(
    columns: "Sequence[encoding.Column]", kept: Sequence[int], estimate: Matrix, covariance: Matrix, quantile: float
) -> list[dict[str, Any]]:
    """Returns the table of coefficients in the units of the table's columns.

    Args:
        columns: Of the encoded rows.
        kept: Those estimated, 0 is the intercept, column j is 1 + j.
        estimate: float64 [len(kept)], of the encoded columns.
        covariance: float64 [len(kept), len(kept)], of `estimate`.
        quantile: Half the width of an interval in standard errors.

    Returns:
        name, estimate, standard_error, low and high of each.
    """
    used = [columns[j - 1] for j in kept[1:]]
    scale = np.array([1.0, *(column.scale for column in used)])
    back = np.diag(1 / scale)
    back[0, 1:] = [-column.offset / column.scale for column in used]
    estimate = back @ estimate
    error = np.sqrt(np.diagonal(back @ covariance @ back.T))
    low, high = estimate - quantile * error, estimate + quantile * error
    names = [INTERCEPT, *(column.name for column in used)]
    keys = ("name", "estimate", "standard_error", "low", "high")
    table = zip(names, estimate.tolist(), error.tolist(), low.tolist(), high.tolist(), strict=True)
    return [dict(zip(keys, row, strict=True)) for row in table]


def predict(weights: Matrix, rows: NDArray[Any]) -> Matrix:
    """Returns b0 + sum b_j z_j of each row, float64 [N, M].

    Args:
        weights: float64 [1 + F, M], the intercepts first.
        rows: [N, F], on disk.
    """
    return np.concatenate([batch @ weights for _, batch in batches(rows)])


def to_onnx(weights: Matrix, dtype: np.dtype[Any], output: str) -> "onnx.ModelProto":
    """Returns the model in ONNX; its arithmetic is double, its answer float32.

    Args:
        weights: float64 [1 + F, M], the intercepts first.
        dtype: Of the encoded rows.
        output: `prediction`, or `probabilities`, which are the softmax of the linear predictors.
    """
    from onnx import helper, numpy_helper

    from ..exported.graphs import IR_VERSION, OPSET
    from . import encoding

    double, single = (helper.np_dtype_to_tensor_dtype(np.dtype(t)) for t in (np.float64, np.float32))
    nodes = [
        helper.make_node("Cast", [encoding.OUTPUT], ["double"], to=double),
        helper.make_node("MatMul", ["double", "coefficients"], ["product"]),
        helper.make_node("Add", ["product", "intercept"], ["linear"]),
        *([helper.make_node("Softmax", ["linear"], ["answer"])] if output == "probabilities" else []),
        helper.make_node("Cast", ["answer" if output == "probabilities" else "linear"], [output], to=single),
    ]
    kind = helper.np_dtype_to_tensor_dtype(dtype)
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info(encoding.OUTPUT, kind, ["N", len(weights) - 1])],
        [helper.make_tensor_value_info(output, single, ["N", weights.shape[1]])],
        [
            numpy_helper.from_array(np.ascontiguousarray(weights[1:]), "coefficients"),
            numpy_helper.from_array(weights[0].copy(), "intercept"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def history(
    weights: Matrix, inputs: contracts.Inputs, measure: Callable[[Matrix, NDArray[Any]], dict[str, float]]
) -> "pd.DataFrame":
    """Returns the one epoch that an exact solution takes.

    Args:
        weights: float64 [1 + F, M], the intercepts first.
        inputs: What the model was fitted on.
        measure: Gives loss and a metric, each summed over some rows, from their linear predictors, [B, M], and targets.
    """
    import pandas as pd  # here, not above: the stage `config` imports the models

    measured: dict[str, float] = {}
    for prefix, split in (("", "train"), ("val_", "validation")):
        rows, targets = inputs.array(split), prepared.targets(split)
        for part, batch in batches(rows):
            for name, value in measure(batch @ weights, targets[part]).items():
                measured[prefix + name] = measured.get(prefix + name, 0.0) + float(value) / len(rows)
    return pd.DataFrame([measured])
