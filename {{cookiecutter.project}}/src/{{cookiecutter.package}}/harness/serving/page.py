"""The page at /ui, to try the model in a browser; `SERVICE_PAGE=off` in the environment switches it off.

It uses the public API alone. static/ is sent unchanged: no build step, nothing from another host. Examples and bounds
come from the model's description and from models/page.json, which `evaluate` writes.
"""

import json
import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import bentoml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from .model import FOLDER, read_model_info

STATIC = Path(__file__).parent / "static"
HTML = Path(__file__).parents[2] / "page.html"  # the owner's
# Types are given: the browser must not guess, and `mimetypes` depends on the system's configuration.
FILES = {
    "/ui": (HTML, "text/html"),
    "/ui/page.css": (STATIC / "page.css", "text/css"),
    "/ui/page.js": (STATIC / "page.js", "text/javascript"),
}
# https://developer.mozilla.org/en-US/docs/Web/HTTP/Guides/CSP: only the page's own files and service,
# and pictures that it made itself; nothing inline, no frame around it.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # another model may be behind the same address tomorrow
}


def enabled() -> bool:
    """Whether the page is served: SERVICE_PAGE is `on`, or not set."""
    return os.environ.get("SERVICE_PAGE", "on") == "on"


def mount(service: Any) -> None:
    """Adds the page to a service, unless it is switched off.

    Args:
        service: A BentoML service.
    """
    if enabled():
        bentoml.asgi_app(app(describe, FOLDER / "page.json"))(service)


def describe() -> dict[str, Any]:
    """The model as the page shows it."""
    info = read_model_info()
    description = info.model_dump()
    return {
        "version": info.version,
        "target_name": description["target_name"],
        "schema": info.requests.instance_schema(description),
        "file": info.requests.FILE,
        "level": getattr(info.answers, "LEVEL", None),  # of the intervals, if answers have any
    }


def app(describe: Callable[[], dict[str, Any]], content: Path) -> Starlette:
    """The application that serves the page.

    Args:
        describe: Returns the model as the page shows it; called once, for the first visitor.
        content: models/page.json. Without it the page has no examples, and its form no bounds and no choices.
    """

    @cache
    def described() -> dict[str, Any]:
        extra = json.loads(content.read_bytes()) if content.exists() else {}
        return {"examples": [], "properties": {}, "range": None} | extra | describe()

    def description(request: Request) -> Response:
        return JSONResponse(described(), headers=HEADERS)

    def send(file: Path, media_type: str, request: Request) -> Response:
        return FileResponse(file, media_type=media_type, headers=HEADERS)

    files = [Route(path, partial(send, *file)) for path, file in FILES.items()]
    return Starlette(routes=[*files, Route("/ui/description.json", description)])
