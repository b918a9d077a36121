"""Routes: a path that the service does not have is refused first.

BentoML's metrics have the path of a request as a label, so that each unknown path would add 15 series that stay: after
3,000 of them, a scrape stops the service for seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.staticfiles import StaticFiles

from .refusal import Refusal

if TYPE_CHECKING:
    from prometheus_client import Counter
    from starlette.types import ASGIApp, Receive, Scope, Send


class Routes:
    """ASGI middleware that answers 404 for a path without a route.

    A known path with another method is BentoML's to refuse (405).
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute], refused: Counter) -> None:
        """Wraps an application.

        Args:
            app: The application.
            routes: Its routes.
            refused: Counter of the refusals.
        """
        self._app = app
        self._paths = set(_paths(routes))
        # Asked only for a path that is not in the set: routes with a parameter, and mounts of the owner's.
        self._routes = [route for route in routes if not _is_folder(route)]
        self._refused = refused
        self._refusal = Refusal(404, "there is no such path: /docs.json describes those that there are").response()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if scope["type"] == "http" and path not in self._paths and path.removesuffix("/") in self._paths:
            # Relative: Starlette's redirect names the host of the request's header, whoever wrote it.
            last = path.removesuffix("/").rpartition("/")[2]
            await Response(status_code=307, headers={"location": f"../{last}"})(scope, receive, send)
            return
        if self._known(scope):
            await self._app(scope, receive, send)
            return
        self._refused.inc()
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            await self._refusal(scope, receive, send)

    def _known(self, scope: Scope) -> bool:
        path = scope["path"]
        return path in self._paths or any(route.matches(scope)[0] is not Match.NONE for route in self._routes)


def _is_folder(route: BaseRoute) -> bool:
    """Whether a route sends the files of a folder; it matches all paths, whether there is a file or not."""
    return isinstance(route, Mount) and isinstance(route.app, StaticFiles)


def _paths(routes: Sequence[BaseRoute], prefix: str = "") -> Iterator[str]:
    """The paths of routes, except those that a parameter matches."""
    for route in routes:
        if isinstance(route, Mount) and isinstance(route.app, StaticFiles):
            for folder in map(Path, route.app.all_directories):
                files = (file for file in folder.rglob("*") if file.is_file())
                yield from (f"{prefix}{route.path}/{file.relative_to(folder).as_posix()}" for file in files)
        elif isinstance(route, Mount):
            yield from _paths(route.routes, prefix + route.path)
        elif isinstance(route, Route):
            yield prefix + route.path
