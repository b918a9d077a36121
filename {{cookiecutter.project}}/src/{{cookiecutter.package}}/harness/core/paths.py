"""Names and folders of the project."""

import os
from pathlib import Path

NAME = __name__.partition(".")[0]  # name of the package, the MLflow experiment, the registered model and the Bento
SOURCES = Path(__file__).resolve().parents[3]  # src/, or the site-packages of an installed package
MODELS = Path("models")
REPORTS = Path("reports")
PLOTS = REPORTS / "plots"
HISTORY = REPORTS / "history.csv"
DATA_REPORT = REPORTS / "data.json"


def project_root() -> Path:
    """The project's root, also in the temporary copy of a queued experiment."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()
