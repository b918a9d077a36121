"""Pictures of a sweep, a module for each; a picture is left out if there are too few trials.

Optuna's own pictures leave out every trial that lacks a conditional parameter, and do not show failed trials.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from . import history, importances, learning_curves, parallel_coordinates, pareto_front, slices

if TYPE_CHECKING:
    from optuna import Study

PICTURES = {
    "history": history.draw,
    "importances": importances.draw,
    "parallel_coordinates": parallel_coordinates.draw,
    "slices": slices.draw,
    "learning_curves": learning_curves.draw,
    "pareto_front": pareto_front.draw,
}


def draw(study: "Study", folder: Path) -> list[Path]:
    """Draws a search.

    Args:
        study: The search.
        folder: Folder of the PNG files, made if it is missing.

    Returns:
        The files that were written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {folder / f"{name}.png": picture for name, picture in PICTURES.items()}
    return [path for path, picture in files.items() if picture(study, path)]
