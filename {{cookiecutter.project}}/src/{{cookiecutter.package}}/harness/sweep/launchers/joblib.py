"""Launcher `joblib`: processes on this machine, run by joblib's engine loky."""

import os
from concurrent.futures import wait
from pathlib import Path

from pydantic import PositiveInt

from . import process
from .process import Work

# loky's resource tracker, a separate process, cleans up after a killed worker and warns about it.
IGNORE_TRACKER = "ignore:resource_tracker"


def launch(work: Work, folder: Path, *, workers: PositiveInt) -> list[str]:
    """Runs workers as processes on this machine.

    They end with this process, however it ends. Each worker has its own executor: in a shared one, as in
    `joblib.Parallel`, a worker that the system kills when memory runs out takes the other workers with it.

    Args:
        work: The worker's loop; it can be pickled.
        folder: The study's folder.
        workers: Number of workers.

    Returns:
        A line for each lost worker.
    """
    from joblib.externals.loky import ProcessPoolExecutor

    _ignore_tracker()
    executors = [ProcessPoolExecutor(max_workers=1, env=process.environment()) for _ in range(workers)]
    try:
        futures = [executor.submit(process.run, work, Path.cwd(), os.getpid()) for executor in executors]
        wait(futures)
        losses = [process.loss(future.result) for future in futures]
    except BaseException:
        for executor in executors:
            executor.shutdown(kill_workers=True)
        raise
    for executor in executors:
        executor.shutdown(wait=False)  # TensorFlow takes two seconds to end, in which the report is written
    return [f"worker {number} of {workers}: {loss}" for number, loss in enumerate(losses, 1) if loss]


def _ignore_tracker() -> None:
    filters = [text for text in os.environ.get("PYTHONWARNINGS", "").split(",") if text and text != IGNORE_TRACKER]
    os.environ["PYTHONWARNINGS"] = ",".join([*filters, IGNORE_TRACKER])
