"""Rows of a split for a notebook."""

from typing import TYPE_CHECKING

from ..prepared import tables

if TYPE_CHECKING:
    import pandas as pd


def read(split: str) -> "pd.DataFrame":
    """The features, a column each; the index holds the names of the rows.

    Args:
        split: `train`, `validation` or `test`.
    """
    frame: pd.DataFrame = tables.load(split).to_pandas().set_index(tables.NAME).rename_axis(None)
    return frame
