"""A service behind its guard, on a real server of the service's kind, and clients of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import uvicorn
import uvloop
from my_experiment.harness.protection import clients, guard
from my_experiment.harness.protection.clients import Client
from my_experiment.harness.serving import sockets
from my_experiment.harness.serving.interfaces import ANSWERS
from my_experiment.harness.serving.metrics import refused
from my_experiment.harness.serving.protocol import LimitedProtocol
from my_experiment.harness.serving.server import Server
from prometheus_client import Counter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

PATHS = ("/predict", "/explain", "/feedback", "/metrics", "/readyz", "/ui")


def new_client(name: str, *roles: str, **limits: Any) -> tuple[Client, str]:
    """A client and its key."""
    token, digest = clients.new_key()
    return Client.model_validate({"name": name, "sha256": [digest], "roles": roles, **limits}), token


async def answer(request: Request) -> Response:
    """Tells who asks, as what follows the guard sees it, and how many bytes came."""
    who = request.headers.getlist("x-forwarded-user")
    if "rows" in request.query_params:
        setattr(request.state, ANSWERS, int(request.query_params["rows"]))
    return JSONResponse({"who": who, "bytes": len(await request.body())})


def refusals(reason: str) -> Counter:
    """The counter of a reason."""
    return refused(reason, "test")


def guarded() -> ASGIApp:
    """An application behind the guard of the environment."""
    routes = [Route(path, answer, methods=["GET", "POST"]) for path in PATHS]
    return guard.guarded(Starlette(routes=routes), refusals, "test")


@contextlib.asynccontextmanager
async def serving(made: Callable[[], ASGIApp] = guarded) -> AsyncIterator[str]:
    """Runs an application as the service is run until the block ends; gives its address."""
    config = uvicorn.Config(made(), http=LimitedProtocol, log_config=None)
    server, listening = Server(config), sockets.listen("127.0.0.1", 0)
    running = asyncio.create_task(server.serve([listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running


def asking(url: str, token: str = "", local: str = "127.0.0.1", **options: Any) -> httpx.AsyncClient:
    """A client that has a key, and an address of its own."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    transport = httpx.AsyncHTTPTransport(verify=False, local_address=local)  # plain HTTP
    return httpx.AsyncClient(base_url=url, headers=headers, transport=transport, trust_env=False, **options)


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Runs a coroutine as the service does."""
    uvloop.run(main())  # type: ignore[arg-type]


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    """Waits until a condition holds."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.05)  # between two looks at the condition


def write(file: Path, *known: Client) -> None:
    """Writes the file of clients."""
    clients.write(file, known)
