"""The page of the service: its files and headers, and that it loads nothing from another host."""

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from bentoml.exceptions import BentoMLException
from my_experiment.harness.serving import checks, page
from starlette.applications import Starlette
from support import ROOT

ROUTES = """
from my_experiment import service
print([path for app, *_ in service.Service.mount_apps for path in (route.path for route in app.routes)])
"""


def get(path: str, content: Path) -> httpx.Response:
    """An answer of the page, for a model with a short description."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(page.app(lambda: {"version": "1"}, content))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path)

    return asyncio.run(ask())


@pytest.mark.parametrize(("path", "start"), [("", b"<!doctype html>"), ("/page.css", b"/*"), ("/page.js", b"//")])
def test_the_files_are_sent_under_a_strict_policy(tmp_path: Path, path: str, start: bytes) -> None:
    answer = get(f"/ui{path}", tmp_path / "page.json")
    assert answer.status_code == 200
    assert answer.content.startswith(start)
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    types = {"": "text/html", "/page.css": "text/css", "/page.js": "text/javascript"}
    assert answer.headers["content-type"].partition(";")[0] == types[path]


def test_the_files_load_nothing_from_another_host() -> None:
    for file in (page.HTML, *page.STATIC.iterdir()):
        text = file.read_text(encoding="utf-8")
        if file.suffix != ".html":  # a name or description may hold an address, as text
            assert not re.search(r"//[a-z]", re.sub(r"^ *//.*$", "", text, flags=re.M)), file
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(|@import|url\(", text), file
    html = page.HTML.read_text(encoding="utf-8")
    # The policy would refuse what is inline; relative, so that the page works behind a prefix too.
    assert not re.search(r"<style|\bstyle=|\bon[a-z]+=|<script(?![^>]*src=)", html)
    assert set(re.findall(r'(?:src|href)="([^"]*)"', html)) == {"data:,", "ui/page.css", "ui/page.js", "."}


def test_the_description_joins_the_model_with_what_evaluate_wrote(tmp_path: Path) -> None:
    content = tmp_path / "page.json"
    empty: dict[str, Any] = {"examples": [], "properties": {}, "range": None, "version": "1"}
    assert get("/ui/description.json", content).json() == empty
    more: dict[str, Any] = {"examples": [{"file": "", "actual": "a"}], "range": [0, 1]}
    content.write_text(json.dumps(more), encoding="utf-8")
    answer = get("/ui/description.json", content)
    assert answer.json() == empty | more
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize("content", ['{"examples": [', "[1]", "3", "[" * 100_000])
def test_a_damaged_description_of_the_page_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setattr(page, "CONTENT", tmp_path / "page.json")
    monkeypatch.setattr(checks, "read_model_info", lambda: None)  # there is no model here
    checks.check_model()  # a model from before the page is served without examples
    (tmp_path / "page.json").write_text(content)
    with pytest.raises(BentoMLException, match=r"page\.json does not describe the page: run `dvc repro`") as told:
        checks.check_model()
    assert "\n" not in str(told.value)
    monkeypatch.setenv("SERVICE_PAGE", "off")
    checks.check_model()


def test_the_documentation_loads_nothing_from_another_host() -> None:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(Starlette(routes=[page.documentation()]))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/")

    answer = asyncio.run(ask())
    assert "swagger-ui" in answer.text and "//" not in answer.text
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "script-src 'self';" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_form_knows_how_numbers_are_written() -> None:
    assert page.marks({}) is page.marks({"nulls": ["NA"]}) is None
    german = {"decimal": ",", "thousands": "."}
    assert page.marks({"nulls": ["NA"], **german}) == german


@pytest.mark.parametrize(("value", "on"), [(None, True), ("on", True), ("off", False), ("0", False), ("", True)])
def test_it_is_on_until_it_is_switched_off(monkeypatch: pytest.MonkeyPatch, value: str | None, on: bool) -> None:
    if value is None:
        monkeypatch.delenv("SERVICE_PAGE", raising=False)
    else:
        monkeypatch.setenv("SERVICE_PAGE", value)
    assert page.enabled() == on


@pytest.mark.parametrize("value", ["on", "off"])
def test_the_service_has_the_routes_of_the_page_or_none(value: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "SERVICE_PAGE": value}
    done = subprocess.run([sys.executable, "-c", ROUTES], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([*page.FILES, "/ui/description.json"] if value == "on" else [])
