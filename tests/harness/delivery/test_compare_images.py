"""Two models on the pictures that a service has kept."""

import base64
import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from graphs_made import save_linear_classifier
from my_experiment.harness.capture.images import png
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.delivery import comparison
from my_experiment.harness.release.judge import StoredModel

PICTURES = np.arange(6, dtype=np.float32).reshape(6, 1, 1, 1) * 50  # six pictures of one pixel
DESCRIPTION = {
    "input": "images",
    "target": "classification",
    "classes": ["dark", "light"],
    "shape": [1, 1, 1],
    "max_pixels": 100,
}


def stored(name: str, threshold: float) -> StoredModel:
    """A model that calls pixels light from a threshold on."""
    save_linear_classifier(np.array([[0.0, 0.1]]), [0.0, -0.1 * threshold], (1, 1, 1))
    return StoredModel(name, Path(shutil.copy("models/model.onnx", f"{name}.onnx")), DESCRIPTION, None)


def keep(folder: Path) -> None:
    """Writes a segment with a request of three pictures and one of the others, as a service does."""
    folder.mkdir()
    lines = []
    for number, part in enumerate((PICTURES[:3], PICTURES[3:])):
        request = {"pictures": [base64.b64encode(png(each)).decode() for each in part]}
        answer = {"model_version": "a" * 12, "predictions": [{}] * len(part)}
        lines.append(json.dumps({"time": 1.0, "id": str(number), "request": request, "answer": answer}))
    (folder / "1.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))


def test_both_answer_what_was_kept(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(workspace / "log")
    monkeypatch.setattr(comparison, "CHUNK", 4)
    models = [stored("first", 90), stored("second", 190)]
    outputs = [comparison._kept(each, workspace / "log") for each in models]
    assert [each[:, 1].round().tolist() for each in outputs] == [[0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1]]


def test_a_model_of_other_pictures_and_an_empty_folder_are_one_line(workspace: Path) -> None:
    model = stored("first", 90)
    (workspace / "log").mkdir()
    with pytest.raises(UserError, match="has no requests: SERVICE_LOG keeps them"):
        comparison._kept(model, workspace / "log")
    keep(workspace / "kept")
    wide = model._replace(description={**DESCRIPTION, "shape": [2, 2, 1]})
    with pytest.raises(UserError, match="first does not fit the kept requests: its input image is"):
        comparison._kept(wide, workspace / "kept")
