"""The MLflow store of runs and registered models."""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from ..core.errors import UserError, one_line
from ..core.paths import NAME, project_root

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"


def uri() -> str:
    """The address of the store: MLFLOW_TRACKING_URI, or mlflow.db in the project's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{(project_root() / 'mlflow.db').as_posix()}"


def client() -> "MlflowClient":
    """A client of the store; the default store is created if missing."""
    # An unreachable server gives an error within seconds, not after minutes of retries.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # it shows one bar for each small file
    for logger in ("alembic", "mlflow.store.db.utils"):  # a line for each table that they create
        logging.getLogger(logger).setLevel(logging.WARNING)
    # MLflow warns that an environment of uv has no pip, which does not matter: `log` lists the requirements itself.
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)
    import mlflow

    mlflow.set_tracking_uri(uri())
    with one_at_a_time():
        store = mlflow.MlflowClient()
        store.search_experiments(max_results=1)  # creates the tables of a new SQLite file
    return store


def one_at_a_time() -> contextlib.AbstractContextManager[Any]:
    """A lock on an SQLite store; a server needs none.

    Without the lock, processes that open a new SQLite file at the same time crash while they create its tables, and
    processes that log the same training at the same time each create a run.
    """
    if not uri().startswith(SQLITE):
        return contextlib.nullcontext()
    # A singleton, and therefore re-entrant: `log` opens the store while it holds the lock.
    return FileLock(f"{uri().removeprefix(SQLITE)}.lock", is_singleton=True)


def experiment(store: "MlflowClient") -> str:
    """The id of this project's MLflow experiment, created if missing."""
    from mlflow.exceptions import MlflowException

    if existing := store.get_experiment_by_name(NAME):
        return str(existing.experiment_id)
    try:
        location = (project_root() / "mlartifacts").as_uri() if uri().startswith("sqlite:") else None
        return str(store.create_experiment(NAME, artifact_location=location))
    except MlflowException:
        if existing := store.get_experiment_by_name(NAME):  # another process has created it meanwhile
            return str(existing.experiment_id)
        raise


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Turns errors of the store and missing files into a UserError.

    Raises:
        UserError: If the store fails, or a file of the pipeline is missing; the message names it.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing: run `dvc repro` or `dvc pull`") from error
    except Exception as error:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        if not isinstance(error, MlflowException | SQLAlchemyError | OSError):  # requests' errors are OSErrors
            raise
        raise UserError(f"MLflow at {uri()}: {one_line(error)}") from error
