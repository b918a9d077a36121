"""Launcher `local`: one worker, in this process."""

from pathlib import Path

from .process import Work


def launch(work: Work, folder: Path) -> list[str]:
    """Runs one worker in this process.

    Args:
        work: The worker's loop.
        folder: The study's folder.

    Returns:
        An empty list: an error of the worker is raised, not reported as a loss.
    """
    work()
    return []
