"""The model card as one HTML file, with its pictures: it opens anywhere, without a network."""

import base64
import mimetypes
from collections.abc import Iterable, Iterator
from html import escape
from itertools import pairwise
from pathlib import Path
from string import Template
from urllib.parse import unquote, urlsplit

import click
from markdown_it import MarkdownIt
from markdown_it.token import Token

from ..core import files
from ..core.errors import UserError
from ..core.paths import NAME, REPORTS
from .metadata import without

CARD, HTML = REPORTS / "model_card.md", Path("build/model_card.html")
TEMPLATE = Path(__file__).with_name("card.html")
WIDE = 600  # pixels of a picture that scrolls on a narrow screen, as a table does


def page(card: str, folder: Path, title: str = f"Model card of {NAME}") -> str:
    """A model card as HTML; the files of its folder to which it links are part of the page.

    Args:
        card: The text of the model card, in Markdown; HTML in it, such as in the name of a column, is text.
        folder: Folder of the card.
        title: Title of the page.

    Raises:
        UserError: If a file is missing.
    """
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    # A wide table scrolls by itself, also by keyboard.
    region = '<div class="scroll" role="region" aria-label="Table" tabindex="0"><table>\n'
    markdown.add_render_rule("table_open", lambda *_: region)
    markdown.add_render_rule("table_close", lambda *_: "</table></div>\n")
    tokens = markdown.parse(without(card))
    contents = []
    for number, (opening, content) in enumerate(pairwise(tokens)):
        if opening.type == "heading_open" and opening.tag == "h2":
            opening.attrSet("id", f"section-{number}")
            contents.append(f'<a href="#section-{number}">{escape(content.content)}</a>')
    for token in _all(tokens):
        for key in ("src", "href"):
            address = urlsplit(str(token.attrGet(key) or ""))
            file = (folder / unquote(address.path)).resolve()
            if not address.scheme and file.is_relative_to(folder.resolve()) and file.suffix:
                data = _content(file, folder)
                token.attrSet(key, _address(file.name, data))
                if key == "href":
                    token.attrSet("download", file.name)  # browsers do not open such an address
                elif _wide(data):
                    token.attrSet("class", "wide")
    html = markdown.renderer.render(tokens, markdown.options, {})
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(title), contents="\n".join(contents), card=html
    )


def _all(tokens: Iterable[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _all(token.children or [])


def _content(file: Path, folder: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        name = file.relative_to(folder.resolve())
        raise UserError(f"{CARD} shows {folder / name}, which is missing: run `dvc repro` or `dvc checkout`") from None


def _wide(content: bytes) -> bool:
    """Whether a picture is a PNG file whose text could not be read on a narrow screen if all of it had to fit."""
    return content.startswith(b"\x89PNG") and int.from_bytes(content[16:20]) > WIDE


def _address(name: str, content: bytes) -> str:
    """A file as an address that holds its content."""
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@click.command()
def command() -> None:
    """Write the model card as one HTML file, build/model_card.html."""
    if not CARD.exists():
        raise UserError(f"there is no {CARD}: run `dvc repro` or `dvc pull`")
    html = page(CARD.read_text(encoding="utf-8"), REPORTS)
    HTML.parent.mkdir(exist_ok=True)
    files.write_text(HTML, html)
    print(f"Wrote {HTML}")
