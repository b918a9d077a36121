"""The OpenAPI document, with schemas of requests and answers."""

from __future__ import annotations

from typing import Any

import attrs

from ..inputs.contracts import ArrayDecoder
from .limits import Limits
from .model import ModelInfo
from .refusal import ENCODINGS

NPY = "application/x-npy"
ARRAY = {"type": "string", "format": "binary", "description": "An array as numpy.save writes it"}


def complete(spec: Any, info: ModelInfo, limits: Limits, description: str) -> Any:
    """Adds schemas to the document that BentoML generates.

    Args:
        spec: BentoML's document.
        info: The model.
        limits: The limits of the service.
        description: Description of the service.

    Returns:
        The document with the schemas of both endpoints, including error responses.
    """
    file = {"type": "string", "format": "binary", "description": info.requests.FILE}
    instances = {
        "type": "array",
        "minItems": 1,
        "maxItems": limits.instances,
        "items": info.requests.instance_schema(info.model_dump()),
    }
    predict = {"application/json": _object(instances=instances)}
    if isinstance(info.requests, ArrayDecoder):
        predict[NPY] = ARRAY
    bodies = {"/predict": predict, "/predict_file": {"multipart/form-data": _object(file=file)}}
    for path, body in bodies.items():
        operation = spec.paths[path].post
        operation["requestBody"] = {"required": True, "content": _content(body)}
        operation["responses"] = _responses(body, info, limits)
    return attrs.evolve(spec, info=attrs.evolve(spec.info, version=info.version, description=description))


def _responses(body: dict[str, Any], info: ModelInfo, limits: Limits) -> dict[str, Any]:
    prediction = {"type": "array", "items": info.answers.answer_schema(info.model_dump())}
    answer = {
        "application/json": _object(model_version={"type": "string"}, predictions=prediction),
        NPY: ARRAY,
    }
    error = {"application/json": _object(error={"type": "string"})}
    described = {
        "200": ("A prediction for each instance, in input order", answer),
        "400": ("The content cannot be used; `error` says why", error),
        "413": (f"The request is larger than {limits.body_bytes} bytes", error),
        "415": (f"The content type is not {' or '.join(body)}, or the encoding not {' or '.join(ENCODINGS)}", error),
        "503": ("Too many requests are waiting: try again after the seconds in Retry-After", error),
    }
    return {
        status: {"description": text, "content": _content(schemas)} for status, (text, schemas) in described.items()
    }


def _content(schemas: dict[str, Any]) -> dict[str, Any]:
    return {media_type: {"schema": schema} for media_type, schema in schemas.items()}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
