"""The log of requests, answers and feedback, which the environment variable SERVICE_LOG switches on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bentoml.exceptions import BentoMLException

from ..capture import settings
from ..contracts import Description
from ..core.errors import UNREADABLE, UserError
from .metrics import LOG_BYTES, LOG_DROPPED, LOG_ROWS, counter
from .model import FOLDER

if TYPE_CHECKING:
    from ..capture.log import Log
    from .model import ModelInfo

SCHEMA = "page.json"  # of the columns


def log_settings(info: ModelInfo) -> settings.Settings | None:
    """The settings in the environment; None if nothing is kept.

    Args:
        info: The model.

    Raises:
        BentoMLException: If a variable has a wrong value, or it is unknown which columns are private.
    """
    if not settings.enabled():
        return None
    try:
        return settings.read(private(FOLDER, info.model_dump()))
    except UserError as error:
        raise BentoMLException(str(error)) from None


def private(folder: Path, description: Description) -> Mapping[str, str]:
    """Private column -> `drop` or `hash`.

    Args:
        folder: Folder of the model.
        description: Content of models/model.json.

    Raises:
        UserError: If it is unknown which columns are private.
    """
    if "columns" not in description:
        return {}
    try:
        properties = json.loads((folder / SCHEMA).read_bytes())["properties"]
        return {name: facts["private"] for name, facts in properties.items() if "private" in facts}
    except (OSError, *UNREADABLE):
        path = folder / SCHEMA
        raise UserError(f"{path}, which says what columns are private, is missing: run `dvc repro`") from None


def open_log(info: ModelInfo) -> Log | None:
    """The log of this process; None if nothing is kept.

    Args:
        info: The model.
    """
    if (found := log_settings(info)) is None:
        return None
    from ..capture.log import Log
    from ..capture.segments import REASONS, Counts

    for reason in REASONS:  # at 0: Prometheus does not see the first increase of a counter that appears with it
        counter(LOG_DROPPED, info.version, reason)
    counts = Counts(
        counter(LOG_ROWS, info.version).inc,
        counter(LOG_BYTES, info.version).inc,
        lambda reason, rows: counter(LOG_DROPPED, info.version, reason).inc(rows),
    )
    return Log(found, info.model_dump(), counts)
