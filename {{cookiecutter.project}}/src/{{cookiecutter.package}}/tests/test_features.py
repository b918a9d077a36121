"""Feature encodings: finite numbers, equal to those of the ONNX graph."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
import yaml

from ..harness import prepared
from ..harness.prepared import tables
from ..harness.training import encoding
from . import ROOT

OPTIONS = sorted(file.stem for file in ROOT.glob("conf/features/*.yaml"))
pytestmark = pytest.mark.skipif(
    not (ROOT / prepared.PREPARED / "manifest.json").exists(), reason="needs data/prepared: `dvc repro prepare`"
)


@pytest.mark.parametrize("option", OPTIONS)
def test_rows_are_encoded_as_the_exported_graph_encodes_them(option: str) -> None:
    section: dict[str, Any] = yaml.safe_load((ROOT / f"conf/features/{option}.yaml").read_text("utf-8"))
    inputs = tables.inputs(prepared.manifest(), section)
    encoded = inputs.array("test")
    assert inputs.preprocessing is not None
    complete = [not column.missing for column in encoding.columns(inputs.preprocessing)]
    assert np.isfinite(encoded[:, complete]).all() and not np.isinf(encoded).any()
    graph = onnxruntime.InferenceSession(inputs.preprocessing.SerializeToString(), providers=["CPUExecutionProvider"])
    raw = next(tables.feeds("test", len(encoded)))
    np.testing.assert_array_equal(graph.run(None, raw)[0], encoded)
    row = {name: values[:1] for name, values in raw.items()}
    np.testing.assert_array_equal(graph.run(None, row)[0], encoded[:1])


@pytest.mark.parametrize("option", OPTIONS)
def test_a_value_never_seen_is_encoded(option: str) -> None:
    section: dict[str, Any] = yaml.safe_load((ROOT / f"conf/features/{option}.yaml").read_text("utf-8"))
    graph = tables.inputs(prepared.manifest(), section).preprocessing
    assert graph is not None
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    row = next(tables.feeds("test", 1))
    unseen = {n: np.array([np.nan if v.dtype == np.float64 else "never seen"], v.dtype) for n, v in row.items()}
    complete = [not column.missing for column in encoding.columns(graph)]
    assert np.isfinite(session.run(None, unseen)[0][:, complete]).all()
