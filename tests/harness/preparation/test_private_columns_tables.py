"""`schema --private` names columns with personal data, and no others; k-anonymity counts groups of alike rows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from my_experiment.harness import prepared
from my_experiment.harness.evaluation import tables as evaluation_tables
from my_experiment.harness.preparation import table_private
from my_experiment.harness.prepared import tables as prepared_tables
from stdnum import luhn
from stdnum.iso7064 import mod_97_10
from tables_made import RAW, frame, prepare, source

# A few of each, as they stand in tables; the last ones are not valid.
CARDS = [f"411111{n:09}{luhn.calc_check_digit(f'411111{n:09}')}" for n in range(40)]
IBANS = [f"DE{mod_97_10.calc_check_digits(f'{n:018}DE')}{n:018}" for n in range(40)]
MADE = {
    "contact": [f"p{n}@example.org" for n in range(40)],
    "paid with": CARDS,
    "account": IBANS,
    "NHS": ["943 476 5919", "401 023 2137", "9434765900"] * 14,
    "birth date": ["1970-01-01"] * 40,
    "measured": [str(10**15 + 7 * n) for n in range(40)],
    "note": ["write to a@b.org"] * 40,
}


@pytest.mark.usefixtures("workspace")
def test_columns_with_personal_data_are_named() -> None:
    rows = frame(40).assign(**{name: values[:40] for name, values in MADE.items()})
    RAW.mkdir(parents=True)
    rows.to_csv(RAW / "table.csv", index=False)
    lines = table_private.report(source(categories=["measured"]))
    told = {line.split("'")[1]: line for line in lines}
    assert {*told} == {"patient", "contact", "paid with", "account", "NHS", "birth date"}
    assert "40 of 40 different texts are of the form e-mail: data.drop if" in told["contact"]
    assert "of the form card number" in told["paid with"] and "of the form IBAN" in told["account"]
    assert "its name says 'birth'" in told["birth date"] and "its name says 'patient'" in told["patient"]
    assert "health number of the United Kingdom" in told["NHS"]
    assert "else `private: drop` in its line of schema/table.yaml" in told["contact"]
    schema = yaml.safe_load(Path("schema/table.yaml").read_text(encoding="utf-8"))
    schema["columns"]["contact"]["private"] = "hash"
    Path("schema/table.yaml").write_text(yaml.safe_dump(schema, allow_unicode=True), encoding="utf-8")
    assert next(line for line in table_private.report(source()) if "contact" in line).endswith("is private already")


@pytest.mark.usefixtures("workspace")
def test_a_table_of_measurements_has_none() -> None:
    RAW.mkdir(parents=True)
    frame().drop(columns="patient").to_csv(RAW / "table.csv", index=False)
    assert table_private.report(source(group=None)) == [
        "no column looks like personal data (names in free text are not looked for)"
    ]


@pytest.mark.usefixtures("workspace")
def test_groups_of_alike_rows_are_counted() -> None:
    rows = frame()
    rows["size"] = rows["size"].round().clip(-1, 1)
    rows.loc[7, ["size", "colour ✨"]] = [1.0, "violet"]
    prepare(rows, group=None, drop=["patient"])
    names = ["size", "colour ✨"]
    expected = rows[names].astype(object).where(rows[names].notna(), None).value_counts(dropna=False)
    (title, text) = evaluation_tables.anonymity(names)
    found = pd.concat(prepared_tables.load(split).to_pandas() for split in prepared.SPLITS)
    assert title == "## Anonymity" and len(found) == 400 and evaluation_tables.anonymity([]) == []
    assert f"400 rows of all splits form {len(expected)} groups that are alike in size, colour ✨" in text
    assert "The smallest has 1 row, so the table is 1-anonymous" in text and "; 1 rows are alone" in text
    assert np.sum(expected == 1) == 1
