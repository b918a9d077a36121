"""Request bodies by content type; the file of a multipart form."""

from __future__ import annotations

import codecs
from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from ..inputs.contracts import JsonLimits
from .refusal import Refusal

JSON = "application/json"
FORM = "multipart/form-data"
UTF8 = ("utf-8", "utf8", "us-ascii")  # names of UTF-8, or of a part of it


async def read(request: Request, *content_types: str) -> tuple[str, bytes]:
    """Content type and body of a request; JSON without byte order mark.

    Args:
        request: The request, whose body `Arrivals` has received.
        *content_types: The allowed content types.

    Raises:
        Refusal: If the content type is not allowed, or JSON is not UTF-8.
    """
    content_type = _content_type(request, content_types)
    body = await request.body()
    return content_type, _without_mark(body) if content_type == JSON else body


def check_size(body: bytes, limits: JsonLimits) -> None:
    """Refuses a JSON body that is larger than one can be.

    Args:
        body: The body.
        limits: What it can need.

    Raises:
        Refusal: If it needs more.
    """
    try:
        limits.check(body)
    except ValueError as error:
        raise Refusal(413, str(error)) from None


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
