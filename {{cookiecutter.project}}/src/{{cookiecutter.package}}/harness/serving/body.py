"""Request bodies, read within limits; the file of a multipart form."""

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
        """Starts without a body.

        Args:
            limits: Maximum size of a body, and of all bodies together.
        """
        self._limits = limits
        self.held_bytes = 0

    @contextlib.asynccontextmanager
    async def read(self, request: Request, *content_types: str) -> AsyncIterator[tuple[str, bytes]]:
        """Reads the body of a request within the limits.

        Until the block ends, the body counts as held.

        Args:
            request: The unread request.
            *content_types: The allowed content types.

        Yields:
            Content type and body.

        Raises:
            Refusal: If the content type is not allowed, or the body or the sum of all bodies is too large.
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
