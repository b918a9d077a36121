"""The release of a service: the model that it must have, and its name at /readyz."""

import asyncio

import httpx
import pytest
from bentoml.exceptions import BentoMLException
from my_experiment.harness.serving import release
from my_experiment.harness.serving.model import ModelInfo
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

INFO = ModelInfo(input="tables", target="regression", sha256="ab" * 32)


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({}, ""),
        ({"SERVICE_RELEASE": "", "SERVICE_MODEL_SHA256": ""}, ""),
        ({"SERVICE_RELEASE": "0123456789ab", "SERVICE_MODEL_SHA256": "ab" * 32}, ""),
        ({"SERVICE_RELEASE": "two words"}, "at most 63 letters"),
        ({"SERVICE_RELEASE": "a\r\nx: y"}, "at most 63 letters"),
        ({"SERVICE_MODEL_SHA256": "ab"}, "has 64 digits"),
        ({"SERVICE_MODEL_SHA256": "cd" * 32}, "the release has the model cdcdcdcdcdcd, and this image abababababab"),
    ],
)
def test_only_the_model_of_the_release_is_served(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], problem: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if not problem:
        release.check(INFO)
        return
    with pytest.raises(BentoMLException, match=problem) as caught:
        release.check(INFO)
    assert "\n" not in str(caught.value)


def get(path: str) -> httpx.Response:
    """Asks a service that is not ready."""

    async def refuse(request: Request) -> Response:
        return Response(status_code=503)

    async def ask() -> httpx.Response:
        app = release.named(Starlette(routes=[Route("/readyz", refuse), Route("/livez", refuse)]))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.get(path)

    return asyncio.run(ask())


@pytest.mark.parametrize("name", ["", "0123456789ab"])
def test_an_answer_of_readyz_names_the_release_whatever_its_status(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("SERVICE_RELEASE", name)
    answer = get("/readyz")
    assert answer.status_code == 503
    assert answer.headers.get("x-release", "") == name
    assert "x-release" not in get("/livez").headers
