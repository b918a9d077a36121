"""What the default project's pipeline does, as one plain script without the template.

    python benchmarks/plain.py PROJECT OUTPUT EPOCHS

Same pictures, same split, same network, as many epochs, export to ONNX, predictions of the exported model,
the same metrics with the same bootstrap and the same plots: in one process, from arrays in memory, with
nothing written but model, metrics and plots. The last line on stdout is JSON: seconds of each phase
and the accuracy.

Taken from the generated package, because another implementation would be other work and not other wiring:
the assignment of a picture to its split, the network, the metrics (scikit-learn's need 30 times as long for the
bootstrap) and the drawing. Training is written by hand as most people would, seeded but without
`enable_op_determinism`, so what determinism costs counts against the pipeline. The number of epochs is given, because
early stopping would end another shuffle elsewhere.
"""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def main(project: Path, output: Path, epochs: int) -> None:
    """Trains, exports, evaluates."""
    clock = [time.perf_counter()]
    seconds: dict[str, float] = {}

    def lap(phase: str) -> None:
        clock.append(time.perf_counter())
        seconds[phase] = clock[-1] - clock[-2]

    sys.path.insert(0, str(project / "src"))
    (package,) = (path.name for path in (project / "src").iterdir() if (path / "__init__.py").is_file())
    import importlib

    import keras
    import numpy as np
    import onnxruntime
    import pandas as pd
    import yaml
    from PIL import Image
    from sklearn.datasets import load_digits

    sources, contracts, classification, workspace, plots, prepared, preparation = (
        importlib.import_module(f"{package}.{name}")
        for name in (
            "data.images", "harness.contracts", "harness.evaluation.classification",
            "harness.evaluation.workspace", "harness.evaluation.plots", "harness.prepared",
            "harness.preparation.splits",
        )
    )  # fmt: skip
    lap("imports")

    params = yaml.safe_load((project / "params.yaml").read_text())
    bunch, classes = load_digits(), [str(digit) for digit in range(10)]
    splits = contracts.Splits(**params["prepare"])
    pictures: dict[str, list[np.ndarray]] = {split: [] for split in prepared.SPLITS}
    answers: dict[str, list[int]] = {split: [] for split in prepared.SPLITS}
    for pixels, label in zip(np.rint(bunch.images * (255 / 16)).astype(np.uint8), bunch.target, strict=True):
        split = preparation.assign(sources.pixel_digest(Image.fromarray(pixels)), splits)
        pictures[split].append(pixels[..., None])
        answers[split].append(int(label))
    images = {split: np.stack(pictures[split]).astype(np.float32) for split in pictures}
    labels = {split: np.array(answers[split]) for split in answers}
    lap("prepare")

    keras.utils.set_random_seed(params["train"]["seed"])
    network = {key: value for key, value in params["model"].items() if key != "_target_"}

    def inputs() -> tuple[Any, Any]:
        image = keras.Input((8, 8, 1))
        return image, keras.layers.Rescaling(1 / 255)(image)

    name = params["model"]["_target_"].rpartition(".")[2]
    make = getattr(importlib.import_module(f"{package}.models.{name}"), name)
    model = make(inputs, keras.layers.Dense(len(classes), activation="softmax"), **network)
    optimiser = keras.optimizers.Adam(params["train"]["learning_rate"])
    model.compile(optimiser, "sparse_categorical_crossentropy", metrics=["accuracy"])
    best = keras.callbacks.EarlyStopping("val_loss", patience=epochs, restore_best_weights=True)
    history = model.fit(
        images["train"],
        labels["train"],
        batch_size=params["train"]["batch_size"],
        validation_data=(images["validation"], labels["validation"]),
        epochs=epochs,
        callbacks=[best],
        verbose=0,
    )
    lap("train")

    output.mkdir(parents=True, exist_ok=True)
    model.save_weights(output / "model.weights.h5")
    model.export(output / "model.onnx", format="onnx", verbose=False)
    lap("export")

    session = onnxruntime.InferenceSession(output / "model.onnx", providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    probabilities = session.run(None, {name: images["test"]})[0]
    test = workspace.Predictions(probabilities, labels["test"], labels["train"], {"classes": classes}, {})
    found = classification.evaluate(test, SimpleNamespace(**params["evaluate"]), output)
    (output / "metrics.json").write_text(json.dumps({name: metric.value for name, metric in found.estimates.items()}))
    curves = pd.DataFrame(history.history).rename_axis("epoch").reset_index()
    plots.learning_curves(curves, "accuracy", output / "learning_curves.png")
    worst = found.worst
    plots.gallery([images["test"][row] for row in worst.rows], worst.captions, worst.total, output / "mistakes.png")
    lap("evaluate")
    print(json.dumps({"seconds": seconds, "accuracy": found.estimates["accuracy"].value}))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]), int(sys.argv[3]))
