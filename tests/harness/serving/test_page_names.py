"""Names of columns, classes and values that are HTML or code, on the page in a real browser: they are text."""

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from browser import browser as browser
from browser import opened
from my_experiment.harness import targets
from my_experiment.harness.serving import page, sockets
from playwright.sync_api import Browser, expect
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

CODE = "document.title='owned'"
HOSTILE = [
    f"<script>{CODE}</script>",
    f"<img src=x onerror={CODE}>",
    f"</span><svg onload={CODE}>",
    f'"><iframe srcdoc="<script>top.{CODE}</script>">',
    f"' onfocus='{CODE}' autofocus='",
    f"javascript:{CODE}",
    f"${{{CODE}}}{{{{{CODE}}}}}",
    f"</option></select><body onpageshow={CODE}>",
    "__proto__",
    "\u202egnp.exe\n\u2028&lt;b&gt;",
]
DESCRIPTION: dict[str, Any] = {"target": "classification", "classes": HOSTILE, "input": "tables"}


def described() -> dict[str, Any]:
    """The description of a model of which every name is hostile."""
    properties = {name: {"type": ["number" if place % 2 else "string"]} for place, name in enumerate(HOSTILE)}
    return {
        "version": HOSTILE[1],
        "target_name": HOSTILE[0],
        "schema": {"type": "object", "properties": properties},
        "file": HOSTILE[3],
        "notation": None,
        "level": None,
        "decision": {},
        "typical": dict.fromkeys(HOSTILE, HOSTILE[2]),
    }


async def predict(request: Request) -> Response:
    """The answer of a classifier."""
    await request.json()
    output = np.linspace(1, 2, len(HOSTILE), dtype=np.float32)[None]
    predictions = targets.target(DESCRIPTION).answers(output / output.sum(), DESCRIPTION)
    return JSONResponse({"id": "1", "model_version": HOSTILE[2], "predictions": predictions})


async def explain(request: Request) -> Response:
    """An explanation that uses every name and value."""
    instance = (await request.json())["instances"][0]
    (prediction,) = json.loads(bytes((await predict(request)).body))["predictions"]
    changes = {name: {"from": instance[name], "to": HOSTILE[4]} for name in HOSTILE}
    found = {
        "explained": HOSTILE[5],
        "baseline": 0,
        "answer": 1,
        "attributions": {name: place - 4.5 for place, name in enumerate(HOSTILE)},
        "counterfactuals": [{"changes": changes, "prediction": prediction}],
    }
    return JSONResponse({"id": "1", "model_version": "1", "explanations": [found]})


async def refuse(request: Request) -> Response:
    """A refusal that repeats what was sent, and more."""
    return JSONResponse({"error": "".join(HOSTILE)}, 400)


@pytest.fixture(params=[predict, refuse], ids=["answered", "refused"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The page as the service serves it."""
    example = {"instance": dict.fromkeys(HOSTILE, None), "actual": HOSTILE[1]}
    bounds = {name: {"choices": HOSTILE} for name in HOSTILE[::2]}
    content = tmp_path / "page.json"
    content.write_text(json.dumps({"examples": [example], "properties": bounds}), encoding="utf-8")
    made = page.app(described, content)
    made.router.routes += [Route("/predict", request.param, methods=["POST"])]
    made.router.routes += [Route("/explain", explain, methods=["POST"])]
    server = uvicorn.Server(uvicorn.Config(made, log_config=None))
    with contextlib.closing(sockets.listen("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def test_hostile_names_are_text(address: str, browser: Browser, request: pytest.FixtureRequest) -> None:
    is_refused = "refused" in request.node.name
    with opened(browser, address, refused=is_refused) as found:
        title = found.title()
        found.on("dialog", lambda dialog: pytest.fail(dialog.message))
        found.get_by_role("button", name="Example 1").click()
        if is_refused:
            expect(found.locator("#answer")).to_contain_text(HOSTILE[0])
        else:
            expect(found.locator(".bars li").first).to_contain_text(HOSTILE[-1].split("\n")[0])
            found.get_by_role("button", name="Why this answer?").click()
            expect(found.locator(".why li").first).to_contain_text(HOSTILE[0])
            shown = found.locator(".why").inner_text()
            assert all(name.split("\n")[0] in shown for name in HOSTILE)
        names = found.locator("#fields label > span").evaluate_all("found => found.map(each => each.firstChild.data)")
        assert names == HOSTILE
        assert found.locator("main, body").locator("script:not([src]), img[src=x], svg, iframe, [onerror]").count() == 0
        assert found.title() == title
        assert found.evaluate("({}).choices === undefined && ({}).type === undefined")
