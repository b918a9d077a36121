"""The site: built strictly, complete without another host, readable on a phone; its tutorial is typed."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from browser import browser as browser
from conftest import (
    ROOT,
    VENV,
    BakedProject,
    edit,
    execute,
    free_port,
    need_curl,
    stages_run,
    template,
    wait_until_ready,
)
from playwright.sync_api import Browser
from test_readme import serve, stop

SIZES = {"desktop": {"width": 1280, "height": 1600}, "phone": {"width": 390, "height": 1600}}
# Whose screenshots are kept in build/screenshots, to be looked at.
SHOWN = (
    "index",
    "tutorial",
    "explanation/configuration",
    "explanation/harness",
    "reference/configuration",
    "reference/stages",
)


class Links(HTMLParser):
    """Addresses of a page: those a reader may follow, those a browser loads, and the anchors."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.followed: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a":
            self.followed += [given["href"]] if "href" in given else []
        elif given.get("rel") not in ("canonical", "prev", "next"):
            self.loaded += [given[name] for name in ("src", "href") if name in given]


class Quiet(SimpleHTTPRequestHandler):
    """A server of files that writes no log."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site, from a clean clone."""
    clone = tmp_path_factory.mktemp("site") / "clone"
    execute("git", "clone", "--quiet", template(), clone, cwd=clone.parent)
    (clone / ".venv").symlink_to(VENV, target_is_directory=True)
    (VENV / ".installed").touch()
    done = execute("make", "site", cwd=clone, env={"NO_COLOR": "1"})
    assert "No issues found" in done.stdout + done.stderr
    return clone / "build/site"


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The address of a server of the site."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def pages(site: Path) -> list[Path]:
    """All pages but the one that answers for those that are not there."""
    return sorted(page for page in site.rglob("*.html") if page.name != "404.html")


def test_no_link_is_dead_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    links = {page: Links(page) for page in pages(site)}
    assert len(links) > 40
    for page, addresses in links.items():
        for link in addresses.followed + addresses.loaded:
            if urlsplit(link).scheme in ("http", "https", "mailto", "data"):
                assert link not in addresses.loaded or link.startswith("data:"), f"{page}: loads {link}"
                continue
            name, anchor = urldefrag(unquote(link))
            target = (page.parent / name).resolve() if name else page
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{page}: {link}"
            if anchor and target in links and not anchor.startswith("__"):
                assert anchor in links[target].anchors, f"{page}: {link}"
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert styles and not any(re.search(r"url\(['\"]?(https?:)?//", style) for style in styles)


def test_every_page_has_its_place_in_the_navigation(site: Path) -> None:
    """Decisions have theirs in a table of their own."""
    links = Links(site / "index.html").followed + [
        f"decisions/{link}" for link in Links(site / "decisions/index.html").followed
    ]
    listed = {(site / urldefrag(link)[0]).resolve() for link in links if "//" not in link}
    assert [page.relative_to(site) for page in pages(site) if page not in listed] == []


@pytest.mark.parametrize("size", SIZES)
def test_pages_fit_the_screen_and_ask_no_other_host(site: Path, address: str, browser: Browser, size: str) -> None:
    screenshots = ROOT / "build/screenshots"
    screenshots.mkdir(parents=True, exist_ok=True)
    hosts, messages = set[str | None](), list[str]()
    for scheme, palette in {"light": "default", "dark": "slate"}.items():
        context = browser.new_context(viewport=SIZES[size], color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
        page.on("console", lambda message: messages.append(message.text))
        for path in pages(site):
            name = path.relative_to(site).with_suffix("").as_posix()
            if name not in SHOWN and (size, scheme) != ("phone", "light"):
                continue  # what fits a phone fits a desktop
            page.goto(f"{address}/{name}.html")
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{name} is {wide} pixels too wide on a {size}"
            assert page.locator("body").get_attribute("data-md-color-scheme") == palette
            if name in SHOWN:
                page.screenshot(path=screenshots / f"{name.replace('/', '-')}-{size}-{scheme}.png")
        context.close()
    assert hosts == {"127.0.0.1"}
    assert messages == []


BLOCK = re.compile(r'^```(sh|yaml)(?: title="([^"]+)")?\n(.*?)^```', re.M | re.S)


def commands(text: str) -> list[str]:
    """The commands of a block; one may take several lines."""
    lines = [""]
    for line in text.strip().splitlines():
        lines[-1] += line
        if lines[-1].count('"') % 2 or line.endswith(("\\", "|")):
            lines[-1] += "\n"
        else:
            lines.append("")
    return lines[:-1]


def fill_in(project: BakedProject, file: str, lines: str) -> None:
    """Puts lines of YAML, each known by its key, in the place of those that a file has."""
    for line in lines.splitlines():
        key = line.partition(":")[0]
        (old,) = re.findall(rf"^{re.escape(key)}:.*$", project.read(file), re.M)
        edit(project, file, old, line)


@pytest.mark.pipeline
@pytest.mark.service
def test_the_tutorial_is_typed(tmp_path: Path) -> None:
    port = free_port()
    project = BakedProject(tmp_path / "wine-cellar")
    env = {"PYTHONPATH": "src", "BENTOML_HOME": str(tmp_path / "bentoml")}
    printed = dict[str, str]()
    need_curl()
    with ExitStack() as servers:
        for kind, file, text in BLOCK.findall((ROOT / "docs/tutorial.md").read_text(encoding="utf-8")):
            if kind == "yaml":
                fill_in(project, file, text)
                continue
            for command in commands(text):
                if command.startswith("cookiecutter"):
                    execute("bash", "-c", command.replace("path/to/this/clone", str(template())), cwd=tmp_path)
                elif command == "make setup":
                    project.link_venv()  # test_demo runs it for real
                elif command == "make serve":
                    serving = serve(project, f"BENTOML_HOME={env['BENTOML_HOME']} {command}", port)
                    server = servers.enter_context(serving)
                    wait_until_ready(f"http://127.0.0.1:{port}/readyz", server)
                elif not command.startswith(("cd ", "source ")):
                    done = project.run("bash", "-o", "pipefail", "-c", command.replace(":3000", f":{port}"), env=env)
                    assert "Traceback" not in done.stderr, command
                    printed[command] = done.stdout
        log = stop(server)
    assert "Traceback" not in log
    # What the text says of what is to be seen.
    assert stages_run(printed["dvc repro"]) == ["config", "prepare", "train", "explain", "robustness", "evaluate"]
    head, values = printed["dvc metrics show"].splitlines()
    metrics = dict(zip(head.split()[1:], map(float, values.split()[1:]), strict=True))
    assert metrics["r2"] == pytest.approx(0.93, abs=0.02) and metrics["mae"] == pytest.approx(0.2, abs=0.02)
    assert metrics["baseline_mae"] == pytest.approx(0.93, abs=0.01)
    assert "prepare" not in stages_run(printed["dvc exp run -S model=linear_regression"])
    (answers,) = [text for command, text in printed.items() if "curl" in command]
    assert answers.count('"value"') == answers.count('"low"') == 3
    assert "champion" in printed["python -m wine_cellar registry show"]
    assert (Path(env["BENTOML_HOME"]) / "bentos/wine_cellar").is_dir()


def test_a_how_to_makes_the_project_that_it_names(tmp_path: Path) -> None:
    text = (ROOT / "docs/how-to/new-project.md").read_text(encoding="utf-8")
    for kind, _, lines in BLOCK.findall(text):
        assert kind == "sh"
        execute("bash", "-c", lines.replace("path/to/this/clone", str(template())), cwd=tmp_path)
    assert (tmp_path / "leaf-classifier/src/leaf_classifier").is_dir()
    assert not (tmp_path / "leaf-classifier/.github").exists()
