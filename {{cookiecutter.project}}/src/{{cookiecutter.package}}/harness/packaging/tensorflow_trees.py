"""The ONNX operator TreeEnsemble in TensorFlow."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Tensor = Any
LEVELS = 256  # more than the codes of a category
MEMBER = 6  # mode of a node that compares with a set of levels; the others compare with a threshold


class _Nodes(NamedTuple):
    """Nodes, then leaves, numbered through; a leaf is its own child.

    Attributes:
        feature: Column that a node compares, int32.
        threshold: Threshold of a node.
        missing_first: Whether a missing value goes to the first child, bool.
        children: First and second child, int32 [M + L, 2].
        sets: Row of `members` of each node, int32; -1 for a node with a threshold.
        members: Whether a level goes to the first child, bool [S, LEVELS].
        values: Output -> value of each leaf, 0 for a node.
    """

    feature: NDArray[np.int32]
    threshold: NDArray[Any]
    missing_first: NDArray[np.bool_]
    children: NDArray[np.int32]
    sets: NDArray[np.int32]
    members: NDArray[np.bool_]
    values: list[NDArray[Any]]


def tree_ensemble(rows: Tensor, **attributes: Any) -> Tensor:
    """Sum of the trees' leaves, [N, K]; a node has a threshold (<=) or a set of levels.

    All rows go down all trees at once, step by step.

    Args:
        rows: Rows, [N, F].
        **attributes: Attributes of the operator, as `training.table_trees` writes them.
    """
    import tensorflow as tf

    nodes, roots = _nodes(attributes), np.array(attributes["tree_roots"], np.int32)
    place = tf.tile(roots[None], [tf.shape(rows)[0], 1])
    for _ in range(_depth(nodes.children, roots)):
        values = tf.gather(rows, tf.gather(nodes.feature, place), batch_dims=1)
        missing = tf.math.is_nan(values)
        first = values <= tf.gather(nodes.threshold, place)
        if len(nodes.members):
            level = tf.cast(tf.where(missing, tf.zeros_like(values), tf.clip_by_value(values, 0, LEVELS - 1)), tf.int32)
            chosen = tf.gather(nodes.sets, place)
            member = tf.gather_nd(nodes.members, tf.stack([tf.maximum(chosen, 0), level], axis=-1))
            first = tf.where(chosen >= 0, member, first)
        first = tf.where(missing, tf.gather(nodes.missing_first, place), first)
        place = tf.where(first, tf.gather(nodes.children[:, 0], place), tf.gather(nodes.children[:, 1], place))
    return tf.stack([tf.reduce_sum(tf.gather(values, place), axis=1) for values in nodes.values], axis=1)


def _nodes(attributes: Mapping[str, Any]) -> _Nodes:
    from onnx import numpy_helper

    threshold, modes, weights = (
        numpy_helper.to_array(attributes[name]) for name in ("nodes_splits", "nodes_modes", "leaf_weights")
    )
    inner, leaves = len(modes), len(weights)
    children = np.stack(
        [
            np.array(attributes[f"nodes_{side}nodeids"]) + inner * np.array(attributes[f"nodes_{side}leafs"])
            for side in ("true", "false")
        ],
        axis=1,
    )
    itself = np.arange(inner, inner + leaves)[:, None].repeat(2, axis=1)
    is_set = modes == MEMBER
    members = np.zeros((int(is_set.sum()), LEVELS), bool)
    row = 0
    for level in numpy_helper.to_array(attributes["membership_values"]) if len(members) else ():
        if np.isnan(level):  # ends a set
            row += 1
        elif level >= 0:
            members[row, int(level)] = True

    def extended(of_nodes: Any, of_leaves: Any, dtype: Any) -> NDArray[Any]:
        return np.append(np.asarray(of_nodes, dtype), np.full(leaves, of_leaves, dtype))

    return _Nodes(
        extended(attributes["nodes_featureids"], 0, np.int32),
        extended(threshold, 0, threshold.dtype),
        extended(attributes["nodes_missing_value_tracks_true"], 0, np.bool_),
        np.concatenate([children, itself]).astype(np.int32),
        extended(np.where(is_set, np.cumsum(is_set) - 1, -1), -1, np.int32),
        members,
        [
            np.append(np.zeros(inner), np.where(np.array(attributes["leaf_targetids"]) == output, weights, 0)).astype(
                weights.dtype
            )
            for output in range(attributes["n_targets"])
        ],
    )


def _depth(children: NDArray[np.int32], roots: NDArray[np.int32]) -> int:
    """Number of steps from a root to the farthest leaf."""
    depth, places = 0, roots
    while (following := np.unique(children[places])).tolist() != np.unique(places).tolist():
        depth, places = depth + 1, following
    return depth
