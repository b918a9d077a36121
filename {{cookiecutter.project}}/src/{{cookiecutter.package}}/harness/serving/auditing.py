"""The audit log of the service, which the environment variable SERVICE_AUDIT switches on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bentoml.exceptions import BentoMLException

from .. import audit
from ..core.errors import UserError
from .feedback import contributor
from .switches import PREFIX

if TYPE_CHECKING:
    from starlette.requests import Request

    from ..audit.chain import Fact
    from .limits import Limits
    from .model import ModelInfo

SECRET = re.compile("KEY|SECRET|TOKEN|PASSWORD")  # in the name of a variable whose value is not recorded


def folder() -> Path | None:
    """The folder of the audit log; None if nothing is recorded.

    Raises:
        BentoMLException: If the folder cannot be made or written to.
    """
    try:
        return audit.folder()
    except UserError as error:
        raise BentoMLException(str(error)) from None


def start(info: ModelInfo, limits: Limits) -> None:
    """Begins to record, with the start and the configuration.

    Args:
        info: The model.
        limits: Limits of the requests.
    """
    if folder():
        audit.start()
        audit.record("start", model_version=info.version)
        audit.record("configuration", **dict(settings(os.environ)), **limits._asdict())


def settings(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yields the variables of the service, without secrets.

    Args:
        environment: The environment variables.
    """
    for name, value in sorted(environment.items()):
        if name.startswith(PREFIX):
            # A URL may hold a password before its host.
            yield name, "set" if SECRET.search(name) else re.sub("//[^/@]*@", "//", value)


def record(event: str, request: Request, **facts: Fact) -> None:
    """Records what a client did.

    Args:
        event: What.
        request: Its request.
        **facts: What exactly; never a payload.
    """
    address = request.client.host if request.client else None
    audit.record(event, client=contributor(request.headers), address=address, **facts)


def stop() -> None:
    """Records the end, and prints the head."""
    audit.record("stop")
    audit.stop()
