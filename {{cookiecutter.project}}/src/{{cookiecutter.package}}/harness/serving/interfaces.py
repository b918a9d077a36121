"""The requests and answers of the endpoints, as BentoML describes them to clients."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bentoml
import pydantic
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .body import JSON

ANSWERS = "answers"  # in the state of a request: the number of predictions in its answer
PART = 1000  # predictions that are encoded at once


class Unread(bentoml.IODescriptor):
    """An input that BentoML describes to clients and hands over unread.

    BentoML 1.4's parsing answers some bad requests with 500 and a traceback in the log, decodes images of any size, and
    fetches a URL that is given in place of an image.
    """

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> SimpleNamespace:
        """Sets every field to the unread request."""
        # No model: BentoML asks it for `model_fields`, and pydantic warns each time, which costs more than the object.
        return SimpleNamespace(model_fields=cls.model_fields, **dict.fromkeys(cls.model_fields, request))


class Instances(Unread):
    """Arrays of pixel values, or rows of a table."""

    instances: list[Any]


class File(Unread):
    """A file in a multipart form: a picture or a CSV table."""

    file: Path


class Predictions(pydantic.BaseModel):
    """The answer: a prediction for each instance, in input order."""

    id: str
    model_version: str
    predictions: list[Any]


class Explanations(pydantic.BaseModel):
    """The answer: a prediction and its explanation for each instance, in input order."""

    id: str
    model_version: str
    explanations: list[Any]


class Actual(Unread):
    """Actual values of earlier predictions."""

    feedback: list[Any]


class Outcomes(pydantic.BaseModel):
    """The answer: an outcome for each item, in input order."""

    model_version: str
    outcomes: list[str]


def predictions_response(answer: Mapping[str, Any]) -> Response:
    """The response with predictions.

    They are encoded in parts: encoding keeps Python's lock, and the event loop waits for it.

    Args:
        answer: Content of the response; `predictions` is its last key.
    """
    predictions = answer["predictions"]
    if len(predictions) <= PART:
        return JSONResponse(answer)
    parts = (predictions[start : start + PART] for start in range(0, len(predictions), PART))
    encoded = b",".join(bytes(JSONResponse(part).body)[1:-1] for part in parts)
    start = bytes(JSONResponse({**answer, "predictions": []}).body).removesuffix(b"]}")
    return Response(start + encoded + b"]}", media_type=JSON)
