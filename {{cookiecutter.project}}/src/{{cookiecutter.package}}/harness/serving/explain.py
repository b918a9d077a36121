"""Explanations of answers at /explain, which the environment variable SERVICE_EXPLAIN=on switches on.

They are off by default, because they tell more of the model and of its training rows than answers do (R. Shokri et al.,
On the Privacy Risks of Model Explanations, AIES 2021).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bentoml.exceptions import BentoMLException

from ..core.errors import UNREADABLE, one_line
from .model import FOLDER
from .refusal import Refusal
from .switches import is_on

if TYPE_CHECKING:
    from starlette.requests import Request

    from ..exported.explainer import Explainer
    from .model import ModelInfo

REFERENCE = FOLDER / "explain.json"
PARAMETER = "counterfactuals"  # of the query


def enabled() -> bool:
    """Whether answers are explained: SERVICE_EXPLAIN is `on`."""
    return is_on("SERVICE_EXPLAIN")


def explainer(info: ModelInfo, run: Any) -> Explainer:
    """The explainer of the served model.

    Args:
        info: The model.
        run: Inputs of the model -> its outputs.

    Raises:
        BentoMLException: If models/explain.json is missing or damaged.
    """
    from ..exported.explainer import Explainer

    try:
        return Explainer(run, info.model_dump(), json.loads(REFERENCE.read_bytes()))
    except FileNotFoundError:
        raise BentoMLException(f"there is no {REFERENCE}, which SERVICE_EXPLAIN=on needs: run `dvc repro`") from None
    except UNREADABLE as error:
        raise BentoMLException(f"{REFERENCE} does not fit the model ({one_line(error)}): run `dvc repro`") from None


def wants_counterfactuals(request: Request, explainer: Explainer) -> bool:
    """Whether a request asks for counterfactuals.

    Raises:
        Refusal: If its query has another parameter or value, or the model has none.
    """
    query = request.query_params.multi_items()
    if unknown := [name for name, _ in query if name != PARAMETER]:
        raise Refusal(400, f"the query has the unknown parameter {unknown[0][:40]!r}; {PARAMETER} is the only one")
    value = request.query_params.get(PARAMETER, "false")
    if value not in ("true", "false"):
        raise Refusal(400, f"{PARAMETER} must be true or false, not {value[:40]!r}")
    if value == "true" and not explainer.has_counterfactuals:
        raise Refusal(400, f"{PARAMETER} are for rows of a table: pictures have none")
    return value == "true"
