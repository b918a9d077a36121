"""Files of the report."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import contracts
from ..core.paths import REPORTS
from . import presenter


def shown(targets: NDArray[Any], manifest: contracts.Manifest, most: int) -> list[dict[str, Any]]:
    """Returns examples of the test split as the service takes them, evenly spread in the order of their targets.

    Args:
        targets: Of the test split: int64 [N], index of the class, or float64 [N].
        manifest: Of the prepared data.
        most: How many, at most.

    Returns:
        For each one what its modality gives, and `actual`: its class or its number.
    """
    ordered = np.argsort(targets, kind="stable")
    rows = ordered[np.linspace(0, len(targets) - 1, min(len(targets), most)).round().astype(np.int64)].tolist()
    classes = manifest.get("classes")
    actual = [classes[target] if classes else target for target in targets[rows].tolist()]
    given = presenter(manifest).examples(rows)
    return [{**example, "actual": target} for example, target in zip(given, actual, strict=True)]


def rounded(value: float) -> float:
    """Returns eight digits: the last ones differ from one processor to another."""
    return float(f"{value:.8g}")


def write_json(content: dict[str, Any], name: str) -> None:
    """Writes a report."""
    (REPORTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
