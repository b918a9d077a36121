"""Refusals: requests answered with 4xx or 503 and a reason."""

import pydantic
from starlette.responses import JSONResponse

BUSY = "too many requests are waiting: try again in a second"
ENCODINGS = {"gzip": 31, "deflate": 15}  # content encodings of a request -> `wbits` of zlib
HEADERS = {
    401: {"www-authenticate": "Bearer"},
    415: {"accept-encoding": ", ".join(ENCODINGS)},
    503: {"retry-after": "1"},
}


class Refusal(Exception):
    """The reason why a request is refused."""

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        """Stores the HTTP status code and the reason, in one line; and the seconds after which to try again."""
        super().__init__(message)
        self.status = status
        self._retry_after = {"retry-after": str(retry_after)} if retry_after else {}

    def response(self, close: bool = False) -> JSONResponse:
        """The response to send.

        Args:
            close: Whether the connection is closed with it: the rest of a body is not read.
        """
        headers = {**HEADERS.get(self.status, {}), **self._retry_after, **({"connection": "close"} if close else {})}
        return JSONResponse({"error": str(self)}, self.status, headers=headers)


def first_error(invalid: pydantic.ValidationError) -> tuple[str, str]:
    """The first error of a body: a line with its place, and pydantic's name of its kind."""
    error = invalid.errors(include_url=False, include_context=False, include_input=False)[0]
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error["loc"])[1:]
    return f"{place}: {error['msg']}" if place else error["msg"], error["type"]
