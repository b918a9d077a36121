"""The MLflow store of runs and registered models."""

import contextlib
import logging
import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import url2pathname

from filelock import FileLock

from ..core.errors import UserError, one_line
from ..core.imports import permanent
from ..core.paths import NAME, project_root

if TYPE_CHECKING:
    from mlflow import MlflowClient

FILE = "mlflow.db"  # the default store, in the project's root
# Columns of the store in which MLflow records absolute locations.
LOCATIONS = (
    ("experiments", "experiment_id", "artifact_location"),
    ("runs", "run_uuid", "artifact_uri"),
    ("logged_models", "model_id", "artifact_location"),
    ("model_versions", "rowid", "source"),
    ("model_versions", "rowid", "storage_location"),
)


def uri() -> str:
    """The address of the store: MLFLOW_TRACKING_URI, or mlflow.db in the project's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _sqlite(project_root() / FILE)


def _sqlite(file: Path) -> str:
    """The address of an SQLite file."""
    path = file.as_posix()
    quoted = path.replace("%", "%25").replace("?", "%3F")
    # With "sqlite:", MLflow would create the folders of the path as it is quoted.
    return f"sqlite:///{path}" if quoted == path else f"sqlite+pysqlite:///{quoted}"


def database() -> Path | None:
    """The file of an SQLite store; None for a server."""
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return project_root() / FILE
    if not uri().startswith("sqlite"):
        return None
    from sqlalchemy import make_url

    return Path(make_url(uri()).database or FILE).resolve()


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
    with permanent():
        import mlflow

    mlflow.set_tracking_uri(uri())
    with one_at_a_time(), permanent():  # the first search imports SQLAlchemy
        if (file := database()) and not file.exists():
            _create(file)
        store = mlflow.MlflowClient()
        store.search_experiments(max_results=1)  # brings the tables of an earlier MLflow up to date
        if file == project_root() / FILE:
            relocate(project_root())
    return store


def _create(file: Path) -> None:
    """Creates an SQLite store with its tables at once: in a half-made file, MLflow fails ever after."""
    import mlflow

    unfinished = file.with_name(f"{file.name}.new")
    for left in (unfinished, unfinished.with_name(f"{unfinished.name}-journal")):
        left.unlink(missing_ok=True)
    mlflow.MlflowClient(_sqlite(unfinished)).search_experiments(max_results=1)
    unfinished.replace(file)


def relocate(root: Path) -> None:
    """Makes the store of a moved or copied project name the folder in which it lies.

    MLflow records where artifacts are as absolute locations, and would read and write in the earlier folder. A location
    stays if its files are in the earlier folder alone, and no project is there: the files of another project are its
    own, and a restore beside it that still misses its artifacts must not read them.

    Args:
        root: The project's root, with mlflow.db.
    """
    with contextlib.closing(sqlite3.connect(root / FILE)) as connection, connection:
        for recorded in _recorded(connection) - {root.as_uri(), str(root)}:
            earlier = Path(url2pathname(recorded.removeprefix("file://")))
            prefixes = {f"{recorded}/": f"{root.as_uri()}/", f"{earlier}/": f"{root}/"}
            for table, key, column in LOCATIONS:
                for identifier, location in connection.execute(f"SELECT {key}, {column} FROM {table}").fetchall():
                    old = next((prefix for prefix in prefixes if (location or "").startswith(prefix)), None)
                    if old is None or _only_in(earlier, root, location.removeprefix(old)):
                        continue
                    new = prefixes[old] + location.removeprefix(old)
                    connection.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (new, identifier))


def _recorded(connection: sqlite3.Connection) -> set[str]:
    """The folders of projects that the experiment, its runs and its models name."""
    query = """
        WITH own AS (SELECT experiment_id, artifact_location FROM experiments WHERE name = ?)
        SELECT artifact_location FROM own
        UNION ALL SELECT artifact_uri FROM runs WHERE experiment_id IN (SELECT experiment_id FROM own)
        UNION ALL SELECT artifact_location FROM logged_models WHERE experiment_id IN (SELECT experiment_id FROM own)
    """
    locations = (f"{location or ''}/" for (location,) in connection.execute(query, (NAME,)))
    return {folder for folder, suffix, _ in (each.rpartition("/mlartifacts/") for each in locations) if suffix}


def _only_in(earlier: Path, root: Path, location: str) -> bool:
    """Whether a file or folder, its relative path quoted as in a URI, is in the earlier folder alone: no project's."""
    name = url2pathname(location)
    if name == "mlartifacts" or (root / name).exists() or os.path.exists(earlier / FILE):
        return False
    return os.path.exists(earlier / name)  # False as well for a folder that is closed to this user


def one_at_a_time() -> contextlib.AbstractContextManager[Any]:
    """A lock on an SQLite store; a server needs none.

    Without the lock, processes that open a new SQLite file at the same time crash while they create its tables, and
    processes that log the same training at the same time each create a run.
    """
    if (file := database()) is None:
        return contextlib.nullcontext()
    # A singleton, and therefore re-entrant: `log` opens the store while it holds the lock.
    return FileLock(f"{file}.lock", is_singleton=True)


def experiment(store: "MlflowClient") -> str:
    """The id of this project's MLflow experiment, created if missing."""
    from mlflow.exceptions import MlflowException

    if existing := store.get_experiment_by_name(NAME):
        return str(existing.experiment_id)
    try:
        location = (project_root() / "mlartifacts").as_uri() if database() else None
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

        if "invalid interpolation syntax" in str(error):  # alembic reads its folder with configparser
            raise UserError(f"MLflow cannot make its tables if its path has a %: move {sys.prefix}") from error
        # The errors of requests are OSErrors; a reader of standard output that has ended is no error of the store.
        if not isinstance(error, MlflowException | SQLAlchemyError | OSError) or isinstance(error, BrokenPipeError):
            raise
        raise UserError(failure(error)) from error


def failure(error: BaseException) -> str:
    """An error of the store in one line: whether the server is away or refuses, and why.

    Args:
        error: The error; a `UserError` has its own words.
    """
    if isinstance(error, UserError):
        return one_line(error)
    untrusted = re.search(r"certificate verify failed: ([^(]+) \(", str(error))
    if untrusted:  # requests puts it behind the whole address of the call
        trust = "MLFLOW_TRACKING_SERVER_CERT_PATH names the file of an authority to trust"
        return f"MLflow at {uri()} could not be reached: certificate verify failed: {untrusted[1]} ({trust})"
    cause: BaseException | None = error
    # The errors of requests are OSErrors without a number, which those of the operating system have.
    while cause and not (isinstance(cause, OSError) and cause.errno is None):
        cause = cause.__cause__ or cause.__context__
    return f"MLflow at {uri()}{' could not be reached' if cause else ''}: {one_line(error)}"
