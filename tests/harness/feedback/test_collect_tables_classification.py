"""Labeled rows become a file of the table: real segments, real git, real DVC, the real `prepare`."""

import csv
import gzip
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyrage
import pytest
from my_experiment.harness import preparation
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.core.programs import DVC, run
from my_experiment.harness.feedback import ledger, reading
from my_experiment.harness.feedback.collect import SEGMENTS, collect
from production import Service
from support import ROOT, commit, git
from tables_made import SPLITS, frame, source

IDENTITY = pyrage.x25519.Identity.generate()
DESCRIPTION: dict[str, Any] = {
    "input": "tables",
    "target": "classification",
    "sha256": "0123456789abcdef",
    "classes": ["no", "yes"],
    "columns": [
        {"name": "size", "type": "number"},
        {"name": "weight in kg", "type": "number"},
        {"name": "colour ✨", "type": "category"},
    ],
    "notation": {"nulls": ["NA"], "decimal": ",", "thousands": None},
}
ROW = {"size": 0.25, "weight in kg": None, "colour ✨": "grün"}
TABLE = Path("data/raw/table")
CONFIG = """
_target_: my_experiment.data.tables.{format}
path: data/raw/table{csv}
target: y
problem: classification
drop: [note]
categories: []
id: id
time: when
group: patient
split: random
nulls: [NA]
schema: schema/table.yaml
decimal: ","
thousands: null
on_invalid: stop
"""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with DVC, and a table as CSV that it tracks: made once, because DVC takes seconds."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copytree(ROOT / "conf", folder / "conf")
    (folder / "dvc.yaml").write_text("stages: {}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        git("init", "--quiet", "--initial-branch=main")
        run(*DVC, "init", "--quiet")
        Path(".gitignore").write_text("/key.txt\n/data/prepared\n/data/production\n")
        Path("key.txt").write_text(f"# created: today\n{IDENTITY}\n")
        table("csv")
    return folder


@pytest.fixture
def repository(made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of the repository, as working directory."""
    folder = shutil.copytree(made, tmp_path / "project")
    monkeypatch.setenv("SERVICE_LOG_IDENTITY", str(folder / "key.txt"))
    monkeypatch.chdir(folder)
    return folder


def table(format: str) -> None:
    """Puts a table into a folder that DVC tracks, with its configuration and schema."""
    TABLE.mkdir(parents=True)
    frame().assign(note="of a person").pipe(save, format)
    extra = '\ndelimiter: ";"\nencoding: utf-16' if format == "csv" else ""
    text = CONFIG.format(format=format, csv=extra)
    (Path("conf/data") / "own.yaml").write_text(text)
    config = Path("conf/config.yaml")
    default = next(line for line in config.read_text().splitlines() if line.strip().startswith("- data: "))
    config.write_text(config.read_text().replace(default, "  - data: own"))
    configured(format)
    run(*DVC, "add", "--quiet", TABLE)
    commit()


def save(rows: pd.DataFrame, format: str) -> None:
    if format == "csv":
        rows.to_csv(TABLE / "rows.csv", index=False, sep=";", decimal=",", encoding="utf-16")
    else:
        rows.to_parquet(TABLE / "rows.parquet")


def configured(format: str) -> Any:
    written = {"delimiter": ";", "encoding": "utf-16"} if format == "csv" else {}
    if format == "csv":
        return source(str(TABLE), drop=["note"], nulls=["NA"], decimal=",", **written)
    return parquet_source()


def parquet_source() -> Any:
    from my_experiment.data import tables
    from my_experiment.harness.preparation import schema_inference

    settings: dict[str, Any] = dict(
        path=str(TABLE), target="y", problem="classification", drop=["note"], categories=[], id="id", time="when",
        group="patient", split="random", nulls=["NA"], decimal=",", thousands=None, schema="schema/table.yaml",
        on_invalid="stop",
    )  # fmt: skip
    found = tables.parquet(**settings)
    if not found.schema.exists():
        schema_inference.write(schema_inference.infer(found), found.schema)
    return found


def serve(rows: int = 30, contributors: str = "abcde", folder: Path = SEGMENTS) -> Service:
    """Segments with labeled rows, each unlike the others."""
    service = Service(folder, DESCRIPTION, recipient=IDENTITY.to_public())
    for number in range(rows):
        row = ROW | {"size": round(0.001 * number, 3)}
        id = service.answer({}, [[0.25, 0.75]], [row])
        service.label(id, "yes" if number % 3 else "no", contributors[number % len(contributors)])
    service.close()
    return service


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_rows_come_in_the_format_of_the_table_and_are_prepared(repository: Path, format: str) -> None:
    if format == "parquet":
        shutil.rmtree(TABLE)
        Path("schema/table.yaml").unlink()
        table(format)
    before = preparation.write(configured(format), SPLITS)
    serve()
    collected = collect()
    assert collected.files == [Path("data/raw/table.dvc"), Path("data/raw/.gitignore")]
    assert collected.report.startswith("30 labeled example(s) from production added to data/raw/table\n\n| contrib")
    assert "| a | 6 | 20% | 33% | 0 | 0 |" in collected.report
    assert {path.name for path in TABLE.iterdir()} == {
        f"rows.{format}", f"production-000001.{format}", ".production-000001.csv"
    }  # fmt: skip
    after = preparation.write(configured(format), SPLITS)
    assert after["rows"] == before["rows"] + 30 and after["violations"] == 0
    assert run(*DVC, "status", "--json", "data/raw/table.dvc") == "{}"
    assert git("status", "--porcelain").strip() == "M data/raw/table.dvc"
    if format == "csv":
        with (TABLE / "production-000001.csv").open(encoding="utf-16", newline="") as file:
            first = next(csv.DictReader(file, delimiter=";"))
        assert first["size"] == "0,0" and first["colour ✨"] == "grün" and first["weight in kg"] == ""
        assert first["note"] == "" and first["y"] == "no" and first["id"] == f"{first['patient']}-0"
        assert first["when"].startswith("20")


def test_the_same_segments_again_add_nothing_and_new_ones_a_file(repository: Path) -> None:
    serve()
    collect()
    commit()
    again = collect()
    assert again.files == [] and again.report.startswith("0 labeled example(s)")
    assert git("status", "--porcelain") == ""
    serve(10)
    assert collect().report.startswith("10 labeled")
    assert len(ledger.read(TABLE).entries) == 40
    (TABLE / "production-000001.csv").unlink()  # by somebody who does not trust these rows
    assert collect().files == []


def test_a_killed_one_is_repeated(repository: Path) -> None:
    serve()
    collect()
    rows = (TABLE / "production-000001.csv").read_bytes()
    (TABLE / ".production-000001.csv").unlink()  # killed between the two files
    collect()
    assert (TABLE / "production-000001.csv").read_bytes() == rows and len(ledger.read(TABLE).entries) == 30


def test_one_contributor_has_a_fifth_and_the_rest_waits(repository: Path) -> None:
    serve(50, contributors="abcdexxxxxxxxxxxxxxxxxxxx")
    collected = collect()
    assert "| x | 2 | 17% | " in collected.report and "| 38 | 0 |" in collected.report
    assert "No contributor has more than 20% of what is added" in collected.report
    assert collect().files == []


def test_rows_that_would_end_prepare_are_left_out_and_named(repository: Path) -> None:
    service = serve(5)
    service = Service(SEGMENTS, DESCRIPTION, recipient=IDENTITY.to_public())
    for row in (ROW | {"size": 1e6}, ROW | {"colour ✨": "mauve"}, ROW | {"size": "0,125"}):
        service.label(service.answer({}, [[0.25, 0.75]], [row]), "yes", "a")
    service.label("0" * 32, "yes")
    service.close()
    report = collect().report
    assert report.startswith("5 labeled example(s)") and "| a | 1 | 20% | 100% | 1 | 0 |" in report
    assert "- 1 row(s) left out: column 'size': 1000000.0 is outside" in report.replace(",0 is", ".0 is")
    assert "- 1 row(s) left out: column 'colour ✨': 'mauve' is not among the 3 known categories" in report
    assert "- 1 label(s) without a request: " in report


def test_the_last_label_counts_and_dependent_rows_stay_together(repository: Path) -> None:
    service = Service(SEGMENTS, DESCRIPTION, recipient=IDENTITY.to_public())
    id = service.answer({}, [[0.25, 0.75]] * 2, [ROW, ROW | {"size": 0.5}])
    service.label(id, "no", "a", 1)
    service.label(id, "yes", "b", 1)
    service.close()
    collect()
    (entry,) = ledger.read(TABLE).entries
    assert entry == ledger.Entry(id, 1, "b", "yes")
    text = (TABLE / "production-000001.csv").read_text(encoding="utf-16")
    assert f"{id}-1;0,5;" in text and f";{id};" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("built-in", "inside a library, to which nothing can be added"),
        ("file", "data.path: data/raw/table/rows.csv would not read a new file data/raw/table/production-000001.csv"),
        ("pattern", r"data.path: data/raw/table/r\*.csv would not read a new file"),
        ("import", "data/raw/table is imported: the next `dvc update` would remove what is added here"),
        ("folder", "data/production: there is no such folder"),
        ("identity", "is encrypted: SERVICE_LOG_IDENTITY must name the file with the secret key"),
        ("no key", "SERVICE_LOG_IDENTITY=.*: a file with a secret key of age is expected: No such file"),
        ("other key", "the key that SERVICE_LOG_IDENTITY names does not decrypt it"),
        ("damaged", "does not decrypt it .* or the file is damaged"),
        ("private", "column 'size' is private, so that rows from production lack it, and `nulls: 0` allows no"),
    ],
)
def test_what_a_person_can_do_wrong_is_one_line(
    repository: Path, monkeypatch: pytest.MonkeyPatch, change: str, message: str
) -> None:
    serve(3)
    own, schema = Path("conf/data/own.yaml"), Path("schema/table.yaml")
    (segment,) = SEGMENTS.rglob("*.age")
    if change == "built-in":
        shutil.copy(ROOT / "conf/config.yaml", "conf/config.yaml")
    elif change in ("file", "pattern"):
        path = "rows.csv" if change == "file" else "r*.csv"
        own.write_text(own.read_text().replace("path: data/raw/table", f"path: data/raw/table/{path}"))
    elif change == "import":
        with Path("data/raw/table.dvc").open("a") as file:
            file.write("deps:\n- path: /elsewhere\n")
    elif change == "folder":
        shutil.rmtree(SEGMENTS)
    elif change == "identity":
        monkeypatch.delenv("SERVICE_LOG_IDENTITY")
    elif change == "no key":
        Path("key.txt").unlink()
    elif change == "other key":
        Path("key.txt").write_text(str(pyrage.x25519.Identity.generate()))
    elif change == "damaged":
        data = bytearray(segment.read_bytes())
        data[-5] ^= 1
        segment.write_bytes(data)
    elif change == "private":
        schema.write_text(schema.read_text().replace("  size: {type: number,", "  size: {type: number, private: drop,"))
        assert "private" in schema.read_text()
    with pytest.raises(UserError, match=message) as told:
        collect()
    assert "\n" not in str(told.value)
    assert {path.name for path in TABLE.iterdir()} == {"rows.csv"}


def test_a_damaged_plain_segment_is_named(tmp_path: Path) -> None:
    (tmp_path / "1.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(UserError, match=r"1.jsonl.gz: is damaged: "):
        reading.open_segments(tmp_path, {}).labels()


def test_a_segment_that_would_fill_the_memory_is_named(tmp_path: Path) -> None:
    (tmp_path / "1.jsonl.gz").write_bytes(gzip.compress(bytes(reading.MOST + 1)))
    with pytest.raises(UserError, match=r"1.jsonl.gz: has more than the 32 MiB that a service writes: remove it"):
        reading.open_segments(tmp_path, {}).labels()
