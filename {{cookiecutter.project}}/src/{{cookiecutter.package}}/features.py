"""Feature encodings: each is one function, chosen by `_target_` in conf/features/.

An encoding becomes the first part of the exported model: the service takes raw columns. It is built from operators of
ONNX (https://onnx.ai/onnx/operators/), which `graph.add` names. For instance, to tell positive numbers from others, add
to `one_hot`, before its last line:

    for name in encoding.named(columns, "number"):
        positive = graph.add("Greater", name, graph.constant(0.0))
        graph.output(graph.expand(positive), [Column(f"{name} > 0")])

A new function with a file in conf/features/ is a new option. Only TensorFlow Serving needs more: an operator that is
new to it is added to `operators` in harness/packaging/tensorflow_model.py.
"""

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
    TableColumns,
)

if TYPE_CHECKING:
    import pyarrow as pa

Positive = Annotated[int, Field(ge=1)]
LevelCount = Annotated[int, Field(ge=1, le=1_000_000)]  # float32 counts to 16 million without a gap


def one_hot(  # noqa: PLR0913  The keyword-only parameters are section `features` of the configuration.
    table: "pa.Table",
    columns: TableColumns,
    *,
    numbers: Numbers,
    missing: Missing,
    min_count: Positive,
    max_categories: LevelCount,
    reference: bool,
    precision: Precision,
) -> Encoding:
    """Numbers, and an indicator (0 or 1) for each level of each category.

    Args:
        table: The training rows.
        columns: Their names and types, `number` or `category`.
        numbers: `standardise` to mean 0 and standard deviation 1, or `none`.
        missing: Statistic that replaces a missing number.
        min_count: Levels of fewer training rows become "(other)".
        max_categories: Maximum number of levels of a category, the most frequent ones; others become "(other)".
        reference: Leaves out the most frequent level of each category, with which a linear model then compares the
            others: all of them would add up to its intercept. An unknown level then counts as the reference.
        precision: Type of the result: float32 for Keras, float64 for linear models.

    Raises:
        UserError: Naming a column that cannot be encoded.
    """
    graph = Graph(columns, precision)
    encoding.encode_numbers(graph, table, columns, numbers, missing)
    for name, levels in encoding.categories(table, columns, min_count, max_categories):
        shown = [level for level in levels.names if not (reference and level == levels.most_frequent)]
        place = {level: index for index, level in enumerate(shown)}
        nowhere = len(shown)  # no column has this index: all indicators are 0
        index = {value: place.get(level, nowhere) for value, level in levels.of.items()}
        indicators = encoding.dummies(graph, graph.look_up(name, index, place.get(OTHER, nowhere)), len(shown))
        graph.output(indicators, [Column(f"{name}={level}") for level in shown])
    return graph.encoding()


def hashing(
    table: "pa.Table",
    columns: TableColumns,
    *,
    numbers: Numbers,
    missing: Missing,
    buckets: Annotated[int, Field(ge=2, le=65_536)],
    precision: Precision,
) -> Encoding:
    """Numbers, and for each category `buckets` indicators, of which the one at MurmurHash3(level) mod `buckets` is 1.

    No list of levels is kept, so that unknown levels are encoded like known ones; several share a bucket (K. Weinberger
    et al., Feature Hashing for Large Scale Multitask Learning, ICML 2009, here without signs). The standard operators
    of ONNX cannot hash a string: this is ONNX Runtime's own `com.microsoft.MurmurHash3`, which equals scikit-learn's
    `murmurhash3_32(level, seed=0, positive=True)`. TensorFlow Serving does not have it.

    Args:
        table: The training rows.
        columns: Their names and types, `number` or `category`.
        numbers: `standardise` to mean 0 and standard deviation 1, or `none`.
        missing: Statistic that replaces a missing number.
        buckets: Encoded columns for each category.
        precision: Type of the result: float32 for Keras, float64 for linear models.

    Raises:
        UserError: Naming a column that cannot be encoded.
    """
    graph = Graph(columns, precision)
    encoding.encode_numbers(graph, table, columns, numbers, missing)
    for name, levels in encoding.categories(table, columns, 1, len(table)):
        code = graph.add("MurmurHash3", name, domain="com.microsoft", seed=0, positive=1)
        bucket = graph.cast(graph.add("Mod", code, graph.constant(np.uint32(buckets))), "int64")
        # A missing value has a bucket of its own, the last one.
        absent = graph.cast(graph.look_up(name, {"": 1}, 0), "bool")
        bucket = graph.add("Where", absent, graph.constant(np.int64(buckets)), bucket)
        encoded = [Column(f"{name}#{number}") for number in range(buckets)]
        if MISSING in levels.names:
            encoded.append(Column(f"{name}={MISSING}"))
        graph.output(encoding.dummies(graph, bucket, len(encoded)), encoded)
    return graph.encoding()


def embedding(  # noqa: PLR0913  The keyword-only parameters are section `features` of the configuration.
    table: "pa.Table",
    columns: TableColumns,
    *,
    numbers: Numbers,
    missing: Missing,
    min_count: Positive,
    max_categories: LevelCount,
    width: Positive,
) -> Encoding:
    """Numbers, and a trainable vector for each level of each category (for Keras models).

    Source: C. Guo, F. Berkhahn, Entity Embeddings of Categorical Variables, arXiv:1604.06737, 2016. The encoded row
    holds the index of the level, and the first layers of the Keras model look its vector up. Vectors start at zero: the
    one for unknown levels stays there if training has no rare levels to learn it from.

    Args:
        table: The training rows.
        columns: Their names and types, `number` or `category`.
        numbers: `standardise` to mean 0 and standard deviation 1, or `none`.
        missing: Statistic that replaces a missing number.
        min_count: Levels of fewer training rows share one vector.
        max_categories: Maximum number of levels of a category, the most frequent ones; others share that vector.
        width: Length of a vector; at most the number of levels.

    Raises:
        UserError: Naming a column that cannot be encoded.
    """
    graph = Graph(columns, "float32")
    encoding.encode_numbers(graph, table, columns, numbers, missing)
    sizes: list[int] = []
    for name, levels in encoding.categories(table, columns, min_count, max_categories):
        number = {level: index for index, level in enumerate((k for k in levels.names if k != OTHER), 1)}
        index = {value: number.get(level, 0) for value, level in levels.of.items()}
        sizes.append(len(number) + 1)
        graph.output(graph.expand(graph.look_up(name, index, 0)), [Column(f"{name} (level)", levels=sizes[-1])])

    def layers(features: int) -> tuple[Tensor, Tensor]:
        import keras  # here, not above: only the training of a network waits for TensorFlow

        entry = keras.Input((features,), name=OUTPUT)
        numeric = features - len(sizes)
        parts = [entry[:, :numeric]] if numeric else []
        for place, size in enumerate(sizes, numeric):
            vectors = keras.layers.Embedding(size, min(width, size), embeddings_initializer="zeros")
            parts.append(vectors(entry[:, place]))
        return entry, keras.layers.Concatenate()(parts) if len(parts) > 1 else parts[0]

    return graph.encoding(layers)
