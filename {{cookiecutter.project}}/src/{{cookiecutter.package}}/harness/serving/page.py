"""The page at /ui, to try the model in a browser.

The environment variable SERVICE_PAGE=off disables it. The page uses only the public API. The files of static/ are sent
unchanged: no build step, nothing from another host. Examples and bounds come from the model's description and from
models/page.json, which `evaluate` writes.
"""

import json
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import bentoml
from bentoml.exceptions import BentoMLException
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from ..core.errors import UNREADABLE
from . import explain
from .model import FOLDER, read_model_info
from .switches import is_on

CONTENT = FOLDER / "page.json"
STATIC = Path(__file__).parent / "static"
HTML = Path(__file__).parents[2] / "page.html"  # the owner's
# Media types are explicit: browsers must not guess, and `mimetypes` depends on the system's configuration.
FILES = {
    "/ui": (HTML, "text/html"),
    "/ui/page.css": (STATIC / "page.css", "text/css"),
    "/ui/page.js": (STATIC / "page.js", "text/javascript"),
}
# https://developer.mozilla.org/en-US/docs/Web/HTTP/Guides/CSP: allows the page's files and service, and images that
# the page creates; forbids inline code and frames around the page.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # a later release may serve another model at the same address
}


def enabled() -> bool:
    """Whether the page is served: SERVICE_PAGE is `on`, or not set."""
    return is_on("SERVICE_PAGE")


def read(content: Path) -> dict[str, Any]:
    """The content of models/page.json; {} without the file.

    Args:
        content: Path of the file.

    Raises:
        BentoMLException: If it is damaged.
    """
    try:
        return dict(json.loads(content.read_bytes())) if content.exists() else {}
    except UNREADABLE:
        raise BentoMLException(f"{content} does not describe the page: run `dvc repro` or `dvc checkout`") from None


def documentation() -> Route:
    """The route of the interactive documentation, at /.

    It is BentoML's, which is loaded from its package, without Google's Tag Manager.
    """
    # Swagger UI sets styles and makes pictures itself.
    policy = HEADERS["Content-Security-Policy"].replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
    headers = HEADERS | {"Content-Security-Policy": policy.replace("img-src ", "img-src 'self' ")}

    def send(request: Request) -> Response:
        return FileResponse(STATIC / "docs.html", media_type="text/html", headers=headers)

    return Route("/", send)


def mount(service: Any) -> None:
    """Adds the page to a service, unless it is disabled.

    Args:
        service: A BentoML service.
    """
    if enabled():
        bentoml.asgi_app(app(describe, CONTENT))(service)


def describe() -> dict[str, Any]:
    """The description of the model for the page."""
    info = read_model_info()
    description = info.model_dump()
    return {
        "version": info.version,
        "target_name": description["target_name"],
        "schema": info.requests.instance_schema(description),
        "file": info.requests.FILE,
        "notation": marks(description.get("notation", {})),
        "level": getattr(info.answers, "LEVEL", None),  # of the prediction intervals; classes have none
        "decision": description.get("decision", {}),
        "typical": json.loads(explain.REFERENCE.read_bytes())["baseline"] if explain.enabled() else None,
    }


def marks(notation: Mapping[str, Any]) -> dict[str, Any] | None:
    """Marks in the numbers of a table; None if they are written as in JSON.

    Args:
        notation: Content of `notation` in models/model.json.
    """
    return {key: notation[key] for key in ("decimal", "thousands")} if "decimal" in notation else None


def app(describe: Callable[[], dict[str, Any]], content: Path) -> Starlette:
    """The application that serves the page.

    Args:
        describe: Function that returns the description of the model; called once, at the first visit.
        content: Path of models/page.json; without the file, the page has no examples, and its form no bounds or
            choices.
    """

    @cache
    def described() -> dict[str, Any]:
        return {"examples": [], "properties": {}, "range": None} | read(content) | describe()

    def description(request: Request) -> Response:
        return JSONResponse(described(), headers=HEADERS)

    def send(file: Path, media_type: str, request: Request) -> Response:
        return FileResponse(file, media_type=media_type, headers=HEADERS)

    files = [Route(path, partial(send, *file)) for path, file in FILES.items()]
    return Starlette(routes=[*files, Route("/ui/description.json", description)])
