"""Feature engineering: the ONNX graph computes what NumPy and scikit-learn do, with statistics of the training rows."""

import inspect
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pyarrow as pa
import pytest
from my_experiment import features
from my_experiment.harness.core import errors
from my_experiment.harness.training import encoding as encodings
from my_experiment.harness.training import table_dates

ONE_HOT = {
    "numbers": "standardise", "missing": "mean", "min_count": 1, "max_categories": 100, "reference": False,
    "precision": "float64",
}  # fmt: skip
HASHING = {"numbers": "standardise", "missing": "mean", "buckets": 8, "precision": "float64"}
EMBEDDING = {"numbers": "standardise", "missing": "mean", "min_count": 1, "max_categories": 100, "width": 3}
TABLE: dict[str, list[Any]] = {
    "age": [20.0, 30.0, None, 70.0, 40.0, 40.0],
    "offset": [1e9 + 1, 1e9 + 2, 1e9 + 3, 1e9, 1e9 + 5, 1e9 + 4],
    "sex": ["f", "m", "m", "", None, "m"],
    "town": ["b", "a", "a", "c", "d", "a"],
}


def described(table: dict[str, list[Any]]) -> list[dict[str, str]]:
    """What the manifest says of the columns."""
    return [
        {"name": name, "type": "category" if any(isinstance(v, str) for v in values) else "number"}
        for name, values in table.items()
    ]


def fit(function: str, table: dict[str, list[Any]] = TABLE, **settings: Any) -> Any:
    """Fits an encoding, its settings the usual ones but for those given."""
    usual = {"one_hot": ONE_HOT, "hashing": HASHING, "embedding": EMBEDDING}[function]
    types = {"number": pa.float64(), "category": pa.string()}
    columns = described(table)
    return getattr(features, function)(
        pa.table({column["name"]: pa.array(table[column["name"]], types[column["type"]]) for column in columns}),
        columns,
        **usual | settings,
    )


def encode(encoding: Any, table: dict[str, list[Any]] = TABLE) -> Any:
    """Runs the graph on rows; returns name -> column."""
    session = onnxruntime.InferenceSession(encoding.graph.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {
        value.name: np.array(
            ["" if v is None else v for v in table[value.name]] if "string" in value.type else table[value.name],
            object if "string" in value.type else np.float64,
        )
        for value in session.get_inputs()
    }
    (matrix,) = session.run(["encoded"], feed)
    assert matrix.shape == (len(next(iter(table.values()))), len(encoding.names))
    assert not np.isnan(matrix).any()
    return dict(zip(encoding.names, matrix.T, strict=True))


@pytest.mark.parametrize(("missing", "fill"), [("mean", 40.0), ("median", 40.0)])
def test_numbers_as_in_numpy(missing: str, fill: float) -> None:
    encoded = encode(fit("one_hot", missing=missing))
    known = np.array([20.0, 30.0, 70.0, 40.0, 40.0])
    expected = (np.array([20.0, 30.0, fill, 70.0, 40.0, 40.0]) - known.mean()) / known.std()
    np.testing.assert_allclose(encoded["age"], expected, atol=1e-12)
    np.testing.assert_array_equal(encoded["age is missing"], [0, 0, 1, 0, 0, 0])
    assert "offset is missing" not in encoded


def test_the_median_is_not_the_mean() -> None:
    table: dict[str, list[Any]] = {"x": [1.0, 2.0, 3.0, 100.0, 4.0, None], "y": [0.0, 1.0] * 3}
    encoding = fit("one_hot", table, missing="median", numbers="none")
    assert encode(encoding, {"x": [None], "y": [0.0]})["x"] == [3.0]
    assert encode(fit("one_hot", table, numbers="none"), {"x": [None], "y": [0.0]})["x"] == [22.0]


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_large_offset_costs_no_digits(precision: str) -> None:
    encoded = encode(fit("one_hot", precision=precision))
    small = np.array(TABLE["offset"]) - 1e9
    assert encoded["offset"].dtype == precision
    np.testing.assert_allclose(encoded["offset"], (small - small.mean()) / small.std(), rtol=1e-6)


def test_many_rows_as_in_scikit_learn() -> None:
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    generator = np.random.default_rng(0)
    table = {
        "x": (generator.normal(size=3000) * 1e-3 + 7).tolist(),
        "y": generator.integers(0, 9, 3000).astype(float).tolist(),
        "a": generator.choice(["k\u00e9", "", "z z", "0", "00"], 3000).tolist(),
        "b": [f"level{i}" for i in generator.zipf(1.5, 3000).clip(max=1000)],
    }
    encoded = encode(fit("one_hot", table, min_count=20), table)
    numbers = np.array([table["x"], table["y"]]).T
    expected = StandardScaler().fit_transform(numbers)
    np.testing.assert_allclose(np.array([encoded["x"], encoded["y"]]).T, expected, atol=1e-9)
    values, counts = np.unique(table["b"], return_counts=True)
    kept = values[counts >= 20]
    known = OneHotEncoder(categories=[kept], handle_unknown="ignore", sparse_output=False)
    expected = known.fit_transform(np.array(table["b"])[:, None][np.isin(table["b"], kept)])
    rare = ~np.isin(table["b"], kept)
    np.testing.assert_array_equal(np.array([encoded[f"b={level}"] for level in kept]).T[~rare], expected)
    np.testing.assert_array_equal(encoded["b=(other)"], rare)
    np.testing.assert_array_equal(encoded["a=(missing)"], np.array(table["a"]) == "")
    assert sum(name.startswith("b=") for name in encoded) == len(kept) + 1


def test_levels_are_ones_and_missing_is_one_of_them() -> None:
    encoded = encode(fit("one_hot"))
    assert list(encoded) == [
        "age", "offset", "age is missing",
        "sex=f", "sex=m", "sex=(missing)",
        "town=a", "town=b", "town=c", "town=d",
    ]  # fmt: skip
    np.testing.assert_array_equal(encoded["sex=m"], [0, 1, 1, 0, 0, 1])
    np.testing.assert_array_equal(encoded["sex=(missing)"], [0, 0, 0, 1, 1, 0])


@pytest.mark.parametrize(
    ("settings", "names", "unseen", "missing"),
    [
        ({}, ["a", "b", "c", "d"], "", ""),  # no such level: zeros
        ({"min_count": 2}, ["a", "(other)"], "(other)", "(other)"),
        ({"max_categories": 2}, ["a", "b", "(other)"], "(other)", "(other)"),
        ({"reference": True}, ["b", "c", "d"], "", ""),
        ({"min_count": 2, "reference": True}, ["(other)"], "(other)", "(other)"),
    ],
)
def test_rare_new_and_missing_levels(settings: Any, names: list[str], unseen: str, missing: str) -> None:
    encoding = fit("one_hot", {"town": TABLE["town"]}, **settings)
    assert list(encoding.names) == [f"town={name}" for name in names]
    rows = np.array(list(encode(encoding, {"town": ["new", ""]}).values())).T
    for row, level in zip(rows, (unseen, missing), strict=True):
        np.testing.assert_array_equal(row, [name == level for name in names])


def test_hashing_as_in_scikit_learn() -> None:
    from sklearn.utils import murmurhash3_32

    towns = ["b", "a", "new", "\u00e9t\u00e9", "0" * 1000]
    encoded = encode(fit("hashing", {"town": TABLE["town"]}), {"town": towns})
    expected = np.zeros((len(towns), 8))
    for row, town in enumerate(towns):
        expected[row, murmurhash3_32(town, seed=0, positive=True) % 8] = 1
    np.testing.assert_array_equal(np.array(list(encoded.values())).T, expected)


def test_hashing_has_a_column_for_missing_where_training_lacked_values() -> None:
    encoding = fit("hashing", {"sex": TABLE["sex"], "town": TABLE["town"]})
    assert len(encoding.names) == 8 + 1 + 8
    encoded = encode(encoding, {"sex": [""], "town": [""]})
    assert [name for name, (value,) in encoded.items() if value] == ["sex=(missing)"]


def test_embedding_numbers_the_levels() -> None:
    encoding = fit("embedding", min_count=2)
    encoded = encode(encoding, {**TABLE, "town": ["a", "b", "new", "", "a", "a"]})
    np.testing.assert_array_equal(encoded["town (level)"], [1, 0, 0, 0, 1, 1])
    np.testing.assert_array_equal(encoded["sex (level)"], [0, 1, 1, 2, 2, 1])  # f is rare, missing is the second level


@pytest.mark.keras
def test_embedding_looks_vectors_up() -> None:
    import keras

    encoding = fit("embedding")
    entry, tensor = encoding.layers()
    model = keras.Model(entry, tensor)
    assert model.input.name == "encoded" and tensor.shape[1] == 3 + 3 + 3
    generator = np.random.default_rng(0)
    sexes, towns = generator.normal(size=(4, 3)), generator.normal(size=(5, 3))
    model.set_weights([sexes, towns])
    rows = np.array(list(encode(encoding).values())).T.astype(np.float32)
    expected = np.concatenate([rows[:, :3], sexes[[1, 2, 2, 3, 3, 2]], towns[[2, 1, 1, 3, 4, 1]]], axis=1)
    np.testing.assert_allclose(np.asarray(model(rows)), expected, rtol=1e-6)
    again = keras.models.model_from_json(model.to_json())
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(np.asarray(again(rows)), np.asarray(model(rows)))


def test_rows_that_were_not_in_training_leave_no_trace() -> None:
    """A planted leak: rows of another split, wildly different, encoded by a graph that has not seen them."""
    encoding = fit("one_hot")
    before = encoding.graph.SerializeToString()
    other: dict[str, list[Any]] = {"age": [1e6, None], "offset": [-1e12, 5.0], "sex": ["x", "y"], "town": ["x", "a"]}
    alone, together = encode(encoding, other), encode(encoding, {k: TABLE[k] + other[k] for k in TABLE})
    for name in encoding.names:
        np.testing.assert_array_equal(together[name][-2:], alone[name])
        np.testing.assert_array_equal(together[name][:-2], encode(encoding)[name])
    assert encoding.graph.SerializeToString() == before
    assert before != fit("one_hot", {k: TABLE[k] + other[k] for k in TABLE}).graph.SerializeToString()


@pytest.mark.parametrize("value", [1e308, -1e308, float("inf"), -float("inf")])
def test_the_wildest_number_stays_finite(value: float) -> None:
    row = {name: values[:1] for name, values in TABLE.items()} | {"age": [value]}
    assert encode(fit("one_hot", precision="float32"), row)["age"] == np.sign(value) * encodings.LIMIT


def test_columns_know_their_unit() -> None:
    encoding = fit("one_hot")
    columns = {column.name: column for column in encodings.columns(encoding.graph)}
    assert tuple(columns) == encoding.names
    age = columns["age"]
    np.testing.assert_allclose(encode(encoding)["age"][[0, 3]] * age.scale + age.offset, [20, 70])
    assert (columns["sex=f"].offset, columns["sex=f"].scale) == (0, 1)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"x": [1.0, 1.0], "y": [1.0, 2.0]}, "column 'x' has the value 1 in all training rows and is left out"),
        ({"x": ["a", "a"], "y": [1.0, 2.0]}, "column 'x' has the level 'a' in all training rows and is left out"),
        ({"x": ["", ""], "y": [1.0, 2.0]}, "column 'x' has a gap in all training rows and is left out"),
        ({"x": [None, None], "y": [1.0, 2.0]}, "column 'x' has a gap in all training rows and is left out"),
    ],
)
def test_a_constant_column_is_left_out_and_told(table: Any, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    for function in ("one_hot", "hashing", "embedding"):
        encoding = fit(function, table)
        assert said in capsys.readouterr().err
        assert encoding.names == ("y",)
        assert encode(encoding, {"x": table["x"][:1], "y": [1.0]})["y"] == [-1]


def test_a_column_of_one_value_or_none_is_an_indicator() -> None:
    encoding = fit("one_hot", {"x": [5.0, None, 5.0]})
    assert encoding.names == ("x is missing",)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"x": [1e308, -1e308, 1.5e308]}, "column 'x' goes from -1e+308 to 1.5e+308"),
        ({"x": [0.0, 1e-300]}, "column 'x' goes from 0 to 1e-300"),
        ({"x": [0.0, float("nan"), 1.0]}, "column 'x' goes from 0 to 1"),
        ({"x": [1.0, 1.0]}, "no column is left to learn from"),
        ({"encoded": [1.0, 2.0]}, "a column may not be called 'encoded'"),
    ],
)
@pytest.mark.parametrize("function", ["one_hot", "hashing", "embedding"])
def test_what_cannot_be_encoded_is_one_line(function: str, table: Any, said: str) -> None:
    with pytest.raises(errors.UserError) as error:
        fit(function, table)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_columns_may_be_called_anything() -> None:
    numbers = {"encoding_1": [1.0, 2.0], "a b/c.d=\u00e9\n": [3.0, 9.0]}
    table: dict[str, list[Any]] = {**numbers, "encoding_2": ["a", "b"], "(other)": ["(other)", "x"]}
    encoded = encode(fit("one_hot", table), table)
    np.testing.assert_array_equal(encoded["encoding_1"], [-1, 1])
    np.testing.assert_array_equal(encoded["encoding_2=b"], [0, 1])


@pytest.mark.parametrize("function", ["one_hot", "hashing", "embedding"])
def test_the_same_rows_give_the_same_bytes(function: str) -> None:
    assert fit(function).graph.SerializeToString() == fit(function).graph.SerializeToString()


def test_bytes_do_not_depend_on_the_hash_seed() -> None:
    code = (
        f"import sys; from {Path(__file__).stem} import fit\n"
        "for name in ('one_hot', 'hashing', 'embedding'): sys.stdout.buffer.write(fit(name).graph.SerializeToString())"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    made = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert made[0] == made[1] and len(made[0]) > 1000


def test_the_example_in_the_docstring_is_an_encoding() -> None:
    """What an owner is told to write is run as it stands there."""
    example = [line[4:] for line in (features.__doc__ or "").splitlines() if line.startswith("    ")]
    source = inspect.getsource(features.one_hot).replace(
        "    return graph.encoding()", "\n".join(f"    {line}" for line in [*example, "return graph.encoding()"])
    )
    scope = dict(vars(features))
    exec(compile(f"from __future__ import annotations\n{source}", "features.py", "exec"), scope)
    types = {"number": pa.float64(), "category": pa.string()}
    columns = described(TABLE)
    table = pa.table({c["name"]: pa.array(TABLE[c["name"]], types[c["type"]]) for c in columns})
    encoded = encode(scope["one_hot"](table, columns, **ONE_HOT))
    np.testing.assert_array_equal(encoded["age > 0"], [1, 1, 0, 1, 1, 1])  # a missing number is not positive


# Dates ----------------------------------------------------------------------------------------------------------------


def dated(days: Sequence[float | None], function: str = "one_hot", **settings: Any) -> Any:
    """Fits an encoding of a column of dates, given as days since 1970, and a number."""
    usual = {"one_hot": ONE_HOT, "hashing": HASHING, "embedding": EMBEDDING}[function] | settings
    columns = [{"name": "sold", "type": "date"}, {"name": "x", "type": "number"}]
    table = pa.table({"sold": pa.array(days, pa.float64()), "x": np.arange(float(len(days)))})
    return getattr(features, function)(table, columns, **usual)


def encode_days(encoding: Any, days: Sequence[float | None]) -> Any:
    """The encoded dates: name -> column."""
    return encode(encoding, {"sold": [*days], "x": [0.0] * len(days)})


def test_dates_as_in_pandas() -> None:
    times = pd.date_range("2023-11-03 01:00", periods=900, freq="11h")
    days = ((times - pd.Timestamp(0)) / pd.Timedelta(days=1)).to_numpy()
    encoded = encode_days(dated(days.tolist()), days.tolist())
    np.testing.assert_allclose(encoded["sold"], (days - days.mean()) / days.std(), atol=1e-9)
    assert "sold is Monday" not in encoded  # all others are 0
    for number, name in enumerate(table_dates.WEEKDAYS[1:], 1):
        np.testing.assert_array_equal(encoded[f"sold is {name}"], times.day_of_week == number)
    hours = times.hour / 24 * 2 * np.pi
    np.testing.assert_allclose(encoded["sold (time of day, sine)"], np.sin(hours), atol=0.0017)
    np.testing.assert_allclose(encoded["sold (time of day, cosine)"], np.cos(hours), atol=0.0017)
    # The mean year is 365.2425 days: within a day of the calendar's.
    year = (times.day_of_year - 1 + times.hour / 24) / 365.2425 * 2 * np.pi
    np.testing.assert_allclose(encoded["sold (time of year, sine)"], np.sin(year), atol=2 * np.pi / 365 + 0.0017)
    np.testing.assert_allclose(encoded["sold (time of year, cosine)"], np.cos(year), atol=2 * np.pi / 365 + 0.0017)
    alone = [encode_days(dated(days.tolist()), [day]) for day in days[:20]]
    assert all([row[name][0] for row in alone] == encoded[name][:20].tolist() for name in encoded if name != "x")


def test_only_what_differs_between_dates_is_a_feature() -> None:
    mondays = [19723.0 + 7 * week for week in range(60)]
    assert set(dated(mondays).names) == {"sold", "sold (time of year, sine)", "sold (time of year, cosine)", "x"}
    new_years = [float((pd.Timestamp(f"{year}-01-01") - pd.Timestamp(0)).days) for year in range(1990, 2020)]
    assert not [name for name in dated(new_years).names if "time of" in name]
    assert set(dated([19723.0] * 9).names) == {"x"}


def test_a_missing_date_and_one_out_of_range_are_encoded() -> None:
    days = [19723.0, 19724.0, 19725.0, None, 19730.0]
    encoded = encode_days(dated(days), [None, 1e308, -1e308, 19723.0])
    assert encoded["sold is missing"].tolist() == [1, 0, 0, 0]
    assert encoded["sold"][0] == 0
    assert all(np.isfinite(values).all() for values in encoded.values())


@pytest.mark.parametrize("function", ["hashing", "embedding"])
def test_every_encoding_encodes_dates(function: str) -> None:
    days: list[float | None] = [19723.0 + day for day in range(40)]
    encoded = encode_days(dated(days, function), days)
    assert {"sold", "sold is Friday", "x"} <= set(encoded)
