"""The cells of a table in TensorFlow, read as the service reads them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..contracts import Description
from ..inputs.table_notation import REWRITES, notation, null_numbers

if TYPE_CHECKING:
    import tensorflow as tf


def reader(description: Description) -> "Callable[[str, tf.Tensor], tf.Tensor]":
    """A function from the name and the cells of a column, [N], to those that the graph takes.

    Args:
        description: Content of models/model.json.
    """
    import tensorflow as tf

    rule = notation(description)
    dates = {column["name"] for column in description["columns"] if column["type"] == "date"}
    words, missing = tf.constant(["", *rule.nulls]), sorted(null_numbers(rule))

    def numbers(cells: tf.Tensor) -> tf.Tensor:
        if not missing:
            return cells
        is_missing = _is_in(cells, tf.constant(missing, cells.dtype))
        return tf.where(is_missing, tf.constant(float("nan"), cells.dtype), cells)

    def levels(cells: tf.Tensor, column: str) -> tf.Tensor:
        texts = cells
        for pattern, replacement in REWRITES:
            texts = tf.strings.regex_replace(texts, pattern, replacement, replace_global=False)
        is_missing = _is_in(cells, words) | _is_in(texts, words)
        if spelled := rule.spellings.get(column):
            known = tf.constant(list(spelled))
            place = tf.argmax(tf.cast(tf.equal(texts[:, None], known), tf.int32), 1)
            texts = tf.where(_is_in(texts, known), tf.gather(tf.constant(list(spelled.values())), place), texts)
        return tf.where(is_missing, "", texts)

    def read(column: str, cells: tf.Tensor) -> tf.Tensor:
        if column in dates:
            return cells
        return levels(cells, column) if cells.dtype == tf.string else numbers(cells)

    return read


def _is_in(values: "tf.Tensor", known: "tf.Tensor") -> "tf.Tensor":
    import tensorflow as tf

    return tf.reduce_any(tf.equal(values[:, None], known), 1)
