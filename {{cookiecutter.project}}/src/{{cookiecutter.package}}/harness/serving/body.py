"""Bodies of requests: read within limits, and the file of a multipart form."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from .limits import Limits
from .refusal import BUSY, Refusal, refused_total


class Bodies:
    """The bodies of the requests that a process is reading or answering."""

    def __init__(self, limits: Limits) -> None:
        """Holds no body yet.

        Args:
            limits: The most bytes of one body, and of all.
        """
        self._limits = limits
        self.held_bytes = 0

    @contextlib.asynccontextmanager
    async def read(self, request: Request, *content_types: str) -> AsyncIterator[tuple[str, bytes]]:
        """Reads the body of a request, which counts as held until the block ends.

        Args:
            request: The request, unread.
            *content_types: The content types that it may have.

        Yields:
            Its content type, and its body.

        Raises:
            Refusal: If it has another content type or is too large, or all bodies together are.
        """
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type not in content_types:
            expected = " or ".join(content_types)
            raise Refusal(415, f"the content type must be {expected}, not {content_type or 'missing'}")
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                self.held_bytes += len(chunk)
                if len(body) > self._limits.body_bytes:
                    raise Refusal(413, f"the request is larger than {self._limits.body_bytes} bytes")
                if self.held_bytes > self._limits.held_bytes:
                    refused_total().inc()
                    raise Refusal(503, BUSY)
            yield content_type, bytes(body)
        finally:
            self.held_bytes -= len(body)


async def uploaded_file(request: Request, body: bytes) -> bytes:
    """The one file of a multipart form, whose field is `file`.

    Args:
        request: The request, for its headers.
        body: Its body.

    Raises:
        Refusal: If it is not such a form.
    """

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await MultiPartParser(request.headers, chunks(), max_files=1, max_fields=1).parse()
    except MultiPartException as error:
        raise Refusal(400, f"malformed form: {error.message}") from None
    except Exception as error:  # the parser below Starlette raises others, KeyError for a missing boundary
        raise Refusal(400, f"malformed form: {type(error).__name__}") from None
    try:
        upload = form.get("file")
        if not isinstance(upload, UploadFile) or len(form) != 1:
            raise Refusal(400, "the form must have exactly one field: a file named `file`")
        return await upload.read()
    finally:
        await form.close()
