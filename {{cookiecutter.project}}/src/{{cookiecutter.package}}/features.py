"""Feature encodings: one function each, chosen by `_target_` in conf/features/.

An encoding becomes the first part of the exported model, so that the service takes raw columns. It is a graph of ONNX
operators (https://onnx.ai/onnx/operators/), added one by one with `graph.add`. For instance, to add an indicator of
positive numbers, insert into `one_hot`, before its last line:

    for name in encoding.named(columns, "number"):
        positive = graph.add("Greater", name, graph.constant(0.0))
        graph.output(graph.expand(positive), [Column(f"{name} > 0")])

To add an encoding, write a function and a file in conf/features/ that names it. To export it for TensorFlow Serving
as well, add each operator that the export does not know to `operators` in harness/packaging/tensorflow_model.py.
"""

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from .harness.contracts import Tensor
from .harness.training import encoding, table_dates
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
LevelCount = Annotated[int, Field(ge=1, le=1_000_000)]  # float32 holds every integer up to 16 million


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
    """One-hot encoding: numbers, and an indicator for each level of a category.

    Args:
        table: The training rows.
        columns: Name and type of each column, `number`, `date` or `category`.
        numbers: `standardise` to mean 0 and standard deviation 1, or `none`.
        missing: Statistic of the training rows that replaces a missing number.
        min_count: Minimum number of training rows of a level; rarer levels become "(other)".
        max_categories: Maximum number of levels of a category; beyond it, the rarest become "(other)".
        reference: Leave out the most frequent level of each category, as linear models need: the indicators of all
            levels add up to the intercept. Unknown levels are then encoded as this reference level.
        precision: Type of the encoded rows: float32 for Keras, float64 for linear models.

    Raises:
        UserError: Naming a column that cannot be encoded.
    """
    graph = Graph(columns, precision)
    encoding.encode_numbers(graph, table, columns, numbers, missing)
    table_dates.encode(graph, table, columns, missing)
    for name, levels in encoding.categories(table, columns, min_count, max_categories):
        encoded = [level for level in levels.names if not (reference and level == levels.most_frequent)]
        place = {level: index for index, level in enumerate(encoded)}
        zeros = len(encoded)  # no column has this index: all indicators are 0
        index = {value: place.get(level, zeros) for value, level in levels.of.items()}
        indicators = encoding.dummies(graph, graph.look_up(name, index, place.get(OTHER, zeros)), len(encoded))
        graph.output(indicators, [Column(f"{name}={level}") for level in encoded])
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
    """Feature hashing: numbers, and an indicator for each hash bucket.

    The bucket of a level is MurmurHash3(level) mod `buckets`. The model stores no list of levels: unknown levels are
    encoded like known ones, and several levels may share a bucket (K. Weinberger et al., Feature Hashing for Large
    Scale Multitask Learning, ICML 2009, here without signs). Standard ONNX operators cannot hash a string. ONNX
    Runtime's `com.microsoft.MurmurHash3` can, and equals scikit-learn's `murmurhash3_32(level, seed=0, positive=True)`;
    TensorFlow Serving does not have it.

    Args:
        table: The training rows.
        columns: Name and type of each column, `number`, `date` or `category`.
        numbers: `standardise` to mean 0 and standard deviation 1, or `none`.
        missing: Statistic of the training rows that replaces a missing number.
        buckets: Number of encoded columns for each category.
        precision: Type of the encoded rows: float32 for Keras, float64 for linear models.

    Raises:
        UserError: Naming a column that cannot be encoded.
    """
    graph = Graph(columns, precision)
    encoding.encode_numbers(graph, table, columns, numbers, missing)
    table_dates.encode(graph, table, columns, missing)
    for name, levels in encoding.categories(table, columns, 1, len(table)):
        code = graph.add("MurmurHash3", name, domain="com.microsoft", seed=0, positive=1)
        bucket = graph.cast(graph.add("Mod", code, graph.constant(np.uint32(buckets))), "int64")
        # Missing values have a separate bucket, the last.
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
    """Entity embeddings: numbers, and a trainable vector for each level.

    For Keras models. The encoded row holds the index of the level; an embedding layer of the model looks up its vector.
    Vectors start at zero, so that the vector of unknown levels stays zero if no training row has a rare level.
    Source: C. Guo, F. Berkhahn, Entity Embeddings of Categorical Variables, arXiv:1604.06737, 2016.

    Args:
        table: The training rows.
        columns: Name and type of each column, `number`, `date` or `category`.
        numbers: `standardise` to mean 0 and standard deviation 1, or `none`.
        missing: Statistic of the training rows that replaces a missing number.
        min_count: Minimum number of training rows of a level; rarer levels share one vector.
        max_categories: Maximum number of levels of a category; beyond it, the rarest share that vector.
        width: Length of a vector; a category with fewer levels has a shorter one.

    Raises:
        UserError: Naming a column that cannot be encoded.
    """
    graph = Graph(columns, "float32")
    encoding.encode_numbers(graph, table, columns, numbers, missing)
    table_dates.encode(graph, table, columns, missing)
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
