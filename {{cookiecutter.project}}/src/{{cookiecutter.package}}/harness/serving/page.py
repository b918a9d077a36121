"""A page to try the model in a browser, at /ui of the service. `SERVICE_PAGE=off` in the environment switches it off.

It asks the same public API as everybody else. static/ is sent as it lies there: no build step, nothing from elsewhere.
What it shows beside the answers comes from the model's description and from models/page.json, which `evaluate` writes.
"""

import json
import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

STATIC = Path(__file__).parent / "static"
# Types are given, for the browser is told not to guess, and mimetypes answers as the system is configured.
FILES = {
    "/ui": ("index.html", "text/html"),
    "/ui/page.css": ("page.css", "text/css"),
    "/ui/page.js": ("page.js", "text/javascript"),
}
# https://developer.mozilla.org/en-US/docs/Web/HTTP/Guides/CSP: the page's own files, its own service, and the pictures
# that it holds itself; nothing inline, nobody may frame it.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # another model may be behind the same address tomorrow
}


def enabled() -> bool:
    """Say whether the page is served: unless SERVICE_PAGE has any other value than `on`."""
    return os.environ.get("SERVICE_PAGE", "on") == "on"


def app(describe: Callable[[], dict[str, Any]], content: Path) -> Starlette:
    """Make the routes of the page.

    Args:
        describe: Returns what the page must know of the model; asked once, when the page is.
        content: models/page.json. Without it the page has no examples, and its form no bounds and no choices.
    """

    @cache
    def described() -> dict[str, Any]:
        more = json.loads(content.read_bytes()) if content.exists() else {}
        return {"examples": [], "properties": {}, "range": None} | more | describe()

    def description(request: Request) -> Response:
        return JSONResponse(described(), headers=HEADERS)

    def send(name: str, media_type: str, request: Request) -> Response:
        return FileResponse(STATIC / name, media_type=media_type, headers=HEADERS)

    files = [Route(path, partial(send, *file)) for path, file in FILES.items()]
    return Starlette(routes=[*files, Route("/ui/description.json", description)])
