"""Admission: of requests that arrive together as many are answered as may wait; the others are refused before that."""

import asyncio
from collections.abc import Iterable
from typing import Any
import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from my_experiment.harness.serving import admission

MOST = admission.MAX_PENDING


async def predict(request: Request) -> Response:
    return JSONResponse({"instances": len(await request.body())})



async def fail(request: Request) -> Response:
    raise RuntimeError



def ask(*rounds: Iterable[tuple[str, str]], refused: Counter | None = None) -> list[httpx.Response]:
    """Sends the requests of each round, a method and a path, all at once; gives the last one's answers as they came."""
    routes = [Route("/predict", predict, methods=["GET", "POST"]), Route("/fail", fail, methods=["POST"])]
    refused = refused or Counter("refused", "", registry=None)
    protected = admission.Admission(Starlette(routes=routes), refused)
    transport = httpx.ASGITransport(protected, raise_app_exceptions=False)

    async def main() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            for requests in rounds:
                coming = asyncio.as_completed([client.request(method, path) for method, path in requests])
                answers = [await answer for answer in coming]
        return answers

    return asyncio.run(main())



def test_those_too_many_are_refused_first() -> None:
    registry = CollectorRegistry()
    answers = ask([("POST", "/predict")] * (MOST + 3), refused=Counter("refused", "", registry=registry))
    assert [answer.status_code for answer in answers] == [503] * 3 + [200] * MOST
    assert answers[0].headers["retry-after"] == "1"
    assert answers[0].json() == {"error": admission.BUSY}
    assert registry.get_sample_value("refused_total") == 3



def test_bodies_that_are_too_much_together_are_refused_as_well() -> None:
    service = module("service")
    busy = object.__new__(service.Service.inner)  # without its model
    busy._held = service.MAX_HELD
    refused = service._refused()._value.get()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x", "more_body": False}

    async def read() -> None:
        headers = [(b"content-type", b"application/json")]
        async with busy._body(Request({"type": "http", "headers": headers}, receive), "application/json"):
            pass

    with pytest.raises(service.Refusal) as raised:
        asyncio.run(read())
    answer = raised.value.response()
    assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
    assert service._refused()._value.get() == refused + 1
    assert busy._held == service.MAX_HELD



def test_what_is_asked_with_get_is_always_answered() -> None:
    answers = ask([("POST", "/predict")] * MOST + [("GET", "/predict")] * MOST)
    assert {answer.status_code for answer in answers} == {200}



def test_each_answer_makes_room_and_each_failure() -> None:
    full = [("POST", "/predict")] * (2 * MOST)
    answers = ask(full, [("POST", "/fail")] * MOST, [("POST", "/predict")] * MOST)
    assert {answer.status_code for answer in answers} == {200}



