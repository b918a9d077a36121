"""The guard of the service: `harness/protection`, in projects of scope `production`."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import click
from bentoml.exceptions import BentoMLException

from ..core.errors import UserError

if TYPE_CHECKING:
    from bentoml._internal.service.openapi.specification import OpenAPISpecification
    from prometheus_client import Counter
    from starlette.types import ASGIApp

ROOM = Path(__file__).parents[1] / "protection"
LOCAL = ("127.0.0.1", "::1", "localhost")
VARIABLES = ("SERVICE_KEYS", "SERVICE_TRUSTED_PROXIES", "SERVICE_RATE_STORAGE")


class Protection(Protocol):
    """What the service needs of the module `protection.guard`."""

    def guarded(self, app: ASGIApp, refused: Callable[[str], Counter], version: str) -> ASGIApp:
        """An application behind its guard; the application itself if anybody may ask.

        Args:
            app: The application.
            refused: The counter of the requests that are refused for a reason.
            version: The model's version.

        Raises:
            UserError: If the settings are wrong.
        """

    def documented(self, spec: OpenAPISpecification) -> OpenAPISpecification:
        """An OpenAPI document that says where a key is needed; the document itself if anybody may ask.

        Args:
            spec: The document.

        Raises:
            UserError: If the settings are wrong.
        """

    def check(self) -> str | None:
        """A line that says who may ask; None if anybody may.

        Raises:
            UserError: If the settings are wrong.
        """


def protection() -> Protection | None:
    """The guard; None if the project has none.

    Raises:
        BentoMLException: If the environment asks for one that the project does not have.
    """
    if (ROOM / "guard.py").exists():
        return cast(Protection, importlib.import_module("..protection.guard", __package__))
    if names := [name for name in VARIABLES if os.environ.get(name)]:
        raise BentoMLException(f"{names[0]}: only projects of scope=production have keys, see docs/update.md")
    return None


def guarded(app: ASGIApp, refused: Callable[[str], Counter], version: str) -> ASGIApp:
    """An application behind its guard, if there is one.

    Args:
        app: The application.
        refused: The counter of the requests that are refused for a reason.
        version: The model's version.
    """
    room = protection()
    return room.guarded(app, refused, version) if room else app


def documented(spec: OpenAPISpecification) -> OpenAPISpecification:
    """An OpenAPI document that says where a key is needed, if there is a guard.

    Args:
        spec: The document.
    """
    room = protection()
    return room.documented(spec) if room else spec


def check() -> None:
    """Verifies the settings of the guard, and prints who may ask.

    Raises:
        BentoMLException: If they are wrong.
    """
    room = protection()
    try:
        told = room.check() if room else None
    except UserError as error:
        raise BentoMLException(str(error)) from None
    options = _options()
    if told:
        print(told, flush=True)
    elif room and options.get("host", LOCAL[0]) not in LOCAL and not options.get("ssl_ca_certs"):
        print(
            f"Whoever reaches {options['host']} may ask this service and see its metrics: SERVICE_KEYS names those who "
            "may, see docs/keys.md",
            flush=True,
        )


def _options() -> dict[str, Any]:
    """Options of the command that starts the service: this project's `serve` or `bentoml serve`."""
    context = click.get_current_context(silent=True)
    return dict(context.params) if context else {}
