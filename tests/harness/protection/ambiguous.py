"""Requests that two servers may read differently: each hides a second one, which nobody is to find.

The hidden one asks for HIDDEN, with a name or a key that would open it.
"""

from collections.abc import Iterator

HIDDEN = "/feedback"  # no other request here asks for it


def hidden(credentials: str) -> bytes:
    """The second request.

    Args:
        credentials: Its headers that say who asks.
    """
    return f"POST {HIDDEN} HTTP/1.1\r\nHost: x\r\n{credentials}Content-Length: 0\r\n\r\n".encode()


def requests(credentials: str) -> Iterator[tuple[str, bytes]]:
    """Requests with a second one in their body, or behind what may be their end.

    Args:
        credentials: Headers that say who asks.

    Yields:
        A name, and what is sent.
    """
    inner = hidden(credentials)
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(inner), inner)
    yield from _lengths(credentials, inner)
    yield from _encodings(credentials, inner, chunk)
    yield from _chunks(credentials, inner, chunk)
    yield from _lines(credentials, inner)
    yield from _refused(inner)


def _post(credentials: str, *headers: bytes, body: bytes, start: bytes = b"POST /predict HTTP/1.1") -> bytes:
    return b"\r\n".join([start, b"Host: x", *headers, credentials.encode(), body])


def _length(body: bytes) -> bytes:
    return b"Content-Length: %d" % len(body)


def _lengths(who: str, inner: bytes) -> Iterator[tuple[str, bytes]]:
    """Two lengths, or one that is no number."""
    short, whole = b"Content-Length: 0", _length(inner)
    yield "CL CL, short first", _post(who, short, whole, body=inner)
    yield "CL CL, whole first", _post(who, whole, short, body=inner)
    yield "CL CL, equal", _post(who, whole, whole, body=inner)
    for value in (b"0, %d", b"+%d", b"-%d", b"0x%x", b"%d ", b"%d\x00", b"0 %d", b"%d;", b"'%d'", b"%d.0", b"%de0"):
        text = value % len(inner)
        yield f"CL {text!r}", _post(who, b"Content-Length: " + text, body=inner)
    for text in (b"", b"\xd9\xa1", str(2**64).encode(), str(2**64 + len(inner)).encode(), str(2**63).encode()):
        yield f"CL {text!r}", _post(who, b"Content-Length: " + text, body=inner)
    cl = b"Content-Length"
    for name in (cl + b" ", b"Content_Length", cl + b"\t", b"\x0b" + cl, cl + b"\xe8"):
        yield f"name {name!r}", _post(who, name + b": %d" % len(inner), body=inner)
    yield "GET with a body", _post(who, whole, body=inner, start=b"GET /predict HTTP/1.1")
    yield "HEAD with a body", _post(who, whole, body=inner, start=b"HEAD /predict HTTP/1.1")
    yield "CL in HTTP/1.0", _post(who, whole, body=inner, start=b"POST /predict HTTP/1.0")


def _encodings(who: str, inner: bytes, chunk: bytes) -> Iterator[tuple[str, bytes]]:
    """A length and an encoding, or an encoding that is hardly one."""
    ended = b"0\r\n\r\n" + inner
    encoding = b"Transfer-Encoding: "
    yield "length, encoding", _post(who, _length(ended), encoding + b"chunked", body=ended)
    yield "encoding, length", _post(who, encoding + b"chunked", b"Content-Length: 4", body=chunk)
    yield (
        "encoding, length in HTTP/1.0",
        _post(who, encoding + b"chunked", b"Content-Length: 4", body=chunk, start=b"POST /p HTTP/1.0"),
    )
    for value in (
        *(b"xchunked", b"chunked, identity", b"identity, chunked", b"gzip, chunked", b"chunked, chunked"),
        *(b"\x0bchunked", b"\tchunked", b'"chunked"', b"chunked\x00", b"CHUNKED", b"chunked;x", b"chun\r\n ked"),
        *(b"\r\n chunked", b"\r\n\tchunked", b"chunked\r\n , identity", b"identity", b"", b"cow"),
    ):
        yield f"encoding {value!r}, CL", _post(who, encoding + value, _length(ended), body=ended)
        yield f"encoding {value!r}", _post(who, encoding + value, body=ended)
    yield "two encodings", _post(who, encoding + b"chunked", encoding + b"identity", _length(ended), body=ended)
    yield (
        "two encodings, other order",
        _post(who, encoding + b"identity", encoding + b"chunked", _length(ended), body=ended),
    )
    for name in (b"Transfer-Encoding ", b"Transfer_Encoding", b" Transfer-Encoding", b"X: x\nTransfer-Encoding"):
        yield f"name {name!r}", _post(who, name + b": chunked", _length(ended), body=ended)


def _chunks(who: str, inner: bytes, chunk: bytes) -> Iterator[tuple[str, bytes]]:
    """Sizes and ends of chunks."""
    encoding, size = b"Transfer-Encoding: chunked", b"%x" % len(inner)
    for name, body in {
        "extension": size + b";a=b\r\n" + inner + b"\r\n0\r\n\r\n",
        "extension with a line feed": b"2;\nxx\r\n%s\r\n" % size + inner + b"\r\n0\r\n\r\n",
        "a size that begins with 0x": b"0x" + chunk,
        "a size that begins with +": b"+" + chunk,
        "a size that begins with -": b"-" + chunk,
        "a size of more than 64 bits": b"1" + size.rjust(16, b"0") + b"\r\n" + inner + b"\r\n0\r\n\r\n",
        "a size with a space": size + b" 0\r\n" + inner + b"\r\n0\r\n\r\n",
        "no size": b"\r\n" + inner,
        "line feeds alone": chunk.replace(b"\r\n0\r\n", b"\n0\n", 1).replace(b"\r\n", b"\n", 1),
        "nothing after a chunk": b"1\r\nx0\r\n\r\n" + inner,
        "carriage returns alone": b"1\rx\r0\r\r" + inner,
        "trailers": b"0\r\nContent-Length: %d\r\nx-forwarded-user: ada\r\n\r\n" % len(inner),
    }.items():
        yield f"chunk: {name}", _post(who, encoding, body=body)


def _lines(who: str, inner: bytes) -> Iterator[tuple[str, bytes]]:
    """Ends of lines and of the head."""
    none = b"Content-Length: 0"
    for name, header in {
        "folded header": b"X: a\r\n b",
        "folded length": b"Content-Length:\r\n 0",
        "folded first line": b" X: a",
        "carriage return": b"X: a\rContent-Length: %d" % len(inner),
        "carriage returns for the end": b"X: a\r\r",
        "line feed": b"X: a\nContent-Length: %d" % len(inner),
        "zero byte": b"X: a\x00b",
        "zero byte in a name": b"X\x00: a",
        "no colon": b"X",
        "empty name": b": a",
        "another host": b"Host: y",
    }.items():
        yield name, _post(who, header, _length(inner), body=inner)
    yield "no version", b"POST /predict\r\n" + _post(who, _length(inner), body=inner)
    yield "two spaces", _post(who, _length(inner), body=inner, start=b"POST  /predict  HTTP/1.1")
    yield "absolute address", _post(who, _length(inner), body=inner, start=b"POST http://y/predict HTTP/1.1")
    address = b"POST /predict?x=%0d%0a%0d%0aPOST%20/feedback HTTP/1.1"
    yield "address of a request", _post(who, none, body=b"", start=address)
    yield "method of two lines", _post(who, none, body=b"", start=b"PO\nST /feedback HTTP/1.1")
    yield "upgrade to h2c", _post(who, b"Connection: upgrade", b"Upgrade: h2c", _length(inner), body=inner)
    yield (
        "upgrade to a websocket",
        _post(
            who,
            b"Connection: upgrade",
            b"Upgrade: websocket",
            _length(inner),
            body=inner,
            start=b"GET /predict HTTP/1.1",
        ),
    )
    yield "expects 100", _post(who, b"Expect: 100-continue", _length(inner), body=inner)
    yield "CONNECT", _post(who, _length(inner), body=inner, start=b"CONNECT x:1 HTTP/1.1")
    yield "connection names headers", _post(who, b"Connection: content-length", _length(inner), body=inner)


def _refused(inner: bytes) -> Iterator[tuple[str, bytes]]:
    """Requests that are answered before their body is read."""
    for path in ("/predict", "/none", "/predict/", "/metrics", "/readyz"):
        start = f"POST {path} HTTP/1.1".encode()
        yield f"refused {path}", _post("", _length(inner), body=inner, start=start)
        yield (
            f"refused {path}, chunked",
            _post("", b"Transfer-Encoding: chunked", body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(inner), inner), start=start),
        )
