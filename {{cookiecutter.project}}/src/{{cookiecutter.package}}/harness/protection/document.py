"""Keys in the OpenAPI document of the service."""

from __future__ import annotations

from typing import Any

import attrs
from bentoml._internal.service.openapi.specification import OpenAPISpecification

from ..serving.openapi import ERROR, content

SCHEME = "key"
OPEN = {"/livez", "/readyz", "/healthz"}  # paths for all: who restarts a service has no key
REFUSED = {
    "401": "A key is needed: Authorization: Bearer KEY",
    "403": "The key does not allow this",
    "429": "A limit of the client is reached: try again after the seconds in Retry-After",
}


class Document(OpenAPISpecification):
    """A document that says where a key is needed, which BentoML's classes have no fields for."""

    def asdict(self) -> dict[str, Any]:
        """The document as JSON has it."""
        document: dict[str, Any] = super().asdict()
        document["security"] = [{SCHEME: []}]
        document["components"]["securitySchemes"] = {SCHEME: {"type": "http", "scheme": "bearer"}}
        for path, operations in document["paths"].items():
            for operation in operations.values():
                if path in OPEN:
                    operation["security"] = []
                else:
                    operation["responses"] |= {
                        status: {"description": text, "content": content(ERROR)} for status, text in REFUSED.items()
                    }
        return document


def documented(spec: OpenAPISpecification) -> OpenAPISpecification:
    """A document that says where a key is needed.

    Args:
        spec: The document without it.
    """
    return Document(**{field.name: getattr(spec, field.name) for field in attrs.fields(type(spec))})
