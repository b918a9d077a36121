"""Admission: of requests that arrive together, as many are answered as may be pending; the others are refused first."""

import asyncio
from collections.abc import Iterable

import httpx
from my_experiment.harness.serving import admission
from my_experiment.harness.serving.limits import Limits
from my_experiment.harness.serving.metrics import refused
from my_experiment.harness.serving.refusal import BUSY
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

MOST = 20
BUSY_TOTAL = refused("busy", "test")


async def predict(request: Request) -> Response:
    return JSONResponse({"instances": len(await request.body())})


async def fail(request: Request) -> Response:
    raise RuntimeError


def ask(*rounds: Iterable[tuple[str, str]]) -> list[httpx.Response]:
    """Sends the requests of each round, a method and a path, at once; returns the last answers in order of arrival."""
    routes = [Route("/predict", predict, methods=["GET", "POST"]), Route("/fail", fail, methods=["POST"])]
    protected = admission.Admission(
        Starlette(routes=routes), Limits(pending=MOST), lambda reason: refused(reason, "test")
    )
    transport = httpx.ASGITransport(protected, raise_app_exceptions=False)

    async def main() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            for requests in rounds:
                coming = asyncio.as_completed([client.request(method, path) for method, path in requests])
                answers = [await answer for answer in coming]
        return answers

    return asyncio.run(main())


def test_requests_above_the_limit_are_refused_first() -> None:
    before = BUSY_TOTAL._value.get()
    answers = ask([("POST", "/predict")] * (MOST + 3))
    assert [answer.status_code for answer in answers] == [503] * 3 + [200] * MOST
    assert answers[0].headers["retry-after"] == "1"
    assert answers[0].json() == {"error": BUSY}
    assert BUSY_TOTAL._value.get() == before + 3


def test_a_get_request_is_always_answered() -> None:
    answers = ask([("POST", "/predict")] * MOST + [("GET", "/predict")] * MOST)
    assert {answer.status_code for answer in answers} == {200}


def test_an_answer_makes_room_and_so_does_a_failure() -> None:
    full = [("POST", "/predict")] * (2 * MOST)
    answers = ask(full, [("POST", "/fail")] * MOST, [("POST", "/predict")] * MOST)
    assert {answer.status_code for answer in answers} == {200}
