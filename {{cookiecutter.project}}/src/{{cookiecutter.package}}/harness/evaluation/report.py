"""JSON outputs of the stage `evaluate`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..contracts import Manifest
from ..core import files
from ..core.paths import MODELS, REPORTS
from ..core.text import rounded
from ..exported import model
from . import presenter
from .membership import Membership
from .metrics import Estimate, evenly_spaced
from .slices import Slices, differences
from .workspace import Predictions


def write_metrics(estimates: Mapping[str, Estimate]) -> None:
    """Writes reports/metrics.json and reports/intervals.json.

    Args:
        estimates: Metric -> estimate.
    """
    _write_json("metrics", {name: rounded(estimate.value) for name, estimate in estimates.items()})
    # In a separate file, to keep the table of `dvc metrics diff` short.
    intervals = {
        name: [rounded(estimate.low), rounded(estimate.high)]
        for name, estimate in estimates.items()
        if estimate.low is not None and estimate.high is not None
    }
    _write_json("intervals", intervals)


def write_slices(slices: Slices) -> None:
    """Writes reports/slices.json; {} without slices.

    By column:
    slices       name, number of examples, whether these are few, metric -> value, lower and upper end, and metrics that
                 few of the examples count for
    left_out     number of further, smaller slices
    differences  metric -> largest difference, and the two slices

    Args:
        slices: The evaluated slices.
    """
    content = {
        column: {
            "slices": [
                {
                    "name": each.name,
                    "examples": each.examples,
                    "few": each.few,
                    "metrics": _ends(each.estimates),
                    "rare": list(each.rare),
                }
                for each in found
            ],
            "left_out": slices.left_out.get(column, 0),
            "differences": {
                name: each._replace(value=rounded(each.value))._asdict() for name, each in differences(found).items()
            },
        }
        for column, found in slices.columns.items()
    }
    _write_json("slices", content)


def write_membership(membership: Membership) -> None:
    """Writes reports/membership.json: metric -> value, lower and upper end; numbers of examples.

    It is not part of metrics.json, because it is no quality of the answers.

    Args:
        membership: The measured membership inference.
    """
    counts = {"members": membership.members, "others": membership.others}
    _write_json("membership", _ends(membership.estimates) | counts)


def _ends(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    """Metric -> value, lower and upper end; None for an end that is undefined."""
    return {
        name: [None if end is None or np.isnan(end) else rounded(end) for end in estimate]
        for name, estimate in estimates.items()
    }


def write_decision(decision: Mapping[str, Any]) -> None:
    """Writes models/decision.json; {} if nothing is decided.

    Args:
        decision: Result of `Evaluator.decide`.
    """
    files.write_text(MODELS / model.DECISION, json.dumps(decision, indent=2, ensure_ascii=False) + "\n")


def _write_json(name: str, content: dict[str, Any]) -> None:
    files.write_text(REPORTS / f"{name}.json", json.dumps(content, indent=2) + "\n")


def write_page(test: Predictions, form: Mapping[str, Any], most: int) -> None:
    """Writes models/page.json, for the service's page; its examples lack the private columns.

    Args:
        test: Outputs of the exported model on the test split.
        form: Facts for the service's page, of the presenter.
        most: Maximum number of examples.
    """
    hidden = private(form)
    examples = page_examples(test, most)
    for example in examples if hidden else []:
        example["instance"] |= dict.fromkeys(hidden)
    _write_line("page", {"examples": examples, **form})


def private(form: Mapping[str, Any]) -> list[str]:
    """Names of the private columns.

    Args:
        form: Facts for the service's page.
    """
    return [name for name, facts in form.get("properties", {}).items() if "private" in facts]


def write_explain(manifest: Manifest, fixed: Sequence[str]) -> None:
    """Writes models/explain.json, with which the service explains its answers.

    Args:
        manifest: Manifest of the prepared data.
        fixed: Columns that counterfactuals leave as they are.
    """
    _write_line("explain", {**presenter(manifest).reference(), "fixed": list(fixed)})


def _write_line(name: str, content: Mapping[str, Any]) -> None:
    """Writes a JSON file of models/ in one line, because it is sent to browsers."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, allow_nan=False)
    files.write_text(MODELS / f"{name}.json", text + "\n")


def page_examples(test: Predictions, most: int) -> list[dict[str, Any]]:
    """Examples of the test split, as inputs of the service.

    They are evenly spaced in the order of their targets.

    Args:
        test: Outputs of the exported model on the test split.
        most: Maximum number of examples.

    Returns:
        The input of each example, and its target as `actual`, a class or a number.
    """
    rows = np.argsort(test.targets, kind="stable")[evenly_spaced(len(test.targets), most)].tolist()
    classes = test.manifest.get("classes")
    actual = [classes[target] if classes else target for target in test.targets[rows].tolist()]
    inputs = presenter(test.manifest).examples(rows)
    return [{**example, "actual": target} for example, target in zip(inputs, actual, strict=True)]
