"""Robustness that is not measured."""

from ..core import files
from ..core.paths import ROBUSTNESS


def nothing() -> None:
    """Writes an empty reports/robustness/, without the import of a library."""
    files.write_text(ROBUSTNESS / "values.json", "{}\n")
    files.write_text(ROBUSTNESS / "section.md", "")
