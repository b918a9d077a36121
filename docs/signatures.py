"""Signatures of the functions that conf/ names, as JSON: run in a project with the names as a JSON list."""

import importlib
import inspect
import json
import sys
import typing
from typing import Any

from pydantic import BaseModel

SIGNS = {"Gt(gt=": "> ", "Ge(ge=": ">= ", "Lt(lt=": "< ", "Le(le=": "<= "}


def limit(rule: str) -> str:
    """A rule of pydantic as people write it: `> 0` for `Gt(gt=0)`."""
    return next((sign + rule[len(start) : -1] for start, sign in SIGNS.items() if rule.startswith(start)), rule)


def kind(annotation: Any) -> str:
    """A type in Markdown, with its choices or limits."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in parts)
    if origin is typing.Annotated:
        limits = [limit(str(part)) for rule in parts[1:] for part in (getattr(rule, "metadata", None) or [rule])]
        return kind(parts[0]) + (f" ({', '.join(limits)})" if limits else "")
    if parts and origin not in (list, dict, tuple):
        return " or ".join(kind(part) for part in parts)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a section: " + ", ".join(f"`{name}`" for name in annotation.model_fields)
    return "null" if annotation is type(None) else f"`{inspect.formatannotation(annotation)}`"


def signature(target: str) -> dict[str, Any]:
    """The docstring of a function, and the types of its keyword-only parameters."""
    module, name = target.rsplit(".", 1)
    function = getattr(importlib.import_module(module), name)
    parameters = inspect.signature(function).parameters.values()
    types = {each.name: kind(each.annotation) for each in parameters if each.kind is each.KEYWORD_ONLY}
    return {"doc": inspect.getdoc(function), "types": types}


if __name__ == "__main__":
    print(json.dumps({target: signature(target) for target in json.loads(sys.argv[1])}))
