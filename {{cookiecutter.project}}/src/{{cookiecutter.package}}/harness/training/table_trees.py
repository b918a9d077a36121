"""Trees of scikit-learn's histogram gradient boosting: fitted, measured and converted to ONNX.

No kept converter does it: skl2onnx 1.20 fails with onnx 1.23, and knows no splits by category. Here, thresholds and
leaves stay in double precision, as the rows do, and a set of levels is a mode of ONNX's operator, so that every row
reaches the leaf that it reaches in scikit-learn. The nodes are in a private attribute, `_predictors`, which other
converters read as well; the tests compare every branch with scikit-learn's own predictions.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from .. import contracts, prepared, targets
from ..contracts import Boosting, Fitted
from ..core.errors import UserError
from ..targets import monitor
from .encoding import OUTPUT, Column

if TYPE_CHECKING:
    import onnx
    import pandas as pd

ML_OPSET = 5  # of ai.onnx.ml: the first with `TreeEnsemble`
BELOW, MEMBER = 0, 6  # modes of a node: x <= threshold, x in a set
SCORING = {monitor.LOSS: "loss", "val_accuracy": "accuracy", "val_mae": "neg_mean_absolute_error"}
SMALL = 1_000_000  # numbers in the training rows, below which one thread is as fast
Rows = NDArray[Any]  # float32 or float64 [N, F]


class Trees(NamedTuple):
    """The trees of a model; nodes of all trees are numbered through, and so are leaves.

    Attributes:
        baseline: Sum of the values that are the same for every row, float64 [K], a column for each output.
        roots: Node at the root of each tree, int64 [T].
        feature: Index of the encoded column that each node compares, int64 [M].
        threshold: Threshold of each node, float64 [M]; 0 if it has a set.
        sets: Indices of the levels that go left at each node that has a set, by node.
        missing_left: Whether a missing value goes left, bool [M].
        children: Left and right child of each node, int64 [M, 2], a node or a leaf.
        is_leaf: Whether a child is a leaf, bool [M, 2].
        values: Value of each leaf, float64 [L].
        outputs: Output to which each leaf's value is added, int64 [L].
        gain: Decrease of the loss by the split of each node, float64 [M].
    """

    baseline: NDArray[np.float64]
    roots: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    sets: dict[int, list[int]]
    missing_left: NDArray[np.bool_]
    children: NDArray[np.int64]
    is_leaf: NDArray[np.bool_]
    values: NDArray[np.float64]
    outputs: NDArray[np.int64]
    gain: NDArray[np.float64]


def fit(model: Any, inputs: contracts.Inputs, manifest: contracts.Manifest, how: Boosting) -> Fitted:
    """A model of trees, stopped early on the validation split and cut after its best iteration.

    Rows are held in memory, 9 bytes for each number: scikit-learn needs them all, and a copy in bins.

    Args:
        model: A HistGradientBoostingClassifier or HistGradientBoostingRegressor; its early stopping is set here.
        inputs: Arrays on which the model is fitted.
        manifest: Manifest of the prepared data.
        how: Iterations, learning rate and early stopping.

    Returns:
        The fitted model. `loss` in its history is the cross-entropy, or the mean squared error divided by the variance
        of the training targets. Its notes have the importance of each column.

    Raises:
        UserError: If the encoding is for other models, or no tree has a split.
    """
    columns, target = encoded_columns(inputs), targets.target(manifest)
    is_category = np.array([column.levels > 0 for column in columns])
    model.set_params(
        categorical_features=is_category if is_category.any() else None,
        early_stopping=True,
        n_iter_no_change=how.patience,
        scoring=SCORING[how.monitor],
        tol=0.0,
    )
    rows, actual = (
        {split: get(split) for split in ("train", "validation")} for get in (inputs.array, prepared.targets)
    )
    # scikit-learn's threads wait for each other at every node of a tree, on a busy processor for seconds; the trees are
    # the same with one.
    threads = how.threads or (1 if rows["train"].size < SMALL else None)
    with threadpool_limits(threads, user_api="openmp"):
        model.fit(rows["train"], actual["train"], X_val=rows["validation"], y_val=actual["validation"])
        history = measured(model, rows, actual)
    _require_codes(model, columns)
    best = monitor.best_epoch(history, how.monitor, target)
    output = target.OUTPUT
    trees = read(model, best + 1, len(manifest.get("classes", [output])), is_category)
    if not len(trees.feature):
        raise UserError(
            f"model: no tree has a split, because each leaf needs {model.min_samples_leaf} of "
            f"{len(actual['train'])} training rows (model.min_rows), or the columns say nothing about the target"
        )
    return Fitted(
        graph=lambda: to_onnx(trees, len(columns), rows["train"].dtype, output),
        predict=lambda encoded: _predict(model, encoded, best),
        weights={name: value for name, value in trees._asdict().items() if name not in ("sets", "gain")}
        | {"sets": np.array([(node, level) for node, levels in trees.sets.items() for level in levels], np.int64)},
        history=history,
        notes={
            "importances": importances(trees, columns),
            "importances_note": f"{len(trees.roots):,} trees with {len(trees.feature):,} splits. The share of a column "
            "is the decrease of the loss on the training rows by all splits on it. A share says how much the trees use "
            "a column, not in which direction; related columns divide it among themselves.",
        },
    )


def encoded_columns(inputs: contracts.Inputs) -> list[Column]:
    """The columns of the encoded rows.

    Args:
        inputs: Arrays on which the model is fitted.

    Raises:
        UserError: If the inputs are not a table, or the encoding is for Keras models only.
    """
    from . import encoding

    columns = encoding.encoded_columns(inputs, "trees")
    if any(column.levels and not column.missing for column in columns):
        raise UserError("model: trees have no embeddings: choose features: trees in conf/config.yaml")
    return columns


def _require_codes(model: Any, columns: Sequence[Column]) -> None:
    """Rejects an encoding with codes that no training row has: scikit-learn would number them anew."""
    categories = [column for column in columns if column.levels]
    known = model._preprocessor.named_transformers_["encoder"].categories_ if categories else []
    for column, values in zip(categories, known, strict=True):
        if not np.array_equal(values[~np.isnan(values)], np.arange(column.levels)):
            raise UserError(
                f"features: the codes of column {column.name!r} in the training rows are not 0 to {column.levels - 1}"
            )


def predictions(model: Any, rows: Rows) -> Iterator[NDArray[np.float64]]:
    """Yields the outputs after each iteration, float64 [N, K] or [N, 1].

    Args:
        model: The fitted model.
        rows: Encoded rows.
    """
    if hasattr(model, "staged_predict_proba"):
        yield from model.staged_predict_proba(rows)
    else:
        yield from (values[:, None] for values in model.staged_predict(rows))


@threadpool_limits.wrap(limits=1, user_api="openmp")
def _predict(model: Any, rows: Rows, iteration: int) -> NDArray[np.float64]:
    """The outputs after an iteration."""
    return next(itertools.islice(predictions(model, rows), iteration, None))


def measured(model: Any, rows: dict[str, Rows], actual: dict[str, NDArray[Any]]) -> "pd.DataFrame":
    """Loss and metric on both splits after each iteration.

    Args:
        model: The fitted model.
        rows: Split -> encoded rows.
        actual: Split -> targets.
    """
    import pandas as pd  # here, not above: the stage `config` imports the models

    history: dict[str, list[float]] = {}
    variance = actual["train"].var() or 1.0
    for prefix, split in (("", "train"), ("val_", "validation")):
        truth = np.asarray(actual[split])
        for outputs in predictions(model, rows[split]):
            if outputs.shape[1] > 1:
                likelihood = np.maximum(outputs[np.arange(len(truth)), truth], np.finfo(np.float64).tiny)
                row = {"loss": -np.log(likelihood).mean(), "accuracy": (outputs.argmax(axis=1) == truth).mean()}
            else:
                errors = outputs[:, 0] - truth
                row = {"loss": (errors**2).mean() / variance, "mae": np.abs(errors).mean()}
            for name, value in row.items():
                history.setdefault(prefix + name, []).append(float(value))
    return pd.DataFrame(history)


def read(model: Any, iterations: int, outputs: int, is_category: NDArray[np.bool_]) -> Trees:
    """The trees of a fitted model.

    Args:
        model: The fitted model.
        iterations: Number of iterations to read.
        outputs: Number of outputs. Two classes have one tree an iteration, for the second.
        is_category: Whether an encoded column holds codes, bool [F].
    """
    baseline = np.zeros(outputs)
    first = outputs - model._baseline_prediction.size
    baseline[first:] = model._baseline_prediction.ravel()
    order = np.concatenate([np.flatnonzero(is_category), np.flatnonzero(~is_category)])  # of scikit-learn's own columns
    roots, parts, sets = [], [], {}
    nodes_before = leaves_before = 0
    for iteration in model._predictors[:iterations]:
        for output, tree in enumerate(iteration, first):
            leaf = tree.nodes["is_leaf"].astype(bool)
            inner, leaves = tree.nodes[~leaf], tree.nodes[leaf]
            if not len(inner):
                baseline[output] += leaves["value"][0]
                continue
            place = np.where(leaf, leaves_before + np.cumsum(leaf), nodes_before + np.cumsum(~leaf)) - 1
            children = np.stack([inner["left"], inner["right"]], axis=1)
            is_set = inner["is_categorical"].astype(bool)
            for node in np.flatnonzero(is_set):
                bits = tree.raw_left_cat_bitsets[inner["bitset_idx"][node]].astype("<u4").view(np.uint8)
                sets[nodes_before + int(node)] = np.flatnonzero(np.unpackbits(bits, bitorder="little")).tolist()
            parts.append(
                (
                    order[inner["feature_idx"]],
                    np.where(is_set, 0.0, inner["num_threshold"]),
                    inner["missing_go_to_left"].astype(bool),
                    place[children],
                    leaf[children],
                    leaves["value"],
                    np.full(len(leaves), output),
                    inner["gain"],
                )
            )
            roots.append(nodes_before)
            nodes_before, leaves_before = nodes_before + len(inner), leaves_before + len(leaves)
    empty = (np.zeros(0, np.int64),) * 8
    feature, threshold, missing, children, is_leaf, values, output_of, gain = map(
        np.concatenate, zip(*(parts or [empty]), strict=True)
    )
    return Trees(
        baseline,
        np.array(roots, np.int64),
        feature,
        threshold,
        sets,
        missing,
        children,
        is_leaf,
        values,
        output_of,
        gain,
    )


def importances(trees: Trees, columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Share of each column in the decrease of the loss, largest first.

    Args:
        trees: The trees.
        columns: The encoded columns.

    Returns:
        A row for each column: name, share, splits.
    """
    gain = np.bincount(trees.feature, trees.gain, len(columns))
    splits = np.bincount(trees.feature, minlength=len(columns))
    shares = gain / (gain.sum() or 1.0)
    return [
        {"name": columns[index].name, "share": float(shares[index]), "splits": int(splits[index])}
        for index in np.argsort(-shares, kind="stable")
    ]


def to_onnx(trees: Trees, width: int, dtype: np.dtype[Any], output: str) -> "onnx.ModelProto":
    """Trees in ONNX, with double-precision arithmetic and float32 output.

    Args:
        trees: The trees.
        width: Number of encoded columns.
        dtype: Type of the encoded rows.
        output: `prediction`, or `probabilities`, the softmax of the sums.
    """
    from onnx import helper, numpy_helper

    from ..exported.graphs import IR_VERSION, OPSET

    double, single = (helper.np_dtype_to_tensor_dtype(np.dtype(t)) for t in (np.float64, np.float32))
    softmax = output == "probabilities"
    nodes = [
        helper.make_node("Cast", [OUTPUT], ["double"], to=double),
        helper.make_node("TreeEnsemble", ["double"], ["sums"], domain="ai.onnx.ml", **_attributes(trees)),
        helper.make_node("Add", ["sums", "baseline"], ["raw"]),
        *([helper.make_node("Softmax", ["raw"], ["answer"])] if softmax else []),
        helper.make_node("Cast", ["answer" if softmax else "raw"], [output], to=single),
    ]
    graph = helper.make_graph(
        nodes,
        "trees",
        [helper.make_tensor_value_info(OUTPUT, helper.np_dtype_to_tensor_dtype(dtype), ["N", width])],
        [helper.make_tensor_value_info(output, single, ["N", len(trees.baseline)])],
        [numpy_helper.from_array(trees.baseline, "baseline")],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def _attributes(trees: Trees) -> dict[str, Any]:
    """Attributes of the operator TreeEnsemble."""
    from onnx import numpy_helper

    modes = np.full(len(trees.feature), BELOW, np.uint8)
    modes[list(trees.sets)] = MEMBER
    # A split of missing from known values has an empty set, which ONNX Runtime rejects: -1 is no level.
    members = [member for node in sorted(trees.sets) for member in [*(trees.sets[node] or [-1]), np.nan]]
    optional = {"membership_values": numpy_helper.from_array(np.array(members))} if members else {}
    return {
        "aggregate_function": 1,  # sum
        "n_targets": len(trees.baseline),
        "tree_roots": trees.roots.tolist(),
        "nodes_featureids": trees.feature.tolist(),
        "nodes_modes": numpy_helper.from_array(modes),
        "nodes_splits": numpy_helper.from_array(trees.threshold),
        "nodes_missing_value_tracks_true": trees.missing_left.astype(int).tolist(),
        "nodes_truenodeids": trees.children[:, 0].tolist(),
        "nodes_falsenodeids": trees.children[:, 1].tolist(),
        "nodes_trueleafs": trees.is_leaf[:, 0].astype(int).tolist(),
        "nodes_falseleafs": trees.is_leaf[:, 1].astype(int).tolist(),
        "leaf_targetids": trees.outputs.tolist(),
        "leaf_weights": numpy_helper.from_array(trees.values),
        **optional,
    }
