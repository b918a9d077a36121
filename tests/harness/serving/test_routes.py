"""Routes: what the service does not have is refused before BentoML counts it by its path."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from my_experiment.harness.serving.metrics import refused
from my_experiment.harness.serving.routes import Routes
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

PATH = refused("path", "test")


def answer(request: Request) -> Response:
    return PlainTextResponse("here")


@pytest.fixture
def routes(tmp_path: Path) -> list[BaseRoute]:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/page.css").write_text("css")
    return [
        Route("/predict", answer, methods=["POST"]),
        Route("/livez", answer),
        Mount("/static", StaticFiles(directory=tmp_path)),
        Mount("/under", Starlette(routes=[Route("/page", answer), Mount("/deep", routes=[Route("/page", answer)])])),
        Route("/items/{number}", answer),
        Route("/", answer),
    ]


def ask(routes: Sequence[BaseRoute], *requests: tuple[str, str]) -> tuple[list[int], list[str]]:
    """Statuses of the answers, and the paths of the requests that have passed."""
    seen: list[str] = []
    application = Starlette(routes=routes)

    async def bentoml(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["path"])
        await application(scope, receive, send)

    async def main() -> list[int]:
        transport = httpx.ASGITransport(Routes(bentoml, routes, PATH))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [(await client.request(method, path)).status_code for method, path in requests]

    return asyncio.run(main()), seen


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/predict", "POST", 200),
        ("/predict", "GET", 405),
        ("/livez", "HEAD", 200),
        ("/livez", "POST", 405),
        ("/static/sub/page.css", "GET", 200),
        ("/under/page", "GET", 200),
        ("/under/deep/page", "GET", 200),
        ("/items/7", "GET", 200),
        ("/", "GET", 200),
    ],
)
def test_a_path_with_a_route_passes(routes: list[BaseRoute], path: str, method: str, status: int) -> None:
    assert ask(routes, (method, path)) == ([status], [path])


@pytest.mark.parametrize(("path", "to"), [("/livez/", "../livez"), ("/under/page/", "../page")])
def test_a_path_with_a_slash_too_many_is_redirected_without_naming_a_host(
    routes: list[BaseRoute], path: str, to: str
) -> None:
    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(Routes(Starlette(), routes, PATH))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path, headers={"host": "evil.example"})

    answer = asyncio.run(main())
    assert (answer.status_code, answer.headers["location"]) == (307, to)
    assert ask(routes, ("GET", path)) == ([307], [])


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "BREW"])
@pytest.mark.parametrize(
    "path",
    ["/x", "/predict/x", "/predict//", "/livez///", "/static", "/static/x", "/items", "/items/1/2"],
)
def test_a_path_without_a_route_does_not_pass(routes: list[BaseRoute], path: str, method: str) -> None:
    before = PATH._value.get()
    assert ask(routes, (method, path)) == ([404], [])
    assert PATH._value.get() == before + 1


def test_a_websocket_without_a_route_is_closed(routes: list[BaseRoute]) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Routes(Starlette(), routes, PATH)({"type": "websocket", "path": "/x"}, None, send))  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close"}]
