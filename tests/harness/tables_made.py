"""Tables for tests: their rows, and the source that reads them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from my_experiment.data import tables
from my_experiment.harness import contracts, preparation, prepared
from my_experiment.harness.inputs.table_notation import NULLS
from my_experiment.harness.preparation import schema_inference
from my_experiment.harness.preparation.table import Table
from my_experiment.harness.prepared import tables as prepared_tables

SPLITS = contracts.Splits(0, 0.2, 0.2)
RAW = Path("data/raw")


def frame(rows: int = 400, seed: int = 0) -> pd.DataFrame:
    """Numbers with gaps, texts with gaps, groups, times and two classes."""
    random = np.random.default_rng(seed)
    size = random.normal(size=rows).round(4)
    colour = random.choice(np.array(["red", "grün", "blue sky", None]), rows)
    return pd.DataFrame(
        {
            "id": [f"{seed}-{row}" for row in range(rows)],
            "size": size,
            "weight in kg": np.where(random.random(rows) < 0.1, np.nan, random.uniform(40, 90, rows).round(1)),
            "colour ✨": colour,
            "patient": random.integers(0, 60, rows),
            "when": pd.date_range("2025-01-01", periods=rows, freq="D").strftime("%Y-%m-%d")[random.permutation(rows)],
            "y": np.where(size + random.normal(size=rows) > 0, "yes", "no"),
        }
    )


def unchecked(path: str = "data/raw/table.csv", **changes: Any) -> Table:
    """The table as configured, without a look at its schema."""
    settings: dict[str, Any] = {
        "path": path,
        "target": "y",
        "problem": "classification",
        "drop": [],
        "categories": [],
        "id": "id",
        "time": "when",
        "group": "patient",
        "split": "random",
        "nulls": [*NULLS],
        "decimal": ".",
        "thousands": None,
        "schema": "schema/table.yaml",
        "on_invalid": "stop",
        **changes,
    }
    if path.endswith("parquet"):
        return tables.parquet(**settings)
    return tables.csv(**{"delimiter": ",", "encoding": "utf-8", **settings})


def source(path: str = "data/raw/table.csv", **changes: Any) -> Table:
    """The table as configured; its schema is inferred if there is none."""
    table = unchecked(path, **changes)
    if not table.schema.exists():
        schema_inference.write(schema_inference.infer(table), table.schema)
    return table


def division() -> dict[str, str]:
    """Name -> split of every row."""
    return {name: split for split in prepared.SPLITS for name in prepared_tables.names(split)}


def content() -> dict[Path, bytes]:
    """Every byte of the prepared data."""
    return {file: file.read_bytes() for file in prepared.PREPARED.rglob("*.*")}


def prepare(rows: pd.DataFrame, splits: contracts.Splits = SPLITS, **changes: Any) -> dict[str, Any]:
    """Writes rows to data/raw/table.csv and prepares them; returns the report."""
    RAW.mkdir(parents=True, exist_ok=True)
    rows.to_csv(RAW / "table.csv", index=False)
    return preparation.write(source(**changes), splits)


def save_rows(table: pa.Table, folder: Path) -> None:
    """Writes the prepared rows of a split, in several batches."""
    with pa.OSFile(str(folder / "rows.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as rows:
        rows.write_table(table, max_chunksize=16)
