"""Bodies of requests: within the limits, decoded, and JSON as UTF-8; anything else is refused with its name."""

import asyncio
import gzip
import json
import tracemalloc
import zlib
from collections.abc import Iterable
from typing import Any

import pytest
from my_experiment.harness.serving.body import Bodies
from my_experiment.harness.serving.limits import Limits
from my_experiment.harness.serving.metrics import refused
from my_experiment.harness.serving.refusal import Refusal
from starlette.requests import Request

JSON = "application/json"
NPY = "application/x-npy"
TEXT = '{"instances": ["ü"]}'
MIB = 2**20
BYTES = refused("bytes", "test")


def read(
    bodies: Bodies,
    chunks: Iterable[bytes],
    *encodings: str,
    content_type: str = JSON,
    allowed: tuple[str, ...] = (JSON,),
) -> bytes:
    """The body of a request, as the service reads it."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    coming = iter([*messages, {"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(coming)

    async def main() -> bytes:
        headers = [(b"content-type", content_type.encode())]
        headers += [(b"content-encoding", encoding.encode()) for encoding in encodings]
        async with bodies.read(Request({"type": "http", "headers": headers}, receive), JSON, NPY) as (_, body):
            assert 0 <= bodies.held_bytes - HELD - len(body) <= 3  # a byte order mark
            return body

    return asyncio.run(main())


HELD = 8  # bytes of another request


def bodies(**limits: int) -> Bodies:
    made = Bodies(Limits(**limits), BYTES)
    made.held_bytes = HELD
    return made


def refusal(made: Bodies, *arguments: Any, **options: Any) -> tuple[int, str]:
    """Status and message of a refused body, which is held no longer."""
    with pytest.raises(Refusal) as raised:
        read(made, *arguments, **options)
    assert made.held_bytes == HELD
    assert len(str(raised.value)) < 200 and "\n" not in str(raised.value)
    return raised.value.status, str(raised.value)


@pytest.mark.parametrize(
    ("limits", "status"), [({"held_bytes": 9}, 503), ({"body_bytes": 3}, 413), ({"body_bytes": 4}, None)]
)
def test_a_body_above_a_limit_is_refused(limits: dict[str, int], status: int | None) -> None:
    made, before = bodies(**limits), BYTES._value.get()
    if status is None:
        assert read(made, [b"f", b"our"]) == b"four"
    else:
        assert refusal(made, [b"f", b"our"])[0] == status
    assert made.held_bytes == HELD
    assert BYTES._value.get() == before + (status == 503)


@pytest.mark.parametrize("name", ["gzip", "GZIP", "deflate", "identity", ""])
@pytest.mark.parametrize("size", [1, 7, 1 << 16])
def test_an_encoded_body_is_decoded(name: str, size: int) -> None:
    plain = TEXT.encode() * 99
    sent = {"gzip": gzip.compress(plain), "deflate": zlib.compress(plain)}.get(name.lower(), plain)
    chunks = [sent[start : start + size] for start in range(0, len(sent), size)]
    assert read(bodies(), chunks, name) == plain


@pytest.mark.parametrize("names", [("br",), ("zstd",), ("gzip, gzip",), ("identity", "gzip"), ("x" * 999,)])
def test_another_encoding_is_refused_by_its_name(names: tuple[str, ...]) -> None:
    status, message = refusal(bodies(), [b"x"], *names)
    assert status == 415
    assert message == f"the content encoding must be gzip or deflate, not {', '.join(names)[:40]}"
    assert Refusal(status, message).response().headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize("name", ["gzip", "deflate"])
@pytest.mark.parametrize("chunks", [[b""], [TEXT.encode()], [gzip.compress(b"x")[:-1]], [gzip.compress(b"x"), b"more"]])
def test_what_is_not_encoded_as_the_header_says_is_refused(name: str, chunks: list[bytes]) -> None:
    status, message = refusal(bodies(), chunks, name)
    assert status == 400 and message.startswith(f"the body is not {name}")


def test_a_decompression_bomb_takes_no_more_memory_than_the_limit() -> None:
    bomb = gzip.compress(bytes(256 * MIB), 9)
    assert len(bomb) < MIB
    made = bodies(body_bytes=MIB)
    tracemalloc.start()
    try:
        assert refusal(made, [bomb], "gzip") == (413, f"the request is larger than {MIB} bytes")
        assert refusal(made, [bomb[start : start + 999] for start in range(0, len(bomb), 999)], "gzip")[0] == 413
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_an_endless_body_that_decodes_to_nothing_is_refused() -> None:
    empty = b"\0\0\0\xff\xff"  # a block of deflate without content
    assert refusal(bodies(body_bytes=1000), [b"\x78\x9c", *[empty] * 400], "deflate")[0] == 413


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "utf8", "us-ascii"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_json_is_utf8_with_or_without_a_byte_order_mark(charset: str, mark: bytes) -> None:
    got = read(bodies(), [mark + TEXT.encode()], content_type=f"application/json; charset={charset}")
    assert json.loads(got) == json.loads(TEXT)


@pytest.mark.parametrize("charset", ["utf-16", "utf-16-le", "utf-32", "iso-8859-1", "windows-1252", "zlib", "x" * 999])
def test_json_in_another_charset_is_refused_by_its_name(charset: str) -> None:
    told = refusal(bodies(), [TEXT.encode()], content_type=f"application/json; x=y; charset={charset}")
    assert told == (415, f"JSON must be UTF-8, not {charset[:40]}")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_json_in_utf16_is_known_by_its_mark(encoding: str) -> None:
    status, message = refusal(bodies(), [("\ufeff" * (encoding != "utf-16") + TEXT).encode(encoding)])
    assert status == 415 and "UTF-16" in message


def test_the_charset_and_the_mark_of_another_content_type_are_left_alone() -> None:
    array = b"\xef\xbb\xbf\xff\xfe"
    assert read(bodies(), [array], content_type=f"{NPY}; charset=binary") == array


@pytest.mark.parametrize("content_type", ["", "text/plain", "text/plain; charset=utf-8"])
def test_another_content_type_is_refused_by_its_name(content_type: str) -> None:
    status, message = refusal(bodies(), [b"{}"], content_type=content_type)
    named = content_type.partition(";")[0] or "missing"
    assert (status, message) == (415, f"the content type must be application/json or application/x-npy, not {named}")
