"""The schema of a table: inferred once, reviewed and committed; `prepare` checks every row against it.

    python -m <package> schema            writes the file that data.schema names
    python -m <package> schema --force    overwrites it: read the difference before you commit

The file has one line for each column, to be read in a review. pandera's own YAML takes ten lines for the same and has
no rate of missing values; `schema_checks` therefore turns this file into pandera's objects, which judge the rows.

    age: {type: number, min: 0, max: 130, nulls: 0.02}

type        number | category | text (an identifier or group) | time
min, max    Bounds of a number. Inferred: the range of the data, wider by half its width at both ends, and not below 0
            if no value is negative. Meant for a wrong unit or a -999, not for outliers.
categories  All allowed texts. Left out above 1,000: then any text is allowed.
nulls       Largest allowed fraction of missing values; 0: a missing value is a violation. Inferred: twice the fraction
            in the data.
unique      No value may occur twice.
constant    The column may hold a single value, as it did when the schema was inferred.
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
    """A line of the schema; the module's docstring explains its keys."""

    type: Literal["number", "category", "text", "time"]
    min: float | None = None
    max: float | None = None
    categories: list[str] | None = None
    nulls: Rate = 0.0
    unique: bool = False
    constant: bool = False


def load(path: Path) -> dict[str, Column]:
    """The schema in a file: column -> its line, in the file's order.

    Args:
        path: The file.

    Raises:
        UserError: If it is missing, is no YAML, or a line of it is not valid.
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
