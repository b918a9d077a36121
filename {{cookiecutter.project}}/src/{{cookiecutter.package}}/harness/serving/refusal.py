"""Refusals: requests answered with 4xx or 503 and a reason."""

from starlette.responses import JSONResponse

BUSY = "too many requests are waiting: try again in a second"
ENCODINGS = {"gzip": 31, "deflate": 15}  # content encodings of a request -> `wbits` of zlib
HEADERS = {415: {"accept-encoding": ", ".join(ENCODINGS)}, 503: {"retry-after": "1"}}


class Refusal(Exception):
    """The reason why a request is refused."""

    def __init__(self, status: int, message: str) -> None:
        """Stores the HTTP status code and the reason, in one line."""
        super().__init__(message)
        self.status = status

    def response(self) -> JSONResponse:
        """The response to send."""
        return JSONResponse({"error": str(self)}, self.status, headers=HEADERS.get(self.status))
