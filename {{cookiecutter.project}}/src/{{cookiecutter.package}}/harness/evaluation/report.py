"""Files that the stage `evaluate` writes: reports/metrics.json, reports/intervals.json and models/page.json."""

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
    """Writes the values of the metrics, and their confidence intervals.

    Args:
        estimates: Metric -> estimate.
    """
    _write_json("metrics", {name: rounded(estimate.value) for name, estimate in estimates.items()})
    # In a file of their own: `dvc metrics diff` is a table that people read.
    intervals = {
        name: [rounded(estimate.low), rounded(estimate.high)]
        for name, estimate in estimates.items()
        if estimate.low is not None and estimate.high is not None
    }
    _write_json("intervals", intervals)


def _write_json(name: str, content: dict[str, Any]) -> None:
    files.write_text(REPORTS / f"{name}.json", json.dumps(content, indent=2) + "\n")


def rounded(value: float) -> float:
    """A number rounded to eight digits: further ones differ between processors."""
    return float(f"{value:.8g}")


def write_page(test: Predictions, section: Mapping[str, Any], most: int) -> None:
    """Writes models/page.json, which the service's page needs beside models/model.json.

    Args:
        test: The test split.
        section: Section `data` of the configuration.
        most: Maximum number of examples.
    """
    content = {"examples": page_examples(test, most), **presenter(test.manifest).form(section, test.manifest)}
    # One line: it is sent to browsers.
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, allow_nan=False)
    files.write_text(MODELS / "page.json", text + "\n")


def page_examples(test: Predictions, most: int) -> list[dict[str, Any]]:
    """Examples of the test split as the service accepts them, evenly spaced in the order of their targets.

    Args:
        test: The test split.
        most: Maximum number of examples.

    Returns:
        For each example its input, and `actual`: its class or its number.
    """
    rows = np.argsort(test.targets, kind="stable")[evenly_spaced(len(test.targets), most)].tolist()
    classes = test.manifest.get("classes")
    actual = [classes[target] if classes else target for target in test.targets[rows].tolist()]
    inputs = presenter(test.manifest).examples(rows)
    return [{**example, "actual": target} for example, target in zip(inputs, actual, strict=True)]
