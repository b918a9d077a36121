"""Request bodies, decoded and read within limits; the file of a multipart form."""

from __future__ import annotations

import codecs
import contextlib
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from .limits import Limits
from .refusal import BUSY, ENCODINGS, Refusal

if TYPE_CHECKING:
    from prometheus_client import Counter

JSON = "application/json"
UTF8 = ("utf-8", "utf8", "us-ascii")  # names of UTF-8, or of a part of it


class _Decoder:
    """Decoder of the content encoding of a body."""

    def __init__(self, request: Request, most: int) -> None:
        """Reads the encoding from the headers.

        Args:
            request: The request.
            most: Maximum size of the body in bytes, encoded and decoded.

        Raises:
            Refusal: If the encoding is not one of ENCODINGS.
        """
        self._name = ", ".join(request.headers.getlist("content-encoding")).strip().lower() or "identity"
        if self._name != "identity" and self._name not in ENCODINGS:
            raise Refusal(415, f"the content encoding must be {' or '.join(ENCODINGS)}, not {self._name[:40]}")
        self._zlib = zlib.decompressobj(ENCODINGS[self._name]) if self._name in ENCODINGS else None
        self._most = most
        self._read = self._decoded = 0

    def decode(self, chunk: bytes) -> bytes:
        """Decodes a chunk.

        Raises:
            Refusal: If the body is too large, or is not encoded as the headers say.
        """
        self._read += len(chunk)
        if self._zlib is not None:
            try:
                # One byte more than allowed at most: a small body can announce gigabytes.
                chunk = self._zlib.decompress(chunk, self._most - self._decoded + 1)
            except zlib.error:
                raise Refusal(400, f"the body is not {self._name}") from None
        self._decoded += len(chunk)
        if max(self._read, self._decoded) > self._most:
            raise Refusal(413, f"the request is larger than {self._most} bytes")
        return chunk

    def end(self) -> None:
        """Checks that the body is complete.

        Raises:
            Refusal: If it is not.
        """
        if self._zlib is not None and (not self._zlib.eof or self._zlib.unused_data):
            raise Refusal(400, f"the body is not {self._name}: it ends too early or too late")


class Bodies:
    """The bodies of the requests that a process is reading or answering."""

    def __init__(self, limits: Limits, refused: Counter) -> None:
        """Starts without a body.

        Args:
            limits: Maximum size of a body, and of all bodies together.
            refused: Counter of the requests that are refused because all bodies together are too large.
        """
        self._limits = limits
        self._refused = refused
        self.held_bytes = 0

    @contextlib.asynccontextmanager
    async def read(self, request: Request, *content_types: str) -> AsyncIterator[tuple[str, bytes]]:
        """Reads the body of a request within the limits, and decodes it.

        Until the block ends, the body counts as held.

        Args:
            request: The unread request.
            *content_types: The allowed content types.

        Yields:
            Content type and body, without content encoding and byte order mark.

        Raises:
            Refusal: If the content type, charset or encoding is not allowed, or the body or the sum of all bodies is
                too large.
        """
        content_type = _content_type(request, content_types)
        decoder = _Decoder(request, self._limits.body_bytes)
        body = bytearray()
        try:
            async for chunk in request.stream():
                chunk = decoder.decode(chunk)
                body += chunk
                self.held_bytes += len(chunk)
                if self.held_bytes > self._limits.held_bytes:
                    self._refused.inc()
                    raise Refusal(503, BUSY)
            decoder.end()
            yield content_type, _without_mark(bytes(body)) if content_type == JSON else bytes(body)
        finally:
            self.held_bytes -= len(body)


def _content_type(request: Request, allowed: tuple[str, ...]) -> str:
    """The content type of a request.

    Raises:
        Refusal: If the type is not allowed, or JSON has another charset than UTF-8.
    """
    content_type, *parameters = (part.strip() for part in request.headers.get("content-type", "").lower().split(";"))
    if content_type not in allowed:
        raise Refusal(415, f"the content type must be {' or '.join(allowed)}, not {content_type or 'missing'}")
    charset = next((part[8:].strip('"') for part in parameters if part.startswith("charset=")), UTF8[0])
    if content_type == JSON and charset not in UTF8:
        raise Refusal(415, f"JSON must be UTF-8, not {charset[:40]}")
    return content_type


def _without_mark(body: bytes) -> bytes:
    """JSON without a byte order mark.

    Raises:
        Refusal: If the mark is that of UTF-16.
    """
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Refusal(415, "JSON must be UTF-8, not UTF-16, as its byte order mark says")
    return body.removeprefix(codecs.BOM_UTF8)


async def uploaded_file(request: Request, body: bytes) -> bytes:
    """The file of a multipart form with the single field `file`.

    Args:
        request: The request, for its headers.
        body: The body of the request.

    Raises:
        Refusal: If the form is malformed, or has other fields.
    """

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await MultiPartParser(request.headers, chunks(), max_files=1, max_fields=1).parse()
    except MultiPartException as error:
        raise Refusal(400, f"malformed form: {error.message}") from None
    except Exception as error:  # Starlette's parser also raises other errors: KeyError for a missing boundary
        raise Refusal(400, f"malformed form: {type(error).__name__}") from None
    try:
        upload = form.get("file")
        if not isinstance(upload, UploadFile) or len(form) != 1:
            raise Refusal(400, "the form must have exactly one field: a file named `file`")
        return await upload.read()
    finally:
        await form.close()
