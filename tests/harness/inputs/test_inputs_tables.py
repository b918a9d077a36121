"""Requests for a model of tables: raw rows as JSON or CSV, and every mistake is one line that says where it is."""

import json
import re
from typing import Any

import numpy as np
import pydantic
import pytest
from my_experiment.harness.inputs import tables as inputs_tables

DESCRIPTION = {
    "columns": [
        {"name": "age", "type": "number"},
        {"name": "mean radius", "type": "number"},
        {"name": "class", "type": "category"},
    ]
}
ROW = {"age": 63, "mean radius": 1.5, "class": "f"}
HEADER = "age,mean radius,class\n"


def parse(instances: Any, most: int = 256) -> Any:
    """The feeds of a JSON body, given as text or as what is in `instances`."""
    body = instances if isinstance(instances, str | bytes) else json.dumps({"instances": instances})
    request: Any = inputs_tables.request_model(DESCRIPTION, most).model_validate_json(body)
    return inputs_tables.from_json(request.instances, DESCRIPTION)


def same(feeds: Any, age: Any, radius: Any, kind: Any) -> None:
    """Compares feeds with what they should be."""
    assert list(feeds) == ["age", "mean radius", "class"]
    assert [feed.dtype for feed in feeds.values()] == [np.float64, np.float64, np.object_]
    for feed, expected in zip(feeds.values(), (age, radius, kind), strict=True):
        np.testing.assert_array_equal(feed, np.array(expected, feed.dtype))


@pytest.mark.parametrize(
    ("instances", "expected"),
    [
        ([ROW], ([63], [1.5], ["f"])),
        ([ROW, {"class": None, "mean radius": None, "age": None}], ([63, np.nan], [1.5, np.nan], ["f", ""])),
        ([ROW | {"age": -3e38, "class": ""}], ([-3e38], [1.5], [""])),
        ([ROW | {"class": " n\u00e9 \U0001f600 \n"}], ([63], [1.5], ["n\u00e9 \U0001f600"])),
    ],
)
def test_rows_as_json(instances: Any, expected: Any) -> None:
    same(parse(instances), *expected)


@pytest.mark.parametrize(
    ("instances", "place", "kind"),
    [
        ([], ("instances",), "too_short"),
        ([ROW] * 3, ("instances",), "too_long"),
        ([ROW, {"age": 1, "mean radius": 2}], ("instances", 1, "class"), "missing"),
        ([ROW | {"sex": "f"}], ("instances", 0, "sex"), "extra_forbidden"),
        ([ROW | {"column_0": 1}], ("instances", 0, "column_0"), "extra_forbidden"),
        ([[63, 1.5, "f"]], ("instances", 0), "model_type"),
        ('{"instances": [{"age": 1, "mean radius": 1, "class": "\\ud800"}]}', (), "json_invalid"),
        (b'{"instances": [{"age": 1, "mean radius": 1, "class": "\xff"}]}', (), "json_invalid"),
        ('{"instances": {}}', ("instances",), "list_type"),
        ('{"rows": []}', ("instances",), "missing"),
        ("", (), "json_invalid"),
    ],
)  # fmt: skip
def test_mistakes_in_json_are_placed(instances: Any, place: tuple[str | int, ...], kind: str) -> None:
    with pytest.raises(pydantic.ValidationError) as error:
        parse(instances, most=2)
    first = error.value.errors()[0]
    assert (first["type"], first["loc"]) == (kind, place)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"age": "old"}, "instances[1].age: 'old' is not a finite number"),
        ({"age": -1e308}, "instances[1].age: -1e+308 is too large for the 32-bit numbers of the model"),
        ({"mean radius": [1]}, "instances[1].mean radius: [1] is not a finite number"),
        ({"class": ["f"]}, "instances[1].class: ['f'] is not a text, a number, true or false"),
    ],
)
def test_values_that_cannot_be_used_are_placed(cells: dict[str, Any], message: str) -> None:
    with pytest.raises(inputs_tables.InputError) as error:
        parse([ROW, ROW | cells])
    assert str(error.value) == message


@pytest.mark.parametrize(
    "data",
    [
        HEADER + "63,1.5,f\n,NA,\n",
        HEADER + "63,1.5,f\r\n\r\nnull , ,None\r\n",
        HEADER + '" +6.3E1",1.5,f\n"","NaN",""',
        "\ufeff" + HEADER + "63,1.5,f\n,,\n",
        "extra,class,target,mean radius,age,extra\n9,f,yes,1.5,63,9\n9,,no,,,9\n",
        "age;mean radius;class\n63;1.5;f\n;;\n",
        '"age";"mean radius";"class"\n63;1.5;"f"\n;;\n',
        "age\tmean radius\tclass\n63\t1.5\tf\n\t\t\n",
    ],
)
def test_rows_as_csv(data: str) -> None:
    same(inputs_tables.from_file(data.encode(), DESCRIPTION), [63, np.nan], [1.5, np.nan], ["f", ""])


def test_a_quoted_cell_is_kept_but_for_blanks_at_its_ends() -> None:
    feeds = inputs_tables.from_file((HEADER + '1,2," a, ""b""\r\n c"\n').encode(), DESCRIPTION)
    assert feeds["class"].tolist() == ['a, "b"\r\n c']


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is empty: a header and at least one row are expected"),
        (b"\n\n", "it is empty: a header and at least one row are expected"),
        (HEADER, "it has a header only: at least one row is expected"),
        ("age,class,sex\n1,2,3\n", "the header lacks the model's mean radius; it has age, class, sex"),
        ('"a\n\x1b[2J","b\r"\n1,2\n', "the header lacks the model's age, mean radius, class; it has a??[2J, b?"),
        ("b" * 1000 + ",a\n", f"the header lacks the model's age, mean radius, class; it has {'b' * 80}..., a"),
        ("63,1.5,f\n", "the header lacks the model's age, mean radius, class; it has 63, 1.5, f"),
        ("age,mean radius,class,age\n1,2,3,4\n", "the header names column 'age' more than once"),
        (HEADER + "63,1.5,f\n63,x,f\n", "row 2, column 'mean radius': 'x' is not a finite number"),
        (HEADER + "63,1_5,f\n", "row 1, column 'mean radius': '1_5' is not a finite number"),
        (HEADER + "63,\u0661,f\n", "row 1, column 'mean radius': '\u0661' is not a finite number"),
        (HEADER + "inf,1,f\n", "row 1, column 'age': 'inf' is not a finite number"),
        (HEADER + "1e999,1,f\n", "row 1, column 'age': '1e999' is not a finite number"),
        (HEADER + "1e39,1,f\n", "row 1, column 'age': '1e39' is too large for the 32-bit numbers of the model"),
        (HEADER + "1,1\n", "row 1 has 2 cells, the header has 3"),
        (HEADER + "1,1,f,g\n", "row 1 has 4 cells, the header has 3"),
        (HEADER + '1,1,"f\n', "line 2 is not valid CSV: unexpected end of data"),
        (HEADER + '1,1,"f"g\n', "line 2 is not valid CSV: ',' expected after '\"'"),
        (HEADER.encode() + b"1,1,n\xe9\n", "line 2 is not UTF-8 (byte 0xe9): save the file as UTF-8"),
        ("\ufeff".join(HEADER).encode("utf-16"), "line 1 is not UTF-8 (byte 0xff): save the file as UTF-8"),
        (HEADER + "1,1,f\n" * 3, "it has more than 2 rows: send it in parts"),
    ],
)  # fmt: skip
def test_mistakes_in_csv_are_one_line(data: str | bytes, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs_tables, "MAX_ROWS", 2)
    with pytest.raises(inputs_tables.InputError) as error:
        inputs_tables.from_file(data if isinstance(data, bytes) else data.encode(), DESCRIPTION)
    assert str(error.value) == message


def test_the_documentation_names_every_column() -> None:
    schema = inputs_tables.instance_schema(DESCRIPTION)
    number, category = schema["properties"]["mean radius"], schema["properties"]["class"]
    assert number["type"] == ["number", "string", "boolean", "null"]
    for text, is_number in {
        "1.5": True,
        "-2e3": True,
        "NA": True,
        "#N/A": True,
        "": True,
        "true": True,
        "x": False,
    }.items():
        assert bool(re.search(number["pattern"], text)) == is_number
    assert category == {"type": ["string", "number", "boolean", "null"]}
    assert schema["required"] == ["age", "mean radius", "class"]
    assert inputs_tables.instance(DESCRIPTION) == "an object with a value or null for each of: age, mean radius, class"


def test_json_has_the_size_that_rows_of_the_model_need() -> None:
    limits = inputs_tables.json_limits(DESCRIPTION, 256)
    assert limits.instances == 256
    row = {"age": -1.7976931348623157e300, "mean radius": "-1.7976931348623157e300", "class": "é:[{" * 100}
    limits.check(json.dumps({"instances": [row | {"class": "\U0001f600" * 300}] * 256}, indent=2).encode())
    limits.check(json.dumps({"instances": [{**row, "class": "[:"}] * 256}).encode())
    unknown = ",".join(f'"{number}":0' for number in range(limits.marks))
    for body in (b" " * (limits.size + 1), f"{{{unknown}}}".encode()):
        with pytest.raises(ValueError, match=r"^the body has .* more than .*256 instances"):
            limits.check(body)
    assert inputs_tables.json_limits({"columns": DESCRIPTION["columns"] * 5000}, 256).instances == 26


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "\n" * 200_000, "it has more than 100,000 empty lines: remove them"),
        (HEADER + "," * 2**21, "line 2 has more than 1,048,576 characters"),
        ("a," * 2**20 + "\n", "line 1 has more than 1,048,576 characters"),
    ],
)
def test_a_file_that_would_take_long_is_refused(text: str, message: str) -> None:
    with pytest.raises(inputs_tables.InputError, match=re.escape(message)):
        inputs_tables.from_file(text.encode(), DESCRIPTION)


def test_lines_end_as_csv_says() -> None:
    text = 'age,mean radius,class\r\n1,2,"a\nb\u2028\x0bc"\r\n\r\n3,4,d\r5,6,e'
    same(inputs_tables.from_file(text.encode(), DESCRIPTION), [1, 3, 5], [2, 4, 6], ["a\nb\u2028\x0bc", "d", "e"])
