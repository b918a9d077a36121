"""Explanations in the service: off until they are switched on, and what is refused."""

import json
from pathlib import Path
from typing import Any

import bentoml
import pytest
from bentoml.exceptions import BentoMLException
from my_experiment.harness.serving import explain, http, page
from my_experiment.harness.serving.model import ModelInfo
from my_experiment.harness.serving.refusal import Refusal
from starlette.requests import Request


class Explainer:
    """An explainer as far as a query asks for it."""

    def __init__(self, has_counterfactuals: bool) -> None:
        self.has_counterfactuals = has_counterfactuals


def asked(query: bytes, of_rows: bool = True) -> bool:
    request = Request({"type": "http", "query_string": query, "headers": []})
    return explain.wants_counterfactuals(request, Explainer(of_rows))  # type: ignore[arg-type]


@pytest.mark.parametrize(("value", "on"), [(None, False), ("on", True), ("off", False), ("1", False), ("", False)])
def test_it_is_off_until_it_is_switched_on(monkeypatch: pytest.MonkeyPatch, value: str | None, on: bool) -> None:
    if value is None:
        monkeypatch.delenv("SERVICE_EXPLAIN", raising=False)
    else:
        monkeypatch.setenv("SERVICE_EXPLAIN", value)
    assert explain.enabled() == on

    class Service(http.ModelService):
        """Any."""

    service = bentoml.service(**http.OPTIONS | {"labels": {}})(Service)
    assert ("explain" in service.apis) == on
    assert {"predict", "predict_file"} < {*service.apis, "explain"}


def test_counterfactuals_are_asked_for_in_the_query() -> None:
    assert asked(b"counterfactuals=true")
    assert not asked(b"counterfactuals=false")
    assert not asked(b"")
    assert not asked(b"", of_rows=False)


@pytest.mark.parametrize(
    ("query", "of_rows", "message"),
    [
        (b"counterfactuals=yes", True, "counterfactuals must be true or false, not 'yes'"),
        (b"counterfactual=true", True, "the query has the unknown parameter 'counterfactual'"),
        (b"counterfactuals=true", False, "pictures have none"),
    ],
)
def test_other_queries_are_refused_in_one_line(query: bytes, of_rows: bool, message: str) -> None:
    with pytest.raises(Refusal, match=message) as refused:
        asked(query, of_rows)
    assert refused.value.status == 400


@pytest.mark.parametrize(("content", "message"), [(None, "there is no"), ("{", "does not fit"), ("{}", "'baseline'")])
def test_a_missing_or_damaged_reference_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, message: str
) -> None:
    file = tmp_path / "explain.json"
    if content is not None:
        file.write_text(content)
    monkeypatch.setattr(explain, "REFERENCE", file)
    kind = "images" if (Path(page.__file__).parents[1] / "inputs/images.py").exists() else "tables"
    target = (
        "classification" if (Path(page.__file__).parents[1] / "targets/classification.py").exists() else "regression"
    )
    described: dict[str, Any] = {"input": kind, "target": target, "sha256": "0" * 64}
    described |= {"columns": [{"name": "x", "type": "number"}], "shape": [8, 8, 1], "max_pixels": 64}
    with pytest.raises(BentoMLException, match=message) as told:
        explain.explainer(ModelInfo.model_validate(json.loads(json.dumps(described))), None)
    assert "run `dvc repro`" in str(told.value)
    assert "\n" not in str(told.value)
