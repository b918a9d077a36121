"""The OpenAPI document, with schemas of requests and answers."""

from __future__ import annotations

from typing import Any

import attrs

from ..inputs.contracts import ArrayDecoder
from . import brief
from .body import FORM, JSON
from .explain import PARAMETER
from .feedback import ID, OUTCOMES
from .limits import Limits
from .model import ModelInfo
from .refusal import ENCODINGS
from .switches import tells_labels_only

NPY = "application/x-npy"
PREDICTION_ID = "prediction-id"  # header of an answer that is not JSON
ARRAY = {"type": "string", "format": "binary", "description": "An array as numpy.save writes it"}
ERROR = {
    JSON: {
        "type": "object",
        "properties": {"error": {"type": "string"}},
        "required": ["error"],
        "additionalProperties": False,
    }
}
_ID = {"type": "string", "description": "Id of the answer; a later id is greater"}
_HEADERS = {PREDICTION_ID: {"description": "Id of the answer, if it is not JSON", "schema": _ID}}
_COUNTERFACTUALS = {
    "name": PARAMETER,
    "in": "query",
    "description": "Whether to look for changes of few columns that would change the answer; only for rows of a table",
    "schema": {"type": "boolean", "default": False},
}


def complete(spec: Any, info: ModelInfo, limits: Limits, description: str) -> Any:
    """Adds schemas to the document that BentoML generates.

    Args:
        spec: BentoML's document.
        info: The model.
        limits: The limits of the service.
        description: Description of the service.

    Returns:
        The document with the schemas of all endpoints, including error responses.
    """
    file = {FORM: _object(file={"type": "string", "format": "binary", "description": info.requests.FILE})}
    prediction = info.answers.answer_schema(info.model_dump())
    if tells_labels_only():
        predictions = {JSON: _answer(predictions=brief.schema(prediction))}
    else:
        predictions = {JSON: _answer(predictions=prediction), NPY: ARRAY}
    described = {
        "/predict": (_instances(info, limits.instances), predictions),
        "/predict_file": (file, predictions),
    }
    if "/explain" in spec.paths:
        body = _instances(info, limits.explained) | file
        described["/explain"] = body, {JSON: _answer(explanations=_explanation(info, prediction))}
        spec.paths["/explain"].post["parameters"] = [_COUNTERFACTUALS]
    if "/feedback" in spec.paths:
        outcomes = {"type": "array", "items": {"type": "string", "enum": list(OUTCOMES)}}
        answer = _object(model_version={"type": "string"}, outcomes=outcomes)
        described["/feedback"] = {JSON: _feedback(info, limits.instances)}, {JSON: answer}
    for path, (body, answer) in described.items():
        operation = spec.paths[path].post
        operation["requestBody"] = {"required": True, "content": content(body)}
        operation["responses"] = _responses(body, answer, limits)
        if tells_labels_only() and answer is predictions:
            operation["responses"]["406"] = {"description": brief.NO_ARRAY, "content": content(ERROR)}
    return attrs.evolve(spec, info=attrs.evolve(spec.info, version=info.version, description=description))


def _instances(info: ModelInfo, most: int) -> dict[str, Any]:
    description = info.model_dump()
    item, most = info.requests.instance_schema(description), info.requests.json_limits(description, most).instances
    body = {JSON: _object(instances={"type": "array", "minItems": 1, "maxItems": most, "items": item})}
    return body | {NPY: ARRAY} if isinstance(info.requests, ArrayDecoder) else body


def _feedback(info: ModelInfo, most: int) -> dict[str, Any]:
    item = _object(
        id={"type": "string", "pattern": ID, "description": "Id of the answer"},
        index={"type": "integer", "minimum": 0, "default": 0, "description": "Position of the prediction in it"},
        actual=info.answers.actual_schema(info.model_dump()),
    )
    item["required"].remove("index")
    return _object(feedback={"type": "array", "minItems": 1, "maxItems": most, "items": item})


def _answer(**items: dict[str, Any]) -> dict[str, Any]:
    lists = {name: {"type": "array", "items": schema} for name, schema in items.items()}
    return _object(id=_ID, model_version={"type": "string"}, **lists)


def _explanation(info: ModelInfo, prediction: dict[str, Any]) -> dict[str, Any]:
    from ..exported.explainer import module  # here, because it imports NumPy

    number, text = {"type": "number"}, {"type": "string"}
    schema = _object(
        prediction=prediction,
        explained=text | {"description": "What the numbers are: the log-odds of the predicted class, or the target"},
        baseline=number | {"description": "The answer to a typical input"},
        answer=number | {"description": "The answer to this input: `baseline` plus all attributions"},
        attributions=module(info.model_dump()).schema(info.model_dump()),
        reasons={"type": "array", "items": text},
    )
    # A value of a column may be null, which OpenAPI 3.0 has no type for.
    change = {"type": "object", "additionalProperties": _object(**{"from": {}, "to": {}})}
    found = _object(changes=change, prediction=prediction)
    schema["properties"]["counterfactuals"] = {"type": "array", "items": found}  # only if asked for
    return schema


def _responses(body: dict[str, Any], answer: dict[str, Any], limits: Limits) -> dict[str, Any]:
    described = {
        "200": ("One for each instance, in input order", answer),
        "400": ("The content cannot be used; `error` says why", ERROR),
        "413": (f"The request is larger than {limits.body_bytes} bytes", ERROR),
        "415": (f"The content type is not {' or '.join(body)}, or the encoding not {' or '.join(ENCODINGS)}", ERROR),
        "503": ("Too many requests are waiting: try again after the seconds in Retry-After", ERROR),
    }
    responses: dict[str, Any] = {
        status: {"description": text, "content": content(schemas)} for status, (text, schemas) in described.items()
    }
    if NPY in answer:
        responses["200"]["headers"] = _HEADERS
    return responses


def content(schemas: dict[str, Any]) -> dict[str, Any]:
    """Content of a body or a response.

    Args:
        schemas: Media type -> schema.
    """
    return {media_type: {"schema": schema} for media_type, schema in schemas.items()}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
