"""Admission: of requests that arrive together, as many are answered as may be pending; the others are refused first."""

import asyncio
from collections.abc import Iterable
from typing import Any

import httpx
import pytest
from my_experiment.harness.serving import admission
from my_experiment.harness.serving.body import Bodies
from my_experiment.harness.serving.limits import Limits
from my_experiment.harness.serving.refusal import BUSY, Refusal, refused_total
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

MOST = 20


async def predict(request: Request) -> Response:
    return JSONResponse({"instances": len(await request.body())})


async def fail(request: Request) -> Response:
    raise RuntimeError


def refused() -> float:
    """The requests refused so far."""
    value: float = refused_total()._value.get()
    return value


def ask(*rounds: Iterable[tuple[str, str]]) -> list[httpx.Response]:
    """Sends the requests of each round, a method and a path, at once; returns the last answers in order of arrival."""
    routes = [Route("/predict", predict, methods=["GET", "POST"]), Route("/fail", fail, methods=["POST"])]
    protected = admission.Admission(Starlette(routes=routes), MOST)
    transport = httpx.ASGITransport(protected, raise_app_exceptions=False)

    async def main() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            for requests in rounds:
                coming = asyncio.as_completed([client.request(method, path) for method, path in requests])
                answers = [await answer for answer in coming]
        return answers

    return asyncio.run(main())


def test_requests_above_the_limit_are_refused_first() -> None:
    before = refused()
    answers = ask([("POST", "/predict")] * (MOST + 3))
    assert [answer.status_code for answer in answers] == [503] * 3 + [200] * MOST
    assert answers[0].headers["retry-after"] == "1"
    assert answers[0].json() == {"error": BUSY}
    assert refused() == before + 3


@pytest.mark.parametrize(
    ("limits", "status"), [(Limits(held_bytes=9), 503), (Limits(body_bytes=3), 413), (Limits(), None)]
)
def test_a_body_above_a_limit_is_refused(limits: Limits, status: int | None) -> None:
    bodies, before = Bodies(limits), refused()
    bodies.held_bytes = 8  # of another request

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"four", "more_body": False}

    async def read() -> bytes:
        headers = [(b"content-type", b"application/json")]
        async with bodies.read(Request({"type": "http", "headers": headers}, receive), "application/json") as (_, body):
            return body

    if status is None:
        assert asyncio.run(read()) == b"four"
    else:
        with pytest.raises(Refusal) as raised:
            asyncio.run(read())
        answer = raised.value.response()
        assert answer.status_code == status
        assert answer.headers.get("retry-after") == ("1" if status == 503 else None)
        assert refused() == before + (status == 503)
    assert bodies.held_bytes == 8


def test_a_get_request_is_always_answered() -> None:
    answers = ask([("POST", "/predict")] * MOST + [("GET", "/predict")] * MOST)
    assert {answer.status_code for answer in answers} == {200}


def test_an_answer_makes_room_and_so_does_a_failure() -> None:
    full = [("POST", "/predict")] * (2 * MOST)
    answers = ask(full, [("POST", "/fail")] * MOST, [("POST", "/predict")] * MOST)
    assert {answer.status_code for answer in answers} == {200}
