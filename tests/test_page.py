"""The page to try a model of pictures, used in a real Chromium. For tables see test_tabular.py, which serves them."""

import base64
import gzip
import io
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from browser import browser as browser
from browser import opened, shares
from conftest import BakedProject, Copy, free_port, wait_until_ready
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from test_readme import serve, stop

pytestmark = [pytest.mark.pipeline, pytest.mark.service]

DROP = """([kind, bytes, name]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([Uint8Array.from(atob(bytes), c => c.charCodeAt(0))], name));
  const event = kind === "drop" ? new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true })
                                : new ClipboardEvent(kind, { clipboardData: transfer, bubbles: true });
  document.body.dispatchEvent(event);
}"""


@contextmanager
def served(project: BakedProject, environment: str = "") -> Iterator[str]:
    """Serves a project in one process; gives its address."""
    port = free_port()
    command = f"{environment} PYTHONPATH=src BENTOML_DO_NOT_TRACK=true exec {sys.executable} -m my_experiment serve"
    with serve(project, f"{command} --port {port}", port) as server:
        wait_until_ready(f"http://127.0.0.1:{port}/readyz", server)
        yield f"http://127.0.0.1:{port}"
        told = stop(server)
    assert "Traceback" not in told


@pytest.fixture(scope="module")
def address(quick_project: BakedProject) -> Iterator[str]:
    with served(quick_project) as found:
        yield found


@pytest.fixture(scope="module")
def picture(quick_project: BakedProject) -> bytes:
    """A digit of the test split as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(np.load(quick_project.path / "data/prepared/test/images.npy")[7, :, :, 0]).save(file, "PNG")
    return file.getvalue()


def answer(address: str, file: bytes) -> dict[str, float]:
    """Class -> probability, as the public API gives them, the most probable first."""
    asked = httpx.post(f"{address}/predict_file", files={"file": file}).json()
    found: dict[str, float] = asked["predictions"][0]["probabilities"]
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def shows(page: Page, expected: dict[str, float]) -> None:
    """Checks that the page shows a prediction: the label, and every class with its probability and its bar."""
    expect(page.locator(".result")).to_have_text(next(iter(expected)))
    found = shares(page)
    assert list(found) == list(expected)
    assert [value for value, _ in found.values()] == pytest.approx(list(expected.values()), rel=1e-6)
    # A pixel shows even of what is next to nothing.
    assert [width for _, width in found.values()] == pytest.approx(list(expected.values()), abs=0.01)


def test_a_picture_is_chosen_dropped_or_pasted(address: str, browser: Browser, picture: bytes, tmp_path: Path) -> None:
    (tmp_path / "digit.png").write_bytes(picture)
    expected = answer(address, picture)
    for way in ("choose", "drop", "paste"):
        with opened(browser, address) as page:
            expect(page.locator("#answer")).to_be_empty()
            if way == "choose":
                page.get_by_label("choose a file").set_input_files(tmp_path / "digit.png")
            else:
                page.evaluate(DROP, [way, base64.b64encode(picture).decode(), "digit.png"])
            expect(page.locator(".details")).to_contain_text(" ms by model ")
            shows(page, expected)
            expect(page.locator("#preview")).to_be_visible()
            expect(page.locator(".truth")).to_have_count(0)


def test_an_example_is_answered_like_its_file(quick_project: BakedProject, address: str, browser: Browser) -> None:
    examples = json.loads(quick_project.read("models/page.json"))["examples"]
    model = json.loads(quick_project.read("models/model.json"))
    assert len(examples) == 6
    with opened(browser, address) as page:
        expect(page.locator("#version")).to_have_text(model["sha256"][:12])
        assert page.locator("#examples button").count() == 6
        for index in (0, 5):
            # By the keyboard alone.
            page.get_by_role("button", name=f"Example {index + 1}, class: {examples[index]['actual']}").press("Enter")
            expect(page.locator(".truth")).to_have_text(f"actual: {examples[index]['actual']}")
            shows(page, answer(address, base64.b64decode(examples[index]["file"])))


def test_a_picture_is_explained_on_the_page(quick_project: BakedProject, browser: Browser, picture: bytes) -> None:
    """By the keyboard alone: the heading is focused, so that it is read from there, and cells are named in words."""
    with served(quick_project, "SERVICE_EXPLAIN=on") as address:
        asked = httpx.post(f"{address}/explain", files={"file": picture}).json()["explanations"][0]
        with opened(browser, address) as page:
            page.get_by_label("choose a file").set_input_files(
                {"name": "digit.png", "mimeType": "image/png", "buffer": picture}
            )
            page.get_by_role("button", name="Why this answer?").press("Enter")
            expect(page.get_by_role("heading", name="Why", exact=True)).to_be_focused()
            expect(page.get_by_role("img", name="Heat map of 8 by 8 cells")).to_be_visible()
            assert page.locator(".words li").all_inner_texts() == asked["reasons"]
            # The strongest cell has the color of its sign.
            grid = np.array(asked["attributions"])
            row, column = np.unravel_index(np.abs(grid).argmax(), grid.shape)
            red, _, blue, _ = page.locator("canvas").evaluate(
                "(map, [x, y]) => [...map.getContext('2d').getImageData(x, y, 1, 1).data]",
                [int(40 * column + 20), int(40 * row + 20)],
            )
            assert (blue > red) == (grid[row, column] > 0)


def test_a_refusal_is_told_as_the_service_words_it(address: str, browser: Browser, picture: bytes) -> None:
    refused = httpx.post(f"{address}/predict_file", files={"file": b"no picture"}).json()["error"]
    with opened(browser, address, refused=1) as page:
        for content in (picture, b"no picture", picture):
            page.get_by_label("choose a file").set_input_files(
                {"name": "<b>x</b>.png", "mimeType": "", "buffer": content}
            )
            if content == picture:
                expect(page.locator(".result")).to_be_visible()
                expect(page.locator("#preview")).to_be_visible()
            else:
                expect(page.get_by_role("alert")).to_have_text(refused)
                expect(page.locator(".result")).to_have_count(0)
                expect(page.locator("#preview")).to_be_hidden()


def test_explanations_are_off(address: str, browser: Browser, picture: bytes) -> None:
    assert httpx.post(f"{address}/explain", files={"file": picture}).status_code == 404
    assert "/explain" not in httpx.get(f"{address}/docs.json").json()["paths"]
    with opened(browser, address) as page:
        page.get_by_role("button", name="Example 1").click()
        expect(page.locator(".result")).to_be_visible()
        expect(page.get_by_role("button", name="Why this answer?")).to_have_count(0)


def test_a_service_that_is_gone_is_told(address: str, browser: Browser) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{address}/ui")
        page.wait_for_selector("body[data-ready]")
        context.set_offline(True)
        page.get_by_role("button", name="Example 1").click()
        expect(page.get_by_role("alert")).to_contain_text("The service does not answer")


def test_the_page_is_switched_off(quick_project: BakedProject) -> None:
    with served(quick_project, "SERVICE_PAGE=off") as address:
        for path in ("/ui", "/ui/", "/ui/page.js", "/ui/description.json"):
            assert httpx.get(address + path, follow_redirects=True).status_code == 404
        assert httpx.get(f"{address}/docs.json").status_code == 200


def test_the_class_is_told_alone(quick_project: BakedProject, browser: Browser, picture: bytes, tmp_path: Path) -> None:
    with served(quick_project, f"SERVICE_ANSWER=label SERVICE_LOG={tmp_path}/log") as address:
        (told,) = httpx.post(f"{address}/predict_file", files={"file": picture}).json()["predictions"]
        assert told.keys() == {"label"}
        array = {"accept": "application/x-npy"}
        refused = httpx.post(f"{address}/predict_file", files={"file": picture}, headers=array)
        assert refused.status_code == 406 and refused.json()["error"].startswith(
            "answers are JSON: SERVICE_ANSWER=label"
        )
        responses = httpx.get(f"{address}/docs.json").json()["paths"]["/predict"]["post"]["responses"]
        assert "406" in responses and [*responses["200"]["content"]] == ["application/json"]
        assert "probabilities" not in json.dumps(responses["200"])
        with opened(browser, address) as page:
            page.locator("#examples button").first.click()
            expect(page.locator(".result")).to_have_text(re.compile(r"\d"))
            assert page.locator(".bars, .error").count() == 0
    (segment,) = (tmp_path / "log").rglob("*.jsonl.gz")
    kept = json.loads(gzip.decompress(segment.read_bytes()).splitlines()[0])["answer"]["predictions"][0]
    assert kept["label"] == told["label"] and len(kept["probabilities"]) == 10  # for drift, quality and training


def test_not_sure_is_said_in_words(quick_project: BakedProject, copy: Copy, browser: Browser, picture: bytes) -> None:
    """With a decision by which every class is in the set; the API says null, and the schema allows it."""
    project = copy(quick_project)
    model = json.loads(project.read("models/model.json"))
    decision = {"model": model["sha256"], "coverage": 0.9, "set_threshold": 0, "abstain": True}
    (project.path / "models/decision.json").unlink()
    (project.path / "models/decision.json").write_text(json.dumps(decision))
    with served(project) as address:
        (asked,) = httpx.post(f"{address}/predict_file", files={"file": picture}).json()["predictions"]
        assert (asked["label"], asked["set"]) == (None, model["classes"])
        schema = httpx.get(f"{address}/docs.json").json()["paths"]["/predict"]["post"]["responses"]["200"]["content"]
        item = schema["application/json"]["schema"]["properties"]["predictions"]["items"]
        assert item["properties"]["label"]["nullable"] and set(item["required"]) == set(asked)
        version = model["sha256"][:12]
        line = f'model_predictions_total{{label="",model_version="{version}"}} 1.0'
        assert line in httpx.get(f"{address}/metrics").text
        with opened(browser, address) as page:
            page.get_by_label("choose a file").set_input_files(
                {"name": "digit.png", "mimeType": "image/png", "buffer": picture}
            )
            expect(page.locator(".result")).to_have_text("not sure")
            expect(page.locator(".decided")).to_have_text(f"Prediction set (90%): {', '.join(model['classes'])}")
