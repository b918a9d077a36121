"""Chromium, and what a page did in it. Tests import the fixture."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from debian import apt_install
from playwright.sync_api import Browser, Page, sync_playwright

# As a container runs it: as root, without a graphics card, and quiet where it would ask its maker for news.
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def chromium_path() -> str:
    """Gives Chromium's path; installs Debian's where it is missing."""
    names = ("chromium", "chromium-browser", "google-chrome")
    if not any(map(shutil.which, names)):
        apt_install("chromium")
    return next(found for found in map(shutil.which, names) if found)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A running Chromium."""
    path = chromium_path()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@contextmanager
def opened(browser: Browser, address: str, refused: int = 0) -> Iterator[Page]:
    """Opens the page of a service, ready to be used, with empty storage.

    Afterwards it fails where something was asked of another host, or the console shows an error.

    Args:
        browser: The running Chromium.
        address: Of the service.
        refused: How many requests the service refuses meanwhile: Chromium writes a line for each.
    """
    context = browser.new_context()
    page, told, hosts = context.new_page(), list[str](), set[str | None]()
    page.on("console", lambda message: told.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: hosts.add(urlsplit(request.url.removeprefix("blob:")).hostname))
    try:
        page.goto(f"{address}/ui")
        page.wait_for_selector("body[data-ready]")
        yield page
        assert [line for line in told if "status of 4" not in line] == []
        assert len(told) == refused, told
        assert hosts <= {"127.0.0.1", None}, "a picture in a data: address has no host, all others must be this one"
    finally:
        context.close()


def shares(page: Page) -> dict[str, tuple[float, float]]:
    """Gives class -> its probability, and the length of its bar as a share of its room, in the order shown."""
    found: dict[str, tuple[float, float]] = page.locator(".bars li").evaluate_all(
        """rows => Object.fromEntries(rows.map(row => {
          const [name, room, value] = row.children;
          const width = room.firstChild.getBoundingClientRect().width / room.getBoundingClientRect().width;
          return ["=" + name.textContent, [Number(value.value), width]];
        }))"""
    )  # "=": a key that is a number would change its place
    return {name[1:]: tuple(both) for name, both in found.items()}  # type: ignore[misc]
