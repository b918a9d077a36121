"""Bodies of requests by content type: JSON is UTF-8; anything else is refused with its name."""

import asyncio
import json
from typing import Any

import pytest
from my_experiment.harness.serving import body
from my_experiment.harness.serving.refusal import Refusal
from starlette.requests import Request

JSON = "application/json"
NPY = "application/x-npy"
TEXT = '{"instances": ["ü"]}'


def read(content: bytes, content_type: str = JSON) -> bytes:
    """The body of a request, as the service reads it."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    request = Request({"type": "http", "headers": [(b"content-type", content_type.encode())]}, receive)
    return asyncio.run(body.read(request, JSON, NPY))[1]


def refusal(content: bytes, content_type: str = JSON) -> tuple[int, str]:
    """Status and message of a refused body."""
    with pytest.raises(Refusal) as raised:
        read(content, content_type)
    assert len(str(raised.value)) < 200 and "\n" not in str(raised.value)
    return raised.value.status, str(raised.value)


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "utf8", "us-ascii"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_json_is_utf8_with_or_without_a_byte_order_mark(charset: str, mark: bytes) -> None:
    got = read(mark + TEXT.encode(), content_type=f"application/json; charset={charset}")
    assert json.loads(got) == json.loads(TEXT)


@pytest.mark.parametrize("charset", ["utf-16", "utf-16-le", "utf-32", "iso-8859-1", "windows-1252", "zlib", "x" * 999])
def test_json_in_another_charset_is_refused_by_its_name(charset: str) -> None:
    told = refusal(TEXT.encode(), content_type=f"application/json; x=y; charset={charset}")
    assert told == (415, f"JSON must be UTF-8, not {charset[:40]}")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_json_in_utf16_is_known_by_its_mark(encoding: str) -> None:
    status, message = refusal(("\ufeff" * (encoding != "utf-16") + TEXT).encode(encoding))
    assert status == 415 and "UTF-16" in message


def test_the_charset_and_the_mark_of_another_content_type_are_left_alone() -> None:
    array = b"\xef\xbb\xbf\xff\xfe"
    assert read(array, content_type=f"{NPY}; charset=binary") == array


@pytest.mark.parametrize("content_type", ["", "text/plain", "text/plain; charset=utf-8"])
def test_another_content_type_is_refused_by_its_name(content_type: str) -> None:
    status, message = refusal(b"{}", content_type=content_type)
    named = content_type.partition(";")[0] or "missing"
    assert (status, message) == (415, f"the content type must be application/json or application/x-npy, not {named}")
