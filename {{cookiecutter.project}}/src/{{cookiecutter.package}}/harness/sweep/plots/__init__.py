"""Plots of a sweep, a module for each.

A plot is left out if there are too few trials. Optuna's plots are not used: they leave out every trial that lacks a
conditional parameter, and do not show failed trials.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from . import history, importances, learning_curves, parallel_coordinates, pareto_front, slices

if TYPE_CHECKING:
    from optuna import Study

PLOTS = {
    "history": history.draw,
    "importances": importances.draw,
    "parallel_coordinates": parallel_coordinates.draw,
    "slices": slices.draw,
    "learning_curves": learning_curves.draw,
    "pareto_front": pareto_front.draw,
}


def draw(study: "Study", folder: Path) -> list[Path]:
    """Draws the plots of a search.

    Args:
        study: The search.
        folder: Folder of the PNG files, created if missing.

    Returns:
        Paths of the written files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {folder / f"{name}.png": plot for name, plot in PLOTS.items()}
    return [path for path, plot in files.items() if plot(study, path)]
