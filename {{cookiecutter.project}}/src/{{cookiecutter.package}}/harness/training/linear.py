"""Linear models: functions that least squares and maximum likelihood share.

Rows are read from disk in batches and summed in double precision. Coefficients are estimated for the encoded columns,
which are well scaled, and reported in the units of the table's columns: with z = (x - offset) / scale,
b0 + sum b_j z_j = (b0 - sum b_j offset_j / scale_j) + sum (b_j / scale_j) x_j. This linear map also transforms the
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
# A column is linearly dependent on earlier columns if its distance to their span is at most this fraction of its norm,
# a variance inflation factor of 10^14.
COLLINEAR = 1e-7
INTERCEPT = "(intercept)"
Matrix = NDArray[Any]  # float64
# With several BLAS threads, these small products take longer, up to ten times on a busy processor, and the rounding of
# sums depends on the number of threads. A single thread gives equal bytes on all machines.
one_thread = threadpool_limits.wrap(limits=1, user_api="blas")


def require(manifest: contracts.Manifest, target: str, model: str, alternative: str) -> None:
    """Rejects data whose target a model cannot predict.

    Args:
        manifest: Manifest of the prepared data.
        target: Target of the model: `classification` or `regression`.
        model: Name of the model.
        alternative: Name of the model for the other target.

    Raises:
        UserError: If the data have the other target.
    """
    if manifest["target"] != target:
        raise UserError(
            f"model: {model} is for {target}, but {manifest['target_name']!r} is a target of "
            f"{manifest['target']}: choose model: {alternative} in conf/config.yaml"
        )


def encoded_columns(inputs: contracts.Inputs) -> "list[Column]":
    """The columns of the encoded rows.

    Args:
        inputs: Arrays on which the model is fitted.

    Raises:
        UserError: If the inputs are not a table, or the encoding is for Keras models only.
    """
    from . import encoding

    columns = encoding.encoded_columns(inputs, "linear models")
    if any(column.levels for column in columns):
        raise UserError("model: linear models have no embeddings: choose features: linear in conf/config.yaml")
    if any(column.missing for column in columns):
        raise UserError("model: linear models need a value in every row: choose features: linear in conf/config.yaml")
    return columns


def batches(rows: NDArray[Any]) -> Iterator[tuple[slice, Matrix]]:
    """Batches of rows with a leading column of ones for the intercept.

    Args:
        rows: float32 or float64 [N, F], on disk.

    Yields:
        Slice of the rows, and the batch, float64 [B, 1 + F].
    """
    width = rows.shape[1] + 1
    count = max(BATCH_BYTES // (8 * width), 2 * width)  # fewer rows than columns would be inefficient in `triangle`
    for start in range(0, len(rows), count):
        part = slice(start, min(start + count, len(rows)))
        batch = np.ones((part.stop - part.start, width))
        batch[:, 1:] = rows[part]
        yield part, batch


def triangle(rows: NDArray[Any], last: Matrix | None = None) -> Matrix:
    """R of the QR decomposition of intercept, rows and optional last column.

    Unlike X'X, the upper triangular R keeps the precision of nearly collinear columns.
    Source: J. Demmel, L. Grigori, M. Hoemmen, J. Langou, Communication-optimal Parallel and Sequential QR and LU
    Factorizations, SIAM J. Sci. Comput. 34, 2012 (flat TSQR).

    Args:
        rows: float32 or float64 [N, F], on disk.
        last: Column to append, float64 [N]; None for none.

    Returns:
        float64 [C, C] for C columns, or fewer rows if there are fewer.
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
    """Indices of the linearly independent columns, 0 for the intercept.

    A column that is linearly dependent on earlier columns adds nothing to the prediction, and its coefficient is not
    identifiable: it is fixed at 0, with a warning, as by R's `lm`.

    Args:
        upper: `triangle` of the rows.
        columns: The encoded columns.
    """
    estimated = list(range(upper.shape[1]))
    lengths = np.linalg.norm(upper, axis=0)
    while True:
        # The distance of each remaining column to the span of those before it.
        distances = np.zeros(len(estimated))
        diagonal = np.abs(np.diagonal(triangular(upper[:, estimated])))
        distances[: len(diagonal)] = diagonal
        dependent = np.flatnonzero(distances <= COLLINEAR * lengths[estimated])
        if not len(dependent):
            break
        del estimated[dependent[0]]
    if dropped := [column.name for index, column in enumerate(columns, 1) if index not in estimated]:
        print(
            f"train: these columns are linear combinations of others, so that their coefficients are fixed at 0: "
            f"{', '.join(map(repr, dropped))}",
            file=sys.stderr,
        )
    return estimated


def coefficients(
    columns: "Sequence[Column]", estimated: Sequence[int], estimate: Matrix, covariance: Matrix, quantile: float
) -> list[dict[str, Any]]:
    """Table of coefficients in the units of the table's columns, intercept first.

    Args:
        columns: The encoded columns.
        estimated: Indices of the estimated coefficients, 0 for the intercept, 1 + j for column j.
        estimate: Estimates for the encoded columns, float64 [P].
        covariance: Covariance of the estimates, float64 [P, P].
        quantile: Half-width of an interval in standard errors.

    Returns:
        A row for each coefficient: name, estimate, standard_error, low, high.
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
    """Linear predictors b0 + sum b_j z_j, float64 [N, M].

    Args:
        weights: float64 [1 + F, M], intercepts first.
        rows: [N, F], on disk.
    """
    return np.concatenate([batch @ weights for _, batch in batches(rows)])


def to_onnx(weights: Matrix, dtype: np.dtype[Any], output: str) -> "onnx.ModelProto":
    """A linear model in ONNX, with double-precision arithmetic and float32 output.

    Args:
        weights: float64 [1 + F, M], intercepts first.
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
    """History of a model without epochs: one row of losses and metrics.

    Args:
        weights: float64 [1 + F, M], intercepts first.
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
