"""Heads of requests, over real connections: too large, too many, too slow; and requests without end."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from my_experiment.harness.serving import protocol
from my_experiment.harness.serving.admission import Admission
from my_experiment.harness.serving.limits import Limits
from my_experiment.harness.serving.metrics import refused
from my_experiment.harness.serving.server import Server
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

BODY = "x" * 9000
HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"


class Answers:
    """An application that counts what it answers."""

    def __init__(self) -> None:
        self.number = 0

    async def answer(self, request: Request) -> Response:
        self.number += 1
        return PlainTextResponse(BODY)


@contextlib.asynccontextmanager
async def serving(answers: Answers, limits: Limits | None = None) -> AsyncIterator[tuple[int, Server]]:
    app: ASGIApp = Starlette(routes=[Route("/", answers.answer, methods=["GET", "POST"])])
    app = Admission(app, limits, lambda reason: refused(reason, "test")) if limits else app
    config = uvicorn.Config(app, http=protocol.LimitedProtocol, lifespan="off", log_config=None)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Server(config)
        task = asyncio.create_task(server.serve([listening]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield listening.getsockname()[1], server
        server.should_exit = True
        await task


def test_workers_of_a_socket_share_its_connections() -> None:
    async def main() -> None:
        config = uvicorn.Config(Starlette(), http=protocol.LimitedProtocol, lifespan="off", log_config=None)
        with socket.create_server(("127.0.0.1", 0)) as listening, contextlib.ExitStack() as clients:
            servers = [Server(config, shared=True) for _ in range(2)]
            tasks = [asyncio.create_task(server.serve([listening.dup()])) for server in servers]
            while not all(server.started for server in servers):
                await asyncio.sleep(0.01)
            for _ in range(40):
                clients.enter_context(socket.create_connection(listening.getsockname()))
            held: list[int] = []
            while sum(held) < 40:
                await asyncio.sleep(0.01)
                held = [len(server.server_state.connections) for server in servers]
            assert min(held) >= 10
            for server in servers:
                server.should_exit = True
            await asyncio.gather(*tasks)

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_busy_service_refuses_before_the_body_and_keeps_the_connection() -> None:
    async def main() -> None:
        async with serving(answers := Answers(), Limits(pending=0)) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 503")
            await reader.readuntil(b"}")
            writer.write(b"0123456789" + HEAD + b"\r\n")  # the body of the refused request, then another request
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            assert answers.number == 1
            writer.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def talk(speak: Callable[[asyncio.StreamReader, asyncio.StreamWriter, Answers], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        answers = Answers()
        async with serving(answers) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                return await asyncio.wait_for(speak(reader, writer, answers), 20)
            finally:
                writer.close()

    return asyncio.run(main())


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Sends as much as the server takes."""
    with contextlib.suppress(OSError):
        for start in range(0, len(data), 2**16):
            writer.write(data[start : start + 2**16])
            await writer.drain()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 10**6,
        HEAD + b"a: b\r\n" * 200 + b"\r\n",
        HEAD + b"a: " + b"b" * 10**6,
        HEAD + b"b" * 10**6,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"a" * 10**6,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 10**5,
    ],
    ids=["line", "headers", "value", "name", "chunk", "trailers"],
)
def test_a_large_head_ends_the_connection(head: bytes) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: Answers) -> bytes:
        await send(writer, head)
        with contextlib.suppress(ConnectionError):
            return await reader.read()
        return b""

    answer = talk(speak)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 200"))


def test_a_slow_head_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: Answers) -> bytes:
        writer.write(HEAD)
        return await reader.read()

    assert b"400" in talk(speak).partition(b"\r\n")[0]

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: Answers) -> bytes:
        return await reader.read()

    assert talk(say_nothing).startswith(b"HTTP/1.1 400")


def test_requests_in_one_packet_are_answered_in_order() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: Answers) -> int:
        writer.write((HEAD + b"\r\n") * 40)
        for _ in range(40):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            await reader.readexactly(len(BODY))
        return answers.number

    assert talk(speak) == 40


def test_too_many_requests_in_one_packet_end_the_connection() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: Answers) -> int:
        await send(writer, (HEAD + b"\r\n") * 5000)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        return answers.number

    assert talk(speak) <= protocol.WAITING + 1


def test_a_client_that_reads_no_answer_is_answered_no_more() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: Answers) -> int:
        seen = -1
        while answers.number != seen:  # until the server has stopped
            seen = answers.number
            for _ in range(40):
                writer.write((HEAD + b"\r\n") * 20)
            await asyncio.sleep(0.2)
        return answers.number

    # What the buffers of both sides hold, of answers of 9 kB.
    assert talk(speak) < 1500


def test_malformed_requests_do_not_fill_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    auto = uvicorn.protocols.http.auto
    monkeypatch.setattr(auto, "AutoHTTPProtocol", auto.AutoHTTPProtocol)  # to be put back
    protocol.install()

    async def main() -> None:
        async with serving(Answers()) as (port, _):
            for number in range(50):
                if number == 49:
                    monkeypatch.setattr(protocol._SELDOM, "_again", {})  # as if a minute had passed
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GARBAGE\r\n\r\n")
                assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
                writer.close()

    asyncio.run(main())
    told = [record.getMessage() for record in caplog.records if "Invalid HTTP request" in record.getMessage()]
    first, last = told
    assert first == "Invalid HTTP request received."
    assert last == f"{first} And 48 more since the last line of this text."
