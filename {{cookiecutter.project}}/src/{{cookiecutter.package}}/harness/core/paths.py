"""Names and folders of the project."""

import os
from pathlib import Path

from .errors import UserError

NAME = __name__.partition(".")[0]  # name of the package, the MLflow experiment, the registered model and the Bento
SOURCES = Path(__file__).resolve().parents[3]  # src/, or the site-packages of an installed package
MODELS = Path("models")
REPORTS = Path("reports")
PLOTS = REPORTS / "plots"
EXPLANATIONS = REPORTS / "explanations"
ROBUSTNESS = REPORTS / "robustness"
HISTORY = REPORTS / "history.csv"
DATA_REPORT = REPORTS / "data.json"
ROOTS = ("dvc.yaml", "bento.yaml")  # files that mark the root of a project or of a Bento


def project_root() -> Path:
    """The project's root, also in the temporary copy of a queued experiment."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


def find_root() -> Path:
    """The project's root: the nearest folder with a dvc.yaml, from here upwards.

    Raises:
        UserError: If there is no such folder.
    """
    current = Path.cwd()
    for folder in (current, *current.parents):
        if any((folder / name).is_file() for name in ROOTS):
            return folder
    raise UserError(f"{current} is not in a project: neither it nor a folder above it has a dvc.yaml")
