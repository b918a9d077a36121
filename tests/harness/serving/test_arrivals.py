"""Bodies of requests: received and decoded within limits; slow clients do not shut others out."""

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import pytest
from my_experiment.harness.serving.arrivals import Arrivals, Disconnected
from my_experiment.harness.serving.limits import Limits
from my_experiment.harness.serving.metrics import refused
from my_experiment.harness.serving.refusal import Refusal
from starlette.datastructures import Headers

TEXT = b'{"instances": [1, 2, 3]}'
MIB = 2**20
HELD = 8  # bytes of another request


def count(reason: str) -> float:
    return float(refused(reason, "test")._value.get())


def arrivals(**limits: Any) -> Arrivals:
    made = Arrivals(Limits(**limits), lambda reason: refused(reason, "test"))
    made.held_bytes = HELD
    return made


def message(chunk: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": chunk, "more_body": more}


async def receive_body(made: Arrivals, receive: Callable[[], Awaitable[Any]], *encodings: str) -> bytes:
    headers = Headers(raw=[(b"content-encoding", encoding.encode()) for encoding in encodings])
    async with made.body(headers, receive) as body:
        assert made.held_bytes >= HELD + len(body)
        return body


def read(made: Arrivals, chunks: Iterable[bytes], *encodings: str) -> bytes:
    coming = iter([*(message(chunk) for chunk in chunks), message(b"", more=False)])

    async def receive() -> dict[str, Any]:
        return next(coming)

    return asyncio.run(receive_body(made, receive, *encodings))


def refusal(made: Arrivals, *arguments: Any) -> tuple[int, str]:
    """Status and message of a refused body, which is held no longer."""
    with pytest.raises(Refusal) as raised:
        read(made, *arguments)
    assert made.held_bytes == HELD
    assert len(str(raised.value)) < 200 and "\n" not in str(raised.value)
    return raised.value.status, str(raised.value)


@pytest.mark.parametrize(
    ("limits", "status"), [({"held_bytes": 9}, 503), ({"body_bytes": 3}, 413), ({"body_bytes": 4}, None)]
)
def test_a_body_above_a_limit_is_refused(limits: dict[str, int], status: int | None) -> None:
    made, before = arrivals(**limits), count("bytes")
    if status is None:
        assert read(made, [b"f", b"our"]) == b"four"
    else:
        assert refusal(made, [b"f", b"our"])[0] == status
    assert made.held_bytes == HELD
    assert count("bytes") == before + (status == 503)


@pytest.mark.parametrize("name", ["gzip", "GZIP", "deflate", "identity", ""])
@pytest.mark.parametrize("size", [1, 7, 1 << 16])
def test_an_encoded_body_is_decoded(name: str, size: int) -> None:
    plain = TEXT * 99
    sent = {"gzip": gzip.compress(plain), "deflate": zlib.compress(plain)}.get(name.lower(), plain)
    chunks = [sent[start : start + size] for start in range(0, len(sent), size)]
    assert read(arrivals(), chunks, name) == plain


@pytest.mark.parametrize("names", [("br",), ("zstd",), ("gzip, gzip",), ("identity", "gzip"), ("x" * 999,)])
def test_another_encoding_is_refused_by_its_name(names: tuple[str, ...]) -> None:
    status, told = refusal(arrivals(), [b"x"], *names)
    assert status == 415
    assert told == f"the content encoding must be gzip or deflate, not {', '.join(names)[:40]}"
    assert Refusal(status, told).response().headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize("name", ["gzip", "deflate"])
@pytest.mark.parametrize("chunks", [[b""], [TEXT], [gzip.compress(b"x")[:-1]], [gzip.compress(b"x"), b"more"]])
def test_a_body_that_is_not_encoded_as_its_header_says_is_refused(name: str, chunks: list[bytes]) -> None:
    status, told = refusal(arrivals(), chunks, name)
    assert status == 400 and told.startswith(f"the body is not {name}")


def test_a_decompression_bomb_takes_no_more_memory_than_the_limit() -> None:
    bomb = gzip.compress(bytes(256 * MIB), 9)
    assert len(bomb) < MIB
    made = arrivals(body_bytes=MIB)
    tracemalloc.start()
    try:
        assert refusal(made, [bomb], "gzip") == (413, f"the request is larger than {MIB} bytes")
        assert refusal(made, [bomb[start : start + 999] for start in range(0, len(bomb), 999)], "gzip")[0] == 413
        assert tracemalloc.get_traced_memory()[1] < 6 * MIB
    finally:
        tracemalloc.stop()


def test_an_endless_body_that_decodes_to_nothing_is_refused() -> None:
    empty = b"\0\0\0\xff\xff"  # a block of deflate without content
    assert refusal(arrivals(body_bytes=1000), [b"\x78\x9c", *[empty] * 400], "deflate")[0] == 413


def silent(*chunks: bytes) -> Callable[[], Awaitable[Any]]:
    """The messages of a client that sends nothing more after these chunks."""
    coming = [message(chunk) for chunk in chunks]

    async def messages() -> AsyncIterator[Any]:
        for each in coming:
            yield each
        await asyncio.Event().wait()

    return messages().__anext__


def test_a_body_that_does_not_arrive_in_time_is_refused() -> None:
    made, before = arrivals(body_seconds=0.05), count("slow")
    with pytest.raises(Refusal, match=r"did not arrive within 0\.05 seconds") as raised:
        asyncio.run(receive_body(made, silent(b"x")))
    assert raised.value.status == 408
    assert made.held_bytes == HELD
    assert count("slow") == before + 1


def test_clients_that_have_been_silent_longest_make_room() -> None:
    made, before = arrivals(held_bytes=HELD + 100), count("bytes")

    async def main() -> list[Any]:
        waiting = [asyncio.create_task(receive_body(made, silent(b"x" * 40))) for _ in range(2)]
        await asyncio.sleep(0.01)
        other = iter([message(b"y" * 50), message(b"z", more=False)])

        async def receive() -> Any:
            return next(other)

        body = await receive_body(made, receive)
        first = await asyncio.gather(waiting[0], return_exceptions=True)
        still = not waiting[1].done()
        waiting[1].cancel()
        await asyncio.gather(waiting[1], return_exceptions=True)
        return [body, *first, still]

    body, first, still = asyncio.run(main())
    assert body == b"y" * 50 + b"z"
    assert isinstance(first, Refusal) and first.status == 503
    assert still
    assert made.held_bytes == HELD
    assert count("bytes") == before + 1


def test_a_client_that_goes_away_is_counted_and_is_no_error() -> None:
    made, before = arrivals(), count("gone")
    coming = iter([message(b"x"), {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(coming)

    with pytest.raises(Disconnected):
        asyncio.run(receive_body(made, receive))
    assert made.held_bytes == HELD
    assert count("gone") == before + 1
