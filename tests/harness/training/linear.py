"""What the tests of linear models share."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
from my_experiment import features
from my_experiment.harness import contracts
from my_experiment.harness.exported import graphs

ENCODING: dict[str, Any] = {
    "missing": "mean",
    "min_count": 1,
    "max_categories": 9,
    "reference": True,
    "precision": "float64",
}


def fit(
    model: Any, table: dict[str, Any], targets: Any, classes: list[str] | None = None, numbers: str = "standardise",
    precision: str = "float64", **settings: Any
) -> Any:  # fmt: skip
    """Fits on all rows, which are the validation split as well, and returns what was fitted and the encoded rows."""
    columns = [{"name": k, "type": "category" if isinstance(v[0], str) else "number"} for k, v in table.items()]
    encoding = features.one_hot(pa.table(table), columns, **ENCODING | {"numbers": numbers, "precision": precision})
    feed = {k: np.array(v, object if isinstance(v[0], str) else np.float64) for k, v in table.items()}
    rows = ask(encoding.graph, feed)
    for split in ("train", "validation"):
        Path(f"data/prepared/{split}").mkdir(parents=True, exist_ok=True)
        np.save(f"data/prepared/{split}/targets.npy", np.asarray(targets))
    inputs = contracts.Inputs("encoded", lambda split: rows, encoding.layers, encoding.graph)
    kind = "classification" if classes else "regression"
    manifest = {"target": kind, "target_name": "y", **({"classes": classes} if classes else {})}
    return model(inputs, manifest, confidence=0.95, **settings), rows, encoding


def table_of(matrix: Any) -> dict[str, Any]:
    """Columns x0, x1, ..."""
    return {f"x{i}": column for i, column in enumerate(np.asarray(matrix, np.float64).T)}


def values(fitted: Any, key: str, only: str | None = None) -> Any:
    """A column of the table of coefficients, of one class where asked."""
    return np.array([row[key] for row in fitted.notes["coefficients"] if only in (None, row.get("class"))])


def ask(graph: Any, feed: dict[str, Any]) -> Any:
    """What an ONNX graph answers."""
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feed)[0]


def answer(fitted: Any, encoding: Any, feed: dict[str, Any]) -> Any:
    """What the whole exported graph answers."""
    graph = fitted.graph()
    whole = graphs.prepend(encoding.graph, graph)
    return ask(graphs.canonical(whole, list(feed), [graph.graph.output[0].name]), feed)
