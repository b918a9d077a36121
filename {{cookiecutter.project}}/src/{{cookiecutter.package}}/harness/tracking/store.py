"""The MLflow store."""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from ..core import errors, paths
from ..core.paths import NAME

if TYPE_CHECKING:
    from mlflow import MlflowClient


def uri() -> str:
    """Returns where runs are kept: MLFLOW_TRACKING_URI, or mlflow.db in the project's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(paths.project_root() / 'mlflow.db').as_posix()}"


def client() -> "MlflowClient":
    """Opens the store, creating the default one where it is missing."""
    # A server that is away must say so within seconds, not after minutes of retries.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # one for each small file
    for chatty in ("alembic", "mlflow.store.db.utils"):  # one line for each of the tables that are created
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # An environment made by uv holds no pip; the requirements below are explicit, so nothing depends on its version.
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)
    import mlflow

    mlflow.set_tracking_uri(uri())
    with one_at_a_time():
        store = mlflow.MlflowClient()
        store.search_experiments(max_results=1)
    return store


def one_at_a_time() -> contextlib.AbstractContextManager[Any]:
    """Returns a lock over an SQLite store; a server needs none.

    Of several processes that meet a fresh SQLite file all but one crash while they create its tables, and two that
    log the same training at the same time would both find no run yet.
    """
    # A singleton, and therefore re-entrant: `log` opens the store while it holds the lock.
    path = uri().removeprefix("sqlite:///")
    return contextlib.nullcontext() if path == uri() else FileLock(f"{path}.lock", is_singleton=True)


def experiment(store: "MlflowClient") -> str:
    """Returns the id of this project's MLflow experiment, made where it is missing."""
    from mlflow.exceptions import MlflowException

    name = NAME
    found = store.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        location = (paths.project_root() / "mlartifacts").as_uri() if uri().startswith("sqlite:") else None
        return str(store.create_experiment(name, artifact_location=location))
    except MlflowException:  # another process made it in between
        return str(store.get_experiment_by_name(name).experiment_id)


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Turns what the store raises, or a file of the pipeline that is missing, into one line for a person.

    Raises:
        UserError: Naming the store, or the file.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise errors.UserError(f"{error.filename} is missing: run `dvc repro` or `dvc pull`") from error
    except Exception as error:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        if not isinstance(error, MlflowException | SQLAlchemyError | OSError):  # requests' errors are OSErrors
            raise
        raise errors.UserError(f"MLflow at {uri()}: {' '.join(str(error).split())[:300]}") from error
