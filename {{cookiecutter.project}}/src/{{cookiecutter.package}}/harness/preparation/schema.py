"""The schema of a table, against which `prepare` checks every row.

It is inferred once, then reviewed and committed:

    python -m <package> schema            writes the file that data.schema names
    python -m <package> schema --force    overwrites it: read the difference before you commit

The file has a line for each column, short enough to review. pandera's YAML takes ten lines and has no maximum rate of
missing values; `schema_checks` therefore converts this file into pandera's objects, which check the rows.

    age: {type: number, min: 0, max: 130, nulls: 0.02}

type        number | category | date (a feature) | text (an identifier or group) | time (of the split)
min, max    Bounds of a number. Inferred: the range of the data, extended by half its width at both ends, but not below
            0 if no value is negative. They detect wrong units and codes such as -999, not outliers.
categories  The allowed texts. Inferred only for up to 1,000 texts; without it, any text is allowed.
nulls       Maximum fraction of missing values; if it is 0, every missing value is a violation. Inferred: twice the
            fraction in the data.
unique      Whether repeated values are violations.
constant    Whether the column may have a single value. Inferred: whether it does.
private     What the log of the service keeps of the column: nothing (`drop`), or a keyed hash (`hash`). Either way, its
            values stand in no report, no example and no metric.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ..core import config
from ..core.errors import UserError, one_line
from ..core.paths import NAME

MAX_CATEGORIES = 1000
Rate = Annotated[float, Field(ge=0, le=1)]


class Column(config.Section):
    """Schema of a column; the docstring of the module explains its keys."""

    type: Literal["number", "category", "date", "text", "time"]
    min: float | None = None
    max: float | None = None
    categories: list[str] | None = None
    nulls: Rate = 0.0
    unique: bool = False
    constant: bool = False
    private: Literal["drop", "hash"] | None = None


def load(path: Path) -> dict[str, Column]:
    """The schema in a file: column -> schema, in file order.

    Args:
        path: File of the schema.

    Raises:
        UserError: If the file is missing, not YAML or not a valid schema.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"data.schema: there is no {path}: write it with `python -m {NAME} schema`, read and commit it"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} cannot be read as YAML: {one_line(error)}") from None
    columns = content.get("columns") if isinstance(content, dict) else None
    if not isinstance(columns, dict) or not columns or not all(isinstance(name, str) for name in columns):
        raise UserError(f"{path}: `columns:` with a line for each column is expected (quote names that are numbers)")
    config.check(columns, dict.fromkeys(columns, Column), origin=str(path))
    return {name: Column.model_validate(values) for name, values in columns.items()}


def private() -> set[str]:
    """Columns that the schema of the configured table calls private.

    Raises:
        UserError: If there is no such schema, or it is not valid.
    """
    section = config.read()["data"]
    return {name for name, column in load(Path(section["schema"])).items() if column.private}
