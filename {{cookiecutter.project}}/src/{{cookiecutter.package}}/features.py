from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from .harness.contracts import Tensor
from .harness.training import encoding
from .harness.training.encoding import (
    MISSING,
    OTHER,
    OUTPUT,
    Column,
    Encoding,
    Graph,
    Missing,
    Numbers,
    Precision,
)

if TYPE_CHECKING:
    import pyarrow as pa

Positive = Annotated[int, Field(ge=1)]
Levels = Annotated[int, Field(ge=1, le=1_000_000)]  # float32 counts to 16 million without a gap


def one_hot(
    table: "pa.Table",
    columns: Sequence[Mapping[str, str]],
    *,
    numbers: Numbers,
    missing: Missing,
    min_count: Positive,
    max_categories: Levels,
    reference: bool,
    precision: Precision,
) -> Encoding:
    """A column of zeros and ones for each level of a category.

    Args:
        table: The training rows.
        columns: Their features: name and type, `number` or `category`.
        numbers: `standardise` to mean 0 and standard deviation 1, or `none`.
        missing: What stands in for a missing number.
        min_count: Levels that fewer training rows have become "(other)".
        max_categories: The most levels of a column, the most frequent ones; the rest becomes "(other)".
        reference: Leaves out the most frequent level of each category, to which the others are then compared: all of
            them would add up to the intercept of a linear model. A level never seen then counts as the reference.
        precision: Of the result: float32 for Keras, float64 for the linear models.

    Raises:
        UserError: Naming a column that cannot be encoded.
    """
    graph = Graph(columns, precision)
    encoding.encode_numbers(graph, table, columns, numbers, missing)
    for name in encoding.named(columns, "category"):
        levels = encoding.levels(table, name, min_count, max_categories)
        if levels is None:
            continue
        kept = [level for level in levels.names if not (reference and level == levels.most_frequent)]
        index = {key: kept.index(level) if level in kept else len(kept) for key, level in levels.of.items()}
        other = kept.index(OTHER) if OTHER in kept else len(kept)  # len(kept) is no column: all of them stay 0
        graph.output(
            encoding.dummies(graph, graph.look_up(name, index, other), len(kept)), [Column(f"{name}={k}") for k in kept]
        )
    return graph.encoding()


def hashing(
    table: "pa.Table",
    columns: Sequence[Mapping[str, str]],
    *,
    numbers: Numbers,
    missing: Missing,
    buckets: Annotated[int, Field(ge=2, le=65_536)],
    precision: Precision,
) -> Encoding:
    """A fixed number of columns for each category, of which number MurmurHash3(level) modulo `buckets` is 1.

    No list of levels is kept, so that new ones are as good as old ones; several share a bucket (K. Weinberger et al.,
    Feature Hashing for Large Scale Multitask Learning, ICML 2009, here without signs). The standard operators of ONNX
    cannot hash a string: this is ONNX Runtime's own `com.microsoft.MurmurHash3`, of which scikit-learn's
    `murmurhash3_32(level, seed=0, positive=True)` is the same function.

    Args:
        table: The training rows.
        columns: Their features: name and type, `number` or `category`.
        numbers: `standardise` to mean 0 and standard deviation 1, or `none`.
        missing: What stands in for a missing number.
        buckets: Columns for each category.
        precision: Of the result: float32 for Keras, float64 for the linear models.

    Raises:
        UserError: Naming a column that cannot be encoded.
    """
    graph = Graph(columns, precision)
    encoding.encode_numbers(graph, table, columns, numbers, missing)
    for name in encoding.named(columns, "category"):
        levels = encoding.levels(table, name, 1, len(table))
        if levels is None:
            continue
        has_missing = MISSING in levels.names
        code = graph.add("MurmurHash3", name, domain="com.microsoft", seed=0, positive=1)
        bucket = graph.add(
            "Cast", graph.add("Mod", code, graph.constant(np.uint32(buckets))), to=encoding.onnx_type("int64")
        )
        absent = graph.add("Cast", graph.look_up(name, {"": 1}, 0), to=encoding.onnx_type("bool"))
        bucket = graph.add("Where", absent, graph.constant(np.int64(buckets)), bucket)
        found = [Column(f"{name}#{i}") for i in range(buckets)] + [Column(f"{name}={MISSING}")] * has_missing
        graph.output(encoding.dummies(graph, bucket, len(found)), found)
    return graph.encoding()


def embedding(
    table: "pa.Table",
    columns: Sequence[Mapping[str, str]],
    *,
    numbers: Numbers,
    missing: Missing,
    min_count: Positive,
    max_categories: Levels,
    width: Positive,
) -> Encoding:
    """A trainable vector for each level of a category, learnt by the network (for Keras models).

    Source: C. Guo, F. Berkhahn, Entity Embeddings of Categorical Variables, arXiv:1604.06737, 2016. `encoded` holds the
    number of the level, which is looked up by the first layers of the Keras model. Vectors start at zero, so that the
    one for levels never seen stays there where training had no rare levels to learn it from.

    Args:
        table: The training rows.
        columns: Their features: name and type, `number` or `category`.
        numbers: `standardise` to mean 0 and standard deviation 1, or `none`.
        missing: What stands in for a missing number.
        min_count: Levels that fewer training rows have share one vector.
        max_categories: The most levels of a column, the most frequent ones; the rest shares that vector.
        width: Numbers in a vector; at most as many as the column has levels.

    Raises:
        UserError: Naming a column that cannot be encoded.
    """
    graph = Graph(columns, "float32")
    encoding.encode_numbers(graph, table, columns, numbers, missing)
    sizes: list[int] = []
    for name in encoding.named(columns, "category"):
        levels = encoding.levels(table, name, min_count, max_categories)
        if levels is None:
            continue
        number = {level: i for i, level in enumerate([k for k in levels.names if k != OTHER], 1)}
        index = {key: number.get(level, 0) for key, level in levels.of.items()}
        looked_up = graph.add("Unsqueeze", graph.look_up(name, index, 0), graph.constant(np.array([1])))
        sizes.append(len(number) + 1)
        graph.output(looked_up, [Column(f"{name} (level)", levels=sizes[-1])])

    def layers(features: int) -> tuple[Tensor, Tensor]:
        import keras  # here, not above: only who trains a network waits for TensorFlow

        entry = keras.Input((features,), name=OUTPUT)
        dense = features - len(sizes)
        parts = [entry[:, :dense]] if dense else []
        for i, size in enumerate(sizes):
            vectors = keras.layers.Embedding(size, min(width, size), embeddings_initializer="zeros")
            parts.append(vectors(entry[:, dense + i]))
        return entry, keras.layers.Concatenate()(parts) if len(parts) > 1 else parts[0]

    return graph.encoding(layers)
