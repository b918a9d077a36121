"""JSON outputs of the stage `evaluate`."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..core import files
from ..core.paths import MODELS, REPORTS
from . import presenter
from .metrics import Estimate
from .plots import evenly_spaced
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


def _write_json(name: str, content: dict[str, Any]) -> None:
    files.write_text(REPORTS / f"{name}.json", json.dumps(content, indent=2) + "\n")


def rounded(value: float) -> float:
    """A number rounded to eight digits, because more would differ between processors."""
    return float(f"{value:.8g}")


def write_page(test: Predictions, section: Mapping[str, Any], most: int) -> None:
    """Writes models/page.json, for the service's page.

    Args:
        test: Outputs of the exported model on the test split.
        section: Section `data` of the configuration.
        most: Maximum number of examples.
    """
    content = {"examples": page_examples(test, most), **presenter(test.manifest).form(section, test.manifest)}
    # In one line, because it is sent to browsers.
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, allow_nan=False)
    files.write_text(MODELS / "page.json", text + "\n")


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
