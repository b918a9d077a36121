"""Linear models: the parts that least squares and maximum likelihood share.

Rows stay on disk and are read in batches; sums over them are double precision. Coefficients are estimated for the
encoded columns, which are well scaled, and reported in the units of the table's columns: with z = (x - offset) / scale,
b0 + sum b_j z_j = (b0 - sum b_j offset_j / scale_j) + sum (b_j / scale_j) x_j, a linear map, which also transforms the
covariance.
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

    from .encoding import Column

BATCH_BYTES = 1 << 20  # fits into the processor's cache
# A column is a linear combination of those before it if its distance to their span is less than this fraction of its
# length: a variance inflation factor above 10^14.
COLLINEAR = 1e-7
INTERCEPT = "(intercept)"
Matrix = NDArray[Any]  # float64
# Threads of BLAS wait for each other longer than these small products take (ten times if others use the processor),
# and the order of a sum depends on their number: with one thread, more cores do not give other bytes.
one_thread = threadpool_limits.wrap(limits=1, user_api="blas")


def require(manifest: contracts.Manifest, target: str, model: str, other: str) -> None:
    """Rejects data whose target a model cannot predict.

    Args:
        manifest: Manifest of the prepared data.
        target: Target of the model: `classification` or `regression`.
        model: Name of the model.
        other: Name of the model for the other target.

    Raises:
        UserError: If the data have the other target.
    """
    if manifest["target"] != target:
        raise UserError(
            f"model: {model} is for {target}, but {manifest['target_name']!r} is a target of "
            f"{manifest['target']}: choose model: {other} in conf/config.yaml"
        )


def encoded_columns(inputs: contracts.Inputs) -> "list[Column]":
    """The columns of the encoded rows.

    Args:
        inputs: Arrays on which the model is fitted.

    Raises:
        UserError: If the inputs are no table, or its encoding is for Keras models only.
    """
    from . import encoding

    if inputs.preprocessing is None:
        raise UserError("model: linear models are for tables: choose another option of model in conf/config.yaml")
    columns = encoding.columns(inputs.preprocessing)
    if any(column.levels for column in columns):
        raise UserError("model: linear models have no embeddings: choose features: linear in conf/config.yaml")
    return columns


def batches(rows: NDArray[Any]) -> Iterator[tuple[slice, Matrix]]:
    """Consecutive rows with a first column of ones for the intercept: their places, and float64 [B, 1 + F].

    Args:
        rows: float32 or float64 [N, F], on disk.
    """
    width = rows.shape[1] + 1
    count = max(BATCH_BYTES // (8 * width), 2 * width)  # a batch of fewer rows than columns would be a waste
    for start in range(0, len(rows), count):
        part = slice(start, min(start + count, len(rows)))
        batch = np.ones((part.stop - part.start, width))
        batch[:, 1:] = rows[part]
        yield part, batch


def triangle(rows: NDArray[Any], last: Matrix | None = None) -> Matrix:
    """R of the QR decomposition of all rows: upper triangular, of intercept, columns and the appended column.

    Unlike X'X, it keeps the digits of nearly collinear columns. Source: J. Demmel, L. Grigori, M. Hoemmen, J. Langou,
    Communication-optimal Parallel and Sequential QR and LU Factorizations, SIAM J. Sci. Comput. 34, 2012 (flat TSQR).

    Args:
        rows: [N, F], on disk.
        last: A column to append, float64 [N].
    """
    upper = np.empty((0, rows.shape[1] + 1 + (last is not None)))
    for part, batch in batches(rows):
        if last is not None:
            batch = np.column_stack([batch, last[part]])
        upper = triangular(np.vstack([upper, batch]))
    return upper


def triangular(matrix: Matrix) -> Matrix:
    """R of the QR decomposition of a matrix in memory."""
    return np.asarray(np.linalg.qr(matrix, mode="r"))


def independent(upper: Matrix, columns: "Sequence[Column]") -> list[int]:
    """Indices of the linearly independent columns, 0 for the intercept; warns of the others.

    A linear combination of the columns before it adds nothing to the prediction, and no data distinguish its
    coefficient from theirs: it is fixed at 0, as R's `lm` does.

    Args:
        upper: `triangle` of the rows.
        columns: The encoded columns.
    """
    estimated = list(range(upper.shape[1]))
    lengths = np.linalg.norm(upper, axis=0)
    while True:
        # The distance of each column to the span of those before it, without columns that are dropped already.
        distances = np.zeros(len(estimated))
        diagonal = np.abs(np.diagonal(triangular(upper[:, estimated])))
        distances[: len(diagonal)] = diagonal
        dependent = np.flatnonzero(distances <= COLLINEAR * lengths[estimated])
        if not len(dependent):
            break
        del estimated[dependent[0]]
    if dropped := [column.name for index, column in enumerate(columns, 1) if index not in estimated]:
        print(
            f"train: linear combinations of other columns in the training rows, their coefficients are fixed at 0: "
            f"{', '.join(map(repr, dropped))}",
            file=sys.stderr,
        )
    return estimated


def coefficients(
    columns: "Sequence[Column]", estimated: Sequence[int], estimate: Matrix, covariance: Matrix, quantile: float
) -> list[dict[str, Any]]:
    """The table of coefficients, in the units of the table's columns: a row for each, the intercept first.

    Args:
        columns: The encoded columns.
        estimated: Indices of the estimated coefficients, 0 for the intercept, 1 + j for column j.
        estimate: Estimates for the encoded columns, float64 [P].
        covariance: Covariance of the estimates, float64 [P, P].
        quantile: Half the width of an interval in standard errors.

    Returns:
        name, estimate, standard_error, low and high of each.
    """
    used = [columns[index - 1] for index in estimated[1:]]
    units = np.diag([1.0, *(1 / column.scale for column in used)])
    units[0, 1:] = [-column.offset / column.scale for column in used]
    values = units @ estimate
    errors = np.sqrt(np.diagonal(units @ covariance @ units.T))
    low, high = values - quantile * errors, values + quantile * errors
    names = [INTERCEPT, *(column.name for column in used)]
    keys = ("name", "estimate", "standard_error", "low", "high")
    table = zip(names, values.tolist(), errors.tolist(), low.tolist(), high.tolist(), strict=True)
    return [dict(zip(keys, row, strict=True)) for row in table]


def predict(weights: Matrix, rows: NDArray[Any]) -> Matrix:
    """Linear predictors b0 + sum b_j z_j of each row, float64 [N, M].

    Args:
        weights: float64 [1 + F, M], the intercepts first.
        rows: [N, F], on disk.
    """
    return np.concatenate([batch @ weights for _, batch in batches(rows)])


def to_onnx(weights: Matrix, dtype: np.dtype[Any], output: str) -> "onnx.ModelProto":
    """The model in ONNX, with arithmetic in double precision and a float32 output.

    Args:
        weights: float64 [1 + F, M], the intercepts first.
        dtype: Type of the encoded rows.
        output: `prediction`, or `probabilities`, the softmax of the linear predictors.
    """
    from onnx import helper, numpy_helper

    from ..exported.graphs import IR_VERSION, OPSET
    from . import encoding

    double, single = (helper.np_dtype_to_tensor_dtype(np.dtype(t)) for t in (np.float64, np.float32))
    softmax = output == "probabilities"
    nodes = [
        helper.make_node("Cast", [encoding.OUTPUT], ["double"], to=double),
        helper.make_node("MatMul", ["double", "coefficients"], ["product"]),
        helper.make_node("Add", ["product", "intercept"], ["linear"]),
        *([helper.make_node("Softmax", ["linear"], ["answer"])] if softmax else []),
        helper.make_node("Cast", ["answer" if softmax else "linear"], [output], to=single),
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
    """The history of a model without epochs: one row, with loss and metric of the training and validation split.

    Args:
        weights: float64 [1 + F, M], the intercepts first.
        inputs: Arrays on which the model was fitted.
        measure: (linear predictors [B, M], targets [B]) -> loss and metric, each summed over the rows.
    """
    import pandas as pd  # here, not above: the stage `config` imports the models

    means: dict[str, float] = {}
    for prefix, split in (("", "train"), ("val_", "validation")):
        rows, targets = inputs.array(split), prepared.targets(split)
        for part, batch in batches(rows):
            for name, value in measure(batch @ weights, targets[part]).items():
                means[prefix + name] = means.get(prefix + name, 0.0) + float(value) / len(rows)
    return pd.DataFrame([means])
