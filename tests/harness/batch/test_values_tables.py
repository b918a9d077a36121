"""One value, one answer: every way in which a cell reaches a model, and every type that it can have there."""

import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from my_experiment.harness import preparation
from my_experiment.harness.batch import tables as batch_tables
from my_experiment.harness.inputs import tables as inputs_tables
from my_experiment.harness.inputs.table_notation import NULLS, Notation, spellings
from my_experiment.harness.packaging import tables as packaging_tables
from my_experiment.harness.packaging import tensorflow_model
from my_experiment.harness.preparation import schema, schema_inference, table_files
from my_experiment.harness.preparation.table_violations import check
from onnx import helper
from tables_made import RAW, SPLITS, content, source, unchecked

MISSING, REFUSED = "missing", "refused"


class Case(NamedTuple):
    """Notations of one value, in each way that can hold it.

    Attributes:
        expected: Level, number, `MISSING` or `REFUSED`.
        levels: Levels in the schema; None for a column of numbers, () for a category without a list.
        csv: Cells of a CSV file.
        parquet: Cells of a Parquet file, as arrays of one cell.
        json: Values in a JSON body.
        tensors: Values sent to TensorFlow Serving.
        nulls: Words for a missing value.
    """

    expected: str | float
    levels: Sequence[str] | None
    csv: Sequence[str] = ()
    parquet: Sequence[Any] = ()
    json: Sequence[Any] = ()
    tensors: Sequence[Any] = ()
    nulls: Sequence[str] = NULLS

    @property
    def type(self) -> str:
        """Type in the schema."""
        return "number" if self.levels is None else "category"

    @property
    def notation(self) -> Notation:
        """The notation that `prepare` derives from configuration and schema."""
        spelled = spellings(self.levels or ())
        return Notation(self.nulls, {"x": spelled} if spelled else {})

    @property
    def description(self) -> dict[str, Any]:
        """The keys of models/model.json that decide how a cell is read."""
        columns = [{"name": "x", "type": self.type}]
        text = json.dumps({"columns": columns, "notation": self.notation.describe(), "input": "tables"})
        return dict(json.loads(text))


def texts(*cells: str) -> dict[str, Any]:
    """Texts, the same by every way."""
    return {"csv": cells, "parquet": [pa.array([cell]) for cell in cells], "json": cells, "tensors": cells}


def typed(*values: Any) -> list[pa.Array]:
    """Arrays of one cell: each value in each type that pandas would choose."""
    return [pa.array([value]) for value in values]


DAY, NOON = datetime.datetime(2026, 1, 31), datetime.datetime(2026, 1, 31, 12)
TWO = {
    "csv": ["2", "2.0"],
    "parquet": [*typed(2, 2.0, "2", "2.0", Decimal("2.0")), pa.array([2], pa.float32()), pa.array([2], pa.int8())],
    "json": [2, 2.0, "2", "2.0"],
    "tensors": ["2", "2.0"],
}
TRUE = {
    "csv": ["True", "TRUE", "true", "1", "1.0"],
    "parquet": typed(True, 1, 1.0, "True", "TRUE", "true", "1"),
    "json": [True, 1, 1.0, "True", "TRUE", "true", "1"],
    "tensors": ["True", "TRUE", "true", "1", "1.0"],
}
GAP = {
    "csv": [""],
    "parquet": [*typed(None, float("nan"), ""), pa.array([None], pa.string()), pa.array([None], pa.bool_())],
    "json": [None, float("nan"), ""],
}
CODE = {
    "csv": ["-999", "-999.0"],
    "parquet": typed(-999, -999.0, "-999"),
    "json": [-999, -999.0, "-999"],
}
LARGE = 2**53 + 1
CASES = {
    "text": Case("a b", ["a b"], **texts("a b")),
    "text with an accent": Case("é", ["é"], **texts("é")),
    "text of digits": Case("007", ["007", "008"], **texts("007")),
    "code without its leading zeros": Case(
        "007", ["007", "08"], ["7", "7.0"], typed(7, 7.0, "7"), [7, 7.0, "7"], ["7", "7.0"]
    ),
    "codes that differ in leading zeros": Case("7", ["007", "7"], ["7"], typed(7, "7"), [7, "7"], ["7"]),
    "codes that differ in leading zeros alone": Case("7", ["007", "07"], ["7"], typed(7, "7"), [7, "7"], ["7"]),
    "text not in the schema": Case("new", ["a b"], **texts("new")),
    "text of a decimal number": Case("2.50", ["2.50"], **texts("2.50")),
    "integer": Case("2", ["1", "2"], **TWO),
    "integer that the schema spells as a float": Case("2.0", ["1.0", "2.0"], **TWO),
    "integer without a list": Case("2", (), **TWO),
    "decimal number": Case("2.5", ["2.5"], ["2.5"], typed(2.5, "2.5", Decimal("2.5")), [2.5, "2.5"], ["2.5"]),
    "small number": Case("1e-05", ["1e-05"], ["1e-05"], typed(1e-5, "1e-05"), [1e-5, "1e-05"], ["1e-05"]),
    "large integer": Case(str(LARGE), [str(LARGE)], [str(LARGE)], typed(LARGE), [LARGE, str(LARGE)], [str(LARGE)]),
    "large float": Case("1e+16", ["1e+16"], ["1e+16"], typed(1e16), [1e16, "1e+16"], ["1e+16"]),
    "true": Case("true", ["false", "true"], **TRUE),
    "true that the schema spells as pandas": Case("True", ["False", "True"], **TRUE),
    "true that the schema spells as 1": Case("1", ["0", "1"], **TRUE),
    "date": Case(
        "2026-01-31",
        ["2026-01-31"],
        ["2026-01-31", "2026-01-31 00:00:00", "2026-01-31T00:00:00.000", "2026-01-31T00:00:00Z"],
        [pa.array([DAY.date()]), *(pa.array([DAY], pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns"))],
        ["2026-01-31", "2026-01-31T00:00:00.000", "2026-01-31T00:00:00+00:00"],
        ["2026-01-31", "2026-01-31 00:00:00", "2026-01-31T00:00:00.000Z"],
    ),
    "time": Case(
        "2026-01-31 12:00:00",
        ["2026-01-31 12:00:00"],
        ["2026-01-31 12:00:00", "2026-01-31T12:00:00.000"],
        [pa.array([NOON], pa.timestamp("ns")), pa.array([NOON], pa.timestamp("us", "UTC"))],
        ["2026-01-31 12:00:00", "2026-01-31T12:00:00.000Z"],
        ["2026-01-31 12:00:00", "2026-01-31T12:00:00.000"],
    ),
    "time of day": Case(
        "08:05:00",
        ["08:05:00"],
        ["08:05:00", "08:05:00.000"],
        [pa.array([datetime.time(8, 5)], pa.time32("ms")), pa.array([datetime.time(8, 5)], pa.time64("us"))],
        ["08:05:00", "08:05:00.000000"],
        ["08:05:00", "08:05:00.000"],
    ),
    "fraction of a second": Case(
        "08:05:00.25",
        ["08:05:00.25"],
        ["08:05:00.25", "08:05:00.250000"],
        [pa.array([datetime.time(8, 5, 0, 250_000)], pa.time64("us"))],
        ["08:05:00.25", "08:05:00.250"],
        ["08:05:00.25", "08:05:00.250"],
    ),
    "time in another zone": Case(
        "2026-01-31 12:00:00+01:00",
        ["2026-01-31 12:00:00+01:00"],
        ["2026-01-31 12:00:00+01:00", "2026-01-31T12:00:00.000+0100"],
        [pa.array([NOON - datetime.timedelta(hours=1)], pa.timestamp("us", "Europe/Berlin"))],
        ["2026-01-31T12:00:00+01:00"],
        ["2026-01-31T12:00:00.000+01:00"],
    ),
    "gap": Case(MISSING, ["a"], **GAP, tensors=[""]),
    **{f"word {word} in a category": Case(MISSING, ["a"], **texts(word)) for word in NULLS},
    "None is a level": Case("None", ["None", "a"], **texts("None")),
    "None is missing": Case(MISSING, ["a"], **texts("None"), nulls=[*NULLS, "None"]),
    "NA is a level": Case("NA", ["NA", "a"], **texts("NA"), nulls=[]),
    "? is missing": Case(MISSING, ["a"], **texts("?"), nulls=["?"]),
    "a code is missing": Case(MISSING, ["1"], **CODE, tensors=["-999", "-999.0"], nulls=["-999"]),
    "list": Case(REFUSED, ["a"], parquet=[pa.array([["a"]])], json=[["a"], {"a": 1}]),
    "number": Case(
        63.0,
        None,
        ["63", "63.0", " 63", "+6.3E1"],
        [*typed(63, 63.0, "63", " 63 ", "+6.3E1", Decimal("63.0")), pa.array([63], pa.float32())],
        [63, 63.0, "63", " 63", "+6.3E1"],
        [63.0],
    ),
    "zero": Case(0.0, None, ["0", "-0.0"], typed(0, -0.0, False, "False"), [0, -0.0, False, "FALSE"], [0.0]),
    "true among numbers": Case(1.0, None, ["True", "TRUE", "true", "1"], TRUE["parquet"], TRUE["json"], [1.0]),
    "large number": Case(2.0**53, None, [str(LARGE)], typed(LARGE, str(LARGE)), [LARGE, str(LARGE)], [2.0**53]),
    "gap among numbers": Case(MISSING, None, **GAP, tensors=[float("nan")]),
    **{
        f"word {word} among numbers": Case(MISSING, None, [word, f" {word}"], typed(word), [word])
        for word in (*NULLS, "NAN")
    },
    "a code is missing among numbers": Case(MISSING, None, **CODE, tensors=[-999.0], nulls=["-999"]),
    "word that is not in data.nulls": Case(REFUSED, None, ["NA"], typed("NA"), ["NA"], nulls=[]),
    "text among numbers": Case(REFUSED, None, ["x", "1,5", "1_0"], typed("x", "1,5", "1_0"), ["x", "1,5", "1_0"]),
    "infinity": Case(REFUSED, None, ["inf", "1e999"], typed(np.inf, "inf"), [np.inf, "-inf", "1e999", 10**400]),
    "too large": Case(REFUSED, None, ["1e39"], typed(1e39, "1e39"), [1e39, "1e39"]),
    "date among numbers": Case(REFUSED, None, ["2026-01-31"], typed(DAY, DAY.date(), "2026-01-31"), ["2026-01-31"]),
}


def by_pipeline(file: table_files.File, case: Case) -> Any:
    """What `prepare` makes of the cell."""
    column = schema.Column.model_validate({"type": case.type, "nulls": 1.0})
    (part,) = file.read({"x": case.type}, case.notation)
    rows, cells = check(part, {"x": column}, case.notation)
    value = rows["x"][0].as_py()
    return REFUSED if cells else MISSING if value is None else value


def of_feeds(feeds: Mapping[str, Any]) -> Any:
    """What a model is given."""
    (value,) = feeds["x"].tolist()
    return MISSING if value == "" or value != value else value


def by_batch(path: Path, case: Case) -> Any:
    """What batch prediction gives to a model."""
    source = batch_tables.batches(path, case.description)
    (batch,) = source.batches(source.pieces(0))
    return REFUSED if batch.errors[0] else of_feeds(batch.feeds)


def as_csv(cell: str) -> Path:
    """A CSV file of one row."""
    path = Path("cell.csv")
    path.write_text(f"k,x\n1,{cell}\n" if "," not in cell else f'k,x\n1,"{cell}"\n', encoding="utf-8")
    return path


def as_parquet(cell: pa.Array) -> Path:
    """A Parquet file of one row."""
    pq.write_table(pa.table({"x": cell}), "cell.parquet")
    return Path("cell.parquet")


def by_json(value: Any, case: Case) -> Any:
    """What /predict gives to a model."""
    body = json.dumps({"instances": [{"x": value}]})
    request: Any = inputs_tables.request_model(case.description, 1).model_validate_json(body)
    try:
        return of_feeds(inputs_tables.from_json(request.instances, case.description))
    except inputs_tables.InputError as error:
        assert str(error).startswith("instances[0].x: ")
        return REFUSED


def by_form(cell: str, case: Case) -> Any:
    """What the page sends: of a number, no text but what the browser takes for a number."""
    return by_json(cell or None, case)


def by_file(cell: str, case: Case) -> Any:
    """What /predict_file gives to a model."""
    try:
        return of_feeds(inputs_tables.from_file(as_csv(cell).read_bytes(), case.description))
    except inputs_tables.InputError as error:
        assert str(error).startswith("row 1, column 'x': ")
        return REFUSED


def by_tensorflow(value: Any, case: Case) -> Any:
    """What the graph of the SavedModel is given."""
    import tensorflow as tf

    cells = tf.constant([value], tf.string if case.type == "category" else tf.float64)
    (found,) = packaging_tables.reader(case.description)("x", cells).numpy().tolist()
    found = found.decode() if isinstance(found, bytes) else found
    return MISSING if found == "" or found != found else found


def csv_file(cell: str) -> table_files.File:
    """The same cell for `prepare`."""
    return table_files.csv_files(str(as_csv(cell)), ",", "utf-8")[1][0]


def parquet_file(cell: pa.Array) -> table_files.File:
    """The same cell for `prepare`."""
    return table_files.parquet_files(str(as_parquet(cell)))[1][0]


WAYS: dict[str, tuple[str, Callable[[Any, Case], Any]]] = {
    "CSV in the pipeline": ("csv", lambda cell, case: by_pipeline(csv_file(cell), case)),
    "Parquet in the pipeline": ("parquet", lambda cell, case: by_pipeline(parquet_file(cell), case)),
    "JSON": ("json", by_json),
    "form": ("csv", by_form),
    "CSV to the service": ("csv", by_file),
    "CSV in a batch": ("csv", lambda cell, case: by_batch(as_csv(cell), case)),
    "Parquet in a batch": ("parquet", lambda cell, case: by_batch(as_parquet(cell), case)),
    "TensorFlow": ("tensors", by_tensorflow),
}


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=pytest.mark.keras if way == "TensorFlow" else ()) for way in WAYS]
)
@pytest.mark.parametrize("name", CASES)
def test_a_value_has_one_answer(workspace: Path, name: str, way: str) -> None:
    case, (kind, answer) = CASES[name], WAYS[way]
    found = [(str(cell), answer(cell, case)) for cell in getattr(case, kind)]
    assert found == [(cell, case.expected) for cell, _ in found]


@pytest.mark.keras
def test_the_saved_model_reads_cells_as_the_service() -> None:
    case = CASES["true that the schema spells as pandas"]
    nodes = [
        helper.make_node(
            "LabelEncoder", ["x"], ["y"], "codes", domain="ai.onnx.ml", keys_strings=["False", "True", ""],
            values_int64s=[1, 2, 3], default_int64=0,
        )
    ]  # fmt: skip
    entry = helper.make_tensor_value_info("x", onnx.TensorProto.STRING, ["N"])
    graph = helper.make_graph(nodes, "one", [entry], [onnx.ValueInfoProto(name="y")])
    model = tensorflow_model.ExportedModel(graph, case.description, nodes, "y")
    cells = np.array(["True", "true", "1", "1.0", "FALSE", "0", "", "NA", "x"], object)
    assert np.asarray(tensorflow_model.build(model, None).predict({"x": cells})).tolist() == [2, 2, 2, 2, 1, 1, 3, 3, 0]


def test_a_model_that_recorded_no_notation_reads_words_as_before() -> None:
    description = {"columns": [{"name": "x", "type": "category"}]}
    assert inputs_tables.from_file(b"k,x\n1,None\n1,NA\n1,a\n", description)["x"].tolist() == ["", "", "a"]


def every_kind(rows: int = 300) -> pd.DataFrame:
    """A table with each type of column, and gaps."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "row": range(rows),
            "flag": random.random(rows) < 0.5,
            "zone": random.integers(1, 4, rows).astype(float),
            "garage": random.choice(["None", "a", "b"], rows),
            "area": random.normal(size=rows).round(3),
            "day": pd.Timestamp("2026-01-01") + pd.to_timedelta(random.integers(0, 3, rows), "D"),
            "large": LARGE + random.integers(0, 2, rows),
            "y": random.choice([True, False], rows),
        }
    )
    frame.loc[::7, ["zone", "area"]] = np.nan
    return frame


def test_csv_and_parquet_have_the_same_schema_and_the_same_bytes(workspace: Path) -> None:
    RAW.mkdir(parents=True)
    frame = every_kind()
    frame.to_csv(RAW / "table.csv", index=False)
    frame.to_parquet(RAW / "table.parquet")
    found = []
    for path in ("data/raw/table.csv", "data/raw/table.parquet"):
        settings: dict[str, Any] = {"id": "row", "time": None, "group": None, "categories": ["zone", "large", "day"]}
        table = unchecked(path, **settings)
        schema_inference.write(schema_inference.infer(table), table.schema)
        columns = table.schema.read_text(encoding="utf-8")
        preparation.write(source(path, **settings), SPLITS)
        found.append((columns, content()))
    assert found[0] == found[1]
    columns_read = schema.load(Path("schema/table.yaml"))
    assert {name: column.categories for name, column in columns_read.items() if column.type == "category"} == {
        "flag": ["false", "true"],
        "zone": ["1", "2", "3"],
        "garage": ["None", "a", "b"],
        "day": ["2026-01-01", "2026-01-02", "2026-01-03"],
        "large": [str(LARGE), str(LARGE + 1)],
        "y": ["false", "true"],
    }
