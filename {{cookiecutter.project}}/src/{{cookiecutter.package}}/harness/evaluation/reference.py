"""The reference for production: models/reference.json, and what the model card says of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import drift, prepared
from ..core import files
from ..core.errors import UserError
from ..core.paths import EXPLANATIONS, MODELS
from ..drift import bins, reference
from ..exported import golden, inference
from .metrics import evenly_spaced

if TYPE_CHECKING:
    from .workspace import Predictions

COLUMNS = 50  # maximum number: a scrape of more series would delay requests


def write(
    test: Predictions, model: inference.Predict, monitored: Sequence[str], private: Collection[str] = ()
) -> dict[str, Any]:
    """Writes models/reference.json; returns its content.

    Args:
        test: Outputs of the exported model on the test split; its description has the decision.
        model: The exported model.
        monitored: Setting `evaluate.monitored`.
        private: Columns that are left out, because anybody may read the bins at /metrics.

    Raises:
        UserError: If the model has no such column, or it is private.
    """
    if named := [name for name in monitored if name in private]:
        raise UserError(f"evaluate.monitored: {named[0]!r} is private in the schema, and /metrics would show its bins")
    described = {**test.manifest, **test.description}
    columns = drift.subject(described).columns(described, monitored)
    columns = {name: kind for name, kind in columns.items() if name not in private}
    rows = evenly_spaced(len(test.train_targets), reference.MOST)
    train = prepared.modality(test.manifest).feeds("train", rows=rows)
    content = reference.build(described, train, (test.outputs, test.targets), _chosen(columns))
    outputs = model([golden.probe(_inputs(), content)])
    if inference.finite_rows(outputs).all():
        content["golden"] = golden.recorded(outputs)
    text = json.dumps(content, ensure_ascii=False, allow_nan=False)
    files.write_text(MODELS / reference.FILE, text + "\n")
    return content


def _inputs() -> Sequence[golden.Input]:
    import onnxruntime

    session = onnxruntime.InferenceSession(MODELS / "model.onnx", providers=inference.PROVIDERS)
    inputs: Sequence[golden.Input] = session.get_inputs()
    return inputs


def _chosen(columns: Mapping[str, str]) -> dict[str, str]:
    """COLUMNS columns at most: those with the largest effect on the answers, if that is known, or the first."""
    if len(columns) <= COLUMNS:
        return {**columns}
    effects = EXPLANATIONS / "plots" / "importance.csv"
    ranked = [*columns]
    if effects.exists():
        with effects.open(encoding="utf-8", newline="") as file:
            largest = [row["part"] for row in csv.DictReader(file)]
        ranked.sort(key=lambda name: largest.index(name) if name in largest else len(largest))
    return {name: columns[name] for name in ranked[:COLUMNS]}


def section(content: Mapping[str, Any], test: Predictions) -> list[str]:
    """Paragraphs of the model card: what of production can be compared with training, and what cannot.

    Args:
        content: Content of models/reference.json.
        test: Outputs of the exported model on the test split.
    """
    kinds = [each["kind"] for each in content["variables"]]
    least, some = bins.ENOUGH[-1]
    enough, most = bins.ENOUGH[0]
    rows = len(test.train_targets)
    told = []
    if inputs := kinds.count(reference.INPUT):
        few = f", {some} and not {most} bins each, because {enough} rows are needed for these" if rows < enough else ""
        told.append(f"{inputs} column{'s' if inputs > 1 else ''} of the inputs (from {rows:,} training rows{few})")
    if reference.ANSWER in kinds:
        others = [kind for kind in (reference.CONFIDENCE, reference.OUTCOME) if kind in kinds]
        told.append(f"{', '.join([reference.ANSWER, *others])} (from {len(test.outputs):,} test examples)")
    lines = [f"`models/{reference.FILE}` holds what production is compared with: {' and '.join(told) or 'nothing'}."]
    if reference.INPUT not in kinds:
        lines.append(f"Inputs are not compared: that takes {least} training rows.")
    if reference.ANSWER not in kinds:
        lines.append(
            f"Answers, confidence and outcomes are not compared: that takes {least} test examples, and there are "
            f"{len(test.outputs)}."
        )
    return ["## In production", " ".join(lines)]
