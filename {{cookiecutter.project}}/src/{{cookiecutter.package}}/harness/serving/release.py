"""The release that a service belongs to, as its deployment names it in the environment.

SERVICE_RELEASE        its name, the header `x-release` of /readyz: who asks knows which of two containers answers
SERVICE_MODEL_SHA256   the model that it must have: another one is refused before the service is ready
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bentoml.exceptions import BentoMLException

from ..core import files
from .model import FOLDER

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from .model import ModelInfo

RELEASE, MODEL = "SERVICE_RELEASE", "SERVICE_MODEL_SHA256"
VARIABLES = (RELEASE, MODEL)
READY, HEADER = "/readyz", b"x-release"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")  # of a label in Kubernetes, too
DIGEST = re.compile("[0-9a-f]{64}")


def check(info: ModelInfo) -> None:
    """Verifies that the model is that of the release.

    Args:
        info: The model.

    Raises:
        BentoMLException: If it is another one, or a variable is misspelled.
    """
    name, digest = (os.environ.get(variable) for variable in VARIABLES)
    if name and not NAME.fullmatch(name):
        raise BentoMLException(f"{RELEASE}={name[:63]!r}: a name has at most 63 letters, digits, `.`, `_` and `-`")
    if digest and not DIGEST.fullmatch(digest):
        raise BentoMLException(f"{MODEL}={digest[:64]!r}: a SHA-256 has 64 digits, 0 to 9 and a to f")
    if digest and digest != info.sha256:
        raise BentoMLException(
            f"{MODEL}: the release has the model {digest[:12]}, and this image {info.version}: deploy "
            "the image of that model"
        )


def reference() -> dict[str, Any]:
    """The content of models/reference.json; {} for a model that is older."""
    from ..drift.reference import FILE  # here, because it imports NumPy

    content: dict[str, Any] = files.read_json(FOLDER / FILE) if (FOLDER / FILE).exists() else {}
    return content


def check_answer(reference: Mapping[str, Any], output: NDArray[np.float32]) -> None:
    """Ends this process with one line if the model does not give its golden answer here.

    Args:
        reference: Content of models/reference.json.
        output: Output of the model for `golden.probe`.
    """
    from ..exported import golden

    if problem := golden.disagreement(reference, output):
        print(
            f"error: {FOLDER / 'model.onnx'} does not give its golden answer here ({problem}): another ONNX Runtime or "
            "processor computes otherwise, or reference.json was edited; run the locked packages, or `dvc repro`",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)  # an exception, SystemExit too, would be two tracebacks of the server


def named(app: ASGIApp) -> ASGIApp:
    """An application that names its release at /readyz; the application itself without a release.

    Args:
        app: The application.
    """
    name = os.environ.get(RELEASE)
    return _Named(app, name.encode()) if name else app


class _Named:
    """ASGI middleware that adds a header to each answer of /readyz, whatever its status is."""

    def __init__(self, app: Any, name: bytes) -> None:
        self._app, self._name = app, name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, and adds the header to its answer."""
        if scope["type"] != "http" or scope["path"] != READY:
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (HEADER, self._name)]
            await send(message)

        await self._app(scope, receive, answer)
