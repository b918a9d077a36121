"""Files of other people, untouched: what `schema` says of each, and one reading of it by every way.

Each is a short extract, or has the shape of a file that may not be copied. Sources, as they come in packages of PyPI:

- `italy`: ISTAT, list of municipalities, CC BY 4.0 (frictionless)
- `chargers`: DRIVECO, charging points, data.gouv.fr, Licence Ouverte 2.0 (frictionless)
- `counties`: Bureau of Labor Statistics, unemployment by county, public domain (bokeh-sampledata)
- `veterans`: Department of Veterans Affairs, education recipients by state, public domain (csvkit)
- `census`: Census Bureau, geographic headers of Illinois, public domain (csvkit)
- `fertility`: World Bank, fertility rates, CC BY 4.0 (statsmodels)
- `wine`: UCI Machine Learning Repository, CC BY 4.0 (scikit-learn)
- `penguins`: K. Gorman, Palmer penguins, CC0 (palmerpenguins)
- `airports`: OurAirports, public domain (bokeh-sampledata)
- `table-10x10k`: frictionless, MIT
"""

import csv
import datetime
import gzip
import io
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from my_experiment.harness import preparation
from my_experiment.harness.batch import tables as batch_tables
from my_experiment.harness.batch.items import Batch
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.inputs import tables as inputs_tables
from my_experiment.harness.preparation import schema_hints, schema_inference
from tables_made import RAW, SPLITS, unchecked

pytestmark = pytest.mark.usefixtures("workspace")


class Extract(NamedTuple):
    """A file, and what is seen in it.

    Attributes:
        text: The lines of the file; `...` after the header stands for further rows with running numbers.
        settings: Keys of conf/data/csv.yaml.
        said: Regular expressions of lines that `schema` prints; the last is the error if `refused`.
        refused: Whether there is an error.
        encoding: Encoding of the file.
    """

    text: str
    settings: dict[str, Any]
    said: Sequence[str]
    refused: bool = False
    encoding: str = "utf-8"


ITALY = """Codice Regione;"Codice dell'Unità territoriale
(valida a fini statistici)";Denominazione;Ripartizione geografica;Codice NUTS2 2010 (3) ;Sigla
01;201;Agliè;Nord-ovest;ITC1;TO
01;001; Airasca;Nord-ovest;ITC1;TO
02;007;Allein;Nord-est;ITC2;AO
15;063;Acerra;Sud;ITF3;NA
"""
CHARGERS = """n_station;code_insee;nbre_pdc;accessibilité;acces_recharge
Parasol Bastia;2B033;7;24/24 7/7 jours;Payant
""" + "".join(
    f"Station {row};0{row}061;{row % 4};24/24 7/7 jours;{'Payant' if row % 3 else 'Gratuit'}\n" for row in range(39)
)
COUNTIES = """CN010010,01,001,"Autauga County, AL",2009,"23,288  ","21,025  ",9.7
PA011000,01,003,"Baldwin County, AL",2009,"81,706  ","74,238  ",9.1
CN010050,01,005,"Barbour County, AL",2009,"9,703  ","8,401  ",13.4
CN020130,02,013,"Aleutians East, AK",2009,"1,164  ","1,016  ",12.7
"""
VETERANS = """State Name,Code,Montgomery GI Bill-Active Duty,Post-Vietnam Era,TOTAL,
ALABAMA,01,"6,718",8,"12,426",
ALASKA,02,776,2,"1,158",
PUERTO RICO,72,822,3,"4,424",
WYOMING,56,"1,094",1,"1,690",
"""
CENSUS = """SUMLEV,GEOCOMP,CIFSN,STATE,COUNTY,COUNTYCC
040,0,,17,,
510,0,,17,031,H1
""" + "".join(f"511,0,,17,{county:03},H1\n" for county in [31] * 20 + [91] * 20)
FERTILITY = """Country Name,1960,1961,1962
Aruba,4.82,4.655,4.471
Afghanistan,7.671,7.671,7.671
Angola,7.316,7.354,7.385
"""
WINE = """178,13,class_0,class_1,class_2
14.23,1.71,2.43,15.6,127,2.8,3.06,0.28,2.29,5.64,1.04,3.92,1065,0
13.2,1.78,2.14,11.2,100,2.65,2.76,0.26,1.28,4.38,1.05,3.4,1050,0
"""
PENGUINS = """studyName\tSpecies\tDate Egg\tCulmen Length (mm)\tSex
PAL0708\tAdelie Penguin (Pygoscelis adeliae)\t2007-11-11\t39.1\tMALE
PAL0708\tAdelie Penguin (Pygoscelis adeliae)\t2007-11-16\t\tNA
PAL0910\tGentoo penguin (Pygoscelis papua)\t2009-11-09\t46.1\tFEMALE
"""
AIRPORTS = """AirportID,IATA,Latitude,Timezone,DST,Type
3356,ABE,40.651773,,,medium_airport
3357,ABI,32.411320,,,large_airport
"""
FRICTIONLESS = """string,decimal,boolean,datetime,time,array
hp3xij,362.10,true,1947-02-01T07:17:06Z,12:02:55,"1,7"
wo3s4z,989.13,false,1975-12-02T12:41:20Z,11:16:17,"6,2"
9lcgo4,863.35,false,1957-08-05T11:17:58Z,07:11:55,"3,3"
"""
FLAGS = "age,sentence,dna,perjury\n" + "".join(
    f"{20 + row},Life,Y,{'Y' * (row % 2)}\n{row},5 years,,Y\n" for row in range(20)
)
COLOURS = "L,u,col\n" + "".join(f"{row}.5,{row},colour{row}\n" for row in range(657))
DATES = "day,wind,weather\n" + "".join(
    f"2012-01-{row:02} 12:00:00 +01:00,{row},{'rain' if row % 2 else 'sun'}\n" for row in range(1, 29)
)
BLANKS = " ID Status Stratum Start(days)\n0 M 1 1 0\n1 M 1 2 100\n"
LATE = "name,y\n" + "Anna,a\n" * 30 + "Zoé,b\n"
LARGE = "big,y\n" + "".join(f"{2**60 + row},{row % 2}\n" for row in range(40))

EXTRACTS = {
    "italy, untouched": Extract(
        ITALY,
        {"target": "Sigla"},
        [r"is not utf-8: set data\.encoding \(it may be cp1252\), or save the file as UTF-8"],
        refused=True,
        encoding="cp1252",
    ),
    "italy": Extract(
        ITALY,
        {"target": "Ripartizione geografica", "delimiter": ";", "encoding": "latin-1"},
        [
            r"names with blanks at their ends: 'Codice NUTS2 2010 \(3\) ': requests must have these blanks",
            r"columns? .*: whole numbers with leading zeros, such as '0\d*': if they are codes, data\.categories: \[",
            r"'Sigla': missing, as data\.nulls says: 'NA' \(1 cells\)",  # Naples
            r"fewer than 3 rows of 'Nord-est', 'Nord-ovest', 'Sud': add some, or .* set data\.on_invalid: drop",
        ],
        encoding="latin-1",
    ),
    "chargers": Extract(
        CHARGERS,
        {"target": "acces_recharge", "delimiter": ";", "encoding": "cp1252"},
        [
            "'code_insee': no number in 1 cell, such as '2B033': .* codes belong in data.categories",
            "'code_insee': .*data.categories: .code_insee.",
            r"'accessibilité': the single value '24/24 7/7 jours': data\.drop",
        ],
        encoding="cp1252",
    ),
    "counties, without a header": Extract(
        COUNTIES,
        {"target": "9.7", "problem": "regression", "thousands": ","},
        [
            "the header names columns '01', '001', '2009', '23,288  ', .*'9.7': is it a row of data",
            "names with blanks at their ends: '23,288  ', '21,025  '",
        ],
    ),
    "veterans, untouched": Extract(
        VETERANS,
        {"target": "TOTAL", "problem": "regression"},
        [
            r"'TOTAL': numbers with a comma between thousands, such as '.*': set data\.thousands: \",\"",
            r"data\.target: column 'TOTAL' does not hold numbers",
        ],
        refused=True,
    ),
    "veterans": Extract(VETERANS, {"target": "TOTAL", "problem": "regression", "thousands": ","}, []),
    "census": Extract(
        CENSUS,
        {"target": "SUMLEV"},
        [
            "'CIFSN': no value in any row: data.drop",
            "'COUNTY': whole numbers with leading zeros, such as '031': .*data.categories",
            "'COUNTYCC': the single value 'H1' or none: a model takes the gap for another value",
            "'SUMLEV': fewer than 3 rows of '040', '510'",
        ],
    ),
    "fertility": Extract(FERTILITY, {"target": "1962", "problem": "regression"}, []),
    "wine": Extract(
        WINE,
        {"target": "class_2"},
        [r"row 1 has 14 cells, the header 5, and so all others: is the first line the header, and"],
        refused=True,
    ),
    "penguins, untouched": Extract(
        PENGUINS, {"target": "Species"}, [r"is not utf-8: .* \(it may be utf-16\)"], refused=True, encoding="utf-16"
    ),
    "penguins": Extract(
        PENGUINS,
        {"target": "Species", "delimiter": "\t", "encoding": "utf-16"},
        ["'Date Egg': dates, such as '2007-11-11': features"],
        encoding="utf-16",
    ),
    "airports": Extract(
        AIRPORTS, {"target": "DST"}, ["'Timezone': no value", "column 'DST' is empty in all rows"], refused=True
    ),
    "table-10x10k": Extract(
        FRICTIONLESS,
        {"target": "boolean"},
        [
            "'time': times of day or durations, such as '12:02:55'",
            "'array': numbers with a decimal comma, such as '.*': other columns have a decimal point",
        ],
    ),
    "flags": Extract(FLAGS, {"target": "sentence"}, ["'perjury': the single value 'Y' or none: a model takes"]),
    "flags to predict": Extract(
        FLAGS,
        {"target": "dna"},
        ["'dna' has the single class 'Y'; 20 cells are empty, which is no class: write a word there"],
        refused=True,
    ),
    "colours": Extract(COLOURS, {"target": "col"}, ["fewer than 3 rows of 'colour0', .* and 647 more: "]),
    "dates that are nearly ISO 8601": Extract(
        DATES, {"target": "weather"}, ["'day': dates in another notation, such as '2012-01-01 12"]
    ),
    "blanks between cells": Extract(
        BLANKS,
        {"target": "Status"},
        [r"has a single column, ' ID Status .*Blanks between cells are no delimiter: save the file with commas"],
        refused=True,
    ),
    "a line above the header": Extract(
        "# exported 2026-01-31\na,y\n1,b\n", {"target": "y"}, ["If there is a line above the header, remove it"], True
    ),
    "capital letters": Extract(
        "a,y\n" + "1,Yes\n2,no\n3,yes\n" * 9,
        {"target": "y"},
        ["'y': texts that differ in capital letters only, such as 'Yes', 'yes': write them alike"],
    ),
    "latin-1 below a header in ASCII": Extract(
        LATE,
        {"target": "y"},
        [r"'name': not utf-8 in 1 cell: correct data\.encoding"],
        encoding="latin-1",
    ),
    "large identifiers": Extract(
        LARGE, {"target": "y"}, ["'big': a different whole number in each row: .*data.id: big"]
    ),
}


def looked_at(settings: dict[str, Any], path: Path = RAW / "table.csv") -> Any:
    """The table, after the command `schema`."""
    table = unchecked(str(path), **{"id": None, "time": None, "group": None} | settings)
    for hint in schema_hints.hints(table):
        print(f"schema: {hint}")
    schema_inference.write(schema_inference.infer(table), table.schema)
    return table


def only_batch(path: Path, description: dict[str, Any]) -> Batch:
    """The batch of a file with few rows."""
    rows = batch_tables.batches(path, description)
    (batch,) = rows.batches(rows.pieces(0))
    return batch


def described(table: Any) -> dict[str, Any]:
    """What models/model.json says of the table."""
    columns = table.columns()
    features = {name: column for name, column in columns.items() if name not in table.roles}
    listed = [{"name": name, "type": column.type} for name, column in features.items()]
    text = json.dumps({"columns": listed, "notation": table.notation(features).describe()})
    return dict(json.loads(text))


def same(feeds: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether two ways give a model the same."""
    return feeds.keys() == others.keys() and all(
        np.array_equal(feeds[name], others[name], equal_nan=feeds[name].dtype != object) for name in feeds
    )


@pytest.mark.parametrize("case", EXTRACTS)
def test_a_file_of_other_people(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    text, settings, said, refused, encoding = EXTRACTS[case]
    RAW.mkdir(parents=True)
    file = RAW / "table.csv"
    file.write_bytes(text.encode(encoding))
    table, error = None, ""
    try:
        table = looked_at(settings)
    except UserError as refusal:
        error = str(refusal)
    captured = capsys.readouterr()
    lines = captured.out + captured.err + error
    assert bool(error) == refused, error
    assert "\n" not in error
    for pattern in said:
        assert re.search(pattern, lines), lines
    if not said:
        assert lines == "" or "decimal" not in lines
    if table is None or case.startswith("latin-1"):
        return
    description = described(table)
    batch = only_batch(file, description)
    assert [error for error in batch.errors if error] == (
        ["row 1, column 'code_insee': '2B033' is not a finite number"] if case == "chargers" else []
    )
    if case != "chargers":
        by_file = inputs_tables.from_file(file.read_bytes(), description)
        assert same(by_file, batch.feeds)
        rows = [*csv.DictReader(io.StringIO(text), delimiter=settings.get("delimiter", ","))]
        names = [column["name"] for column in description["columns"]]
        body = json.dumps({"instances": [{name: row[name] for name in names} for row in rows]})
        request: Any = inputs_tables.request_model(description, len(rows)).model_validate_json(body)
        assert same(by_file, inputs_tables.from_json(request.instances, description))


def test_a_file_in_utf_8_is_read_whatever_the_training_data_had() -> None:
    RAW.mkdir(parents=True)
    file = RAW / "table.csv"
    file.write_bytes(ITALY.encode("latin-1"))
    description = described(looked_at(EXTRACTS["italy"].settings))
    expected = inputs_tables.from_file(file.read_bytes(), description)
    assert "Agliè" in expected["Denominazione"]
    file.write_bytes(ITALY.encode("utf-8-sig"))
    assert same(inputs_tables.from_file(file.read_bytes(), description), expected)
    batch = only_batch(file, description)
    assert same(batch.feeds, expected)


OTHER = {
    "gzip": (gzip.compress(b"a,y\n1,2\n"), "is compressed with gzip: unpack it"),
    "Excel": (b"PK\x03\x04\x14\0\x06\0\xff", "is an Excel workbook or a ZIP archive: save the table as CSV"),
    "Parquet": (b"PAR1\x15\x04\xff", "is a Parquet file: name it .parquet"),
}


@pytest.mark.parametrize("case", OTHER)
def test_what_is_no_csv_file_is_called_so_by_every_way(case: str) -> None:
    data, message = OTHER[case]
    RAW.mkdir(parents=True)
    (RAW / "table.csv").write_bytes(data)
    with pytest.raises(UserError, match=message):
        looked_at({"target": "y"})
    description = {"columns": [{"name": "a", "type": "number"}]}
    with pytest.raises(UserError, match=message):
        batch_tables.batches(RAW / "table.csv", description)
    with pytest.raises(inputs_tables.InputError, match=message):
        inputs_tables.from_file(data, description)


def test_a_target_too_coarse_for_32_bits_is_warned_of() -> None:
    RAW.mkdir(parents=True)
    lines = [f"{row % 7},{1.6e18 + 1e3 * row:.0f}" for row in range(200)]
    (RAW / "table.csv").write_text("\n".join(["a,y", *lines]), encoding="utf-8")
    warnings = preparation.write(looked_at({"target": "y", "problem": "regression"}), SPLITS)["warnings"]
    assert [text for text in warnings if "'y' goes from 1.6e+18 to 1.6e+18, where the 32-bit numbers" in text]


def test_a_header_in_another_encoding_is_called_so() -> None:
    RAW.mkdir(parents=True)
    file = RAW / "table.csv"
    file.write_bytes("Année,y\n2013,a\n".encode("latin-1"))
    with pytest.raises(UserError, match="its header is not UTF-8: save the file as UTF-8"):
        batch_tables.batches(file, {"columns": [{"name": "Année", "type": "number"}]})


def test_classes_too_rare_for_a_split_are_not_all_listed() -> None:
    RAW.mkdir(parents=True)
    (RAW / "table.csv").write_text(COLOURS, encoding="utf-8")
    table = looked_at({"target": "col", "split": "stratified"})
    with pytest.raises(
        UserError, match=r"and 1,304 more: .*remove the class from schema/table\.yaml and set data"
    ) as error:
        preparation.write(table, SPLITS)
    assert len(str(error.value)) < 1000


def test_constant_columns_are_one_warning() -> None:
    RAW.mkdir(parents=True)
    rows = pd.DataFrame({f"n{index}": 1 for index in range(12)} | {"a": np.arange(200) / 7, "y": ["a", "b"] * 100})
    rows.to_csv(RAW / "table.csv")
    warnings = preparation.write(looked_at({"target": "y", "drop": [""]}), SPLITS)["warnings"]
    assert [text for text in warnings if re.match(r"columns 'n0', .* 'n9' and 2 more are constant in ", text)]


def test_a_gap_beside_a_single_value_is_no_constant() -> None:
    RAW.mkdir(parents=True)
    lines = [f"{row},{'Y' * (row % 2)},{'v' if row else ''},{'no' if row % 3 else 'yes'}" for row in range(200)]
    (RAW / "table.csv").write_text("\n".join(["a,flag,once,y", *lines]), encoding="utf-8")
    table = looked_at({"target": "y"})
    assert not any(column.constant for column in table.columns().values())
    (warning,) = [text for text in preparation.write(table, SPLITS)["warnings"] if "constant" in text] or [""]
    assert "'flag'" not in warning


# Types of Parquet that pandas, Polars, DuckDB and Spark write -> a cell, and what it means in a category.
TYPES: dict[str, tuple[Any, str | None]] = {
    "string_view": (pa.array(["a b"], pa.string_view()), "a b"),
    "binary_view": (pa.array([b"a b"], pa.binary_view()), "a b"),
    "fixed_size_binary": (pa.array([b"ab"], pa.binary(2)), "ab"),
    "half": (pa.array([0.1], pa.float16()), "0.1"),
    "uint64": (pa.array([2**64 - 1], pa.uint64()), str(2**64 - 1)),
    "decimal256": (pa.array([Decimal("1.50")], pa.decimal256(60, 2)), "1.50"),
    "time": (pa.array([datetime.time(8, 5)], pa.time32("s")), "08:05:00"),  # Parquet keeps milliseconds
    "uuid": (pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(range(16))], pa.binary(16))),
             str(uuid.UUID(bytes=bytes(range(16))))),
    "json": (pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a":1}'])), '{"a":1}'),
    "duration": (pa.array([datetime.timedelta(seconds=5)]), None),
    "list": (pa.array([["a"]]), None),
}  # fmt: skip


@pytest.mark.parametrize("case", TYPES)
def test_a_type_of_parquet_is_a_value_or_refused(case: str) -> None:
    cell, expected = TYPES[case]
    RAW.mkdir(parents=True)
    path = RAW / "table.parquet"
    values = pa.concat_arrays([cell] * 2)
    pq.write_table(pa.table({"x": values, "y": ["a", "b"]}), path)
    table = unchecked(str(path), id=None, time=None, group=None, categories=["x"])
    if expected is None:
        with pytest.raises(UserError, match=r"column 'x' holds .*, which is no value: .*data\.drop"):
            schema_inference.infer(table)
        assert not [hint for hint in schema_hints.hints(table) if "no value in any row" in hint]
        return
    assert schema_inference.infer(table)["x"].categories == [expected]
    description = {"columns": [{"name": "x", "type": "category"}], "notation": table.notation().describe()}
    batch = only_batch(path, description)
    assert batch.feeds["x"].tolist() == [expected] * 2


def test_names_are_quoted_where_yaml_would_read_something_else() -> None:
    names = ["01", "yes", "null", "end ", "2009", "a b"]
    RAW.mkdir(parents=True)
    frame = pd.DataFrame({name: ["v"] * 40 for name in names} | {"y": ["a", "b"] * 20})
    frame.to_csv(RAW / "table.csv", index=False)
    hints = schema_hints.hints(unchecked(id=None, time=None, group=None))
    (hint,) = [hint for hint in hints if "single value" in hint]
    assert hint.endswith('data.drop: ["01", "yes", "null", "end ", "2009", a b]')
