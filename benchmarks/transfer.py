"""ResNet-50's head trained on features computed once, against a frozen base that runs in every epoch.

    python benchmarks/transfer.py PROJECT [--epochs 10] [--images 96] [--side 64]

PROJECT is a generated project for image classification; its code is used, nothing in it is changed. Both sides run in
this process: the phases of the project's model, features included, and `model.fit` of the same model as a whole, with
the same optimiser and batches, determinism on. The ratio grows with the epochs, because the naive loop pays for the
base in each of them. Weights are random: they cost as much as those of ImageNet, and nothing is downloaded. The last
line on stdout is JSON.
"""

import argparse
import importlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Trains both ways, and prints seconds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, default=96, help="for training; a quarter as many for validation")
    parser.add_argument("--side", type=int, default=64, help="of the square pictures, in pixels")
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.project.resolve() / "src"))
    (package,) = (path.name for path in (arguments.project / "src").iterdir() if (path / "__init__.py").is_file())
    contracts, batches, devices, quiet, models = (
        importlib.import_module(f"{package}.{name}")
        for name in (
            "harness.contracts", "harness.training.batches", "harness.training.devices", "harness.training.quiet",
            "models.resnet50",
        )
    )  # fmt: skip
    import numpy as np
    from numpy.typing import NDArray

    keras, shape = quiet.keras, (arguments.side, arguments.side, 3)
    generator = np.random.default_rng(0)
    sizes = {"train": arguments.images, "validation": max(1, arguments.images // 4)}
    labels: dict[str, NDArray[np.int64]] = {split: np.arange(size) % 3 for split, size in sizes.items()}

    def layers() -> tuple[Any, Any]:
        entry = keras.Input(shape, name="image")
        return entry, keras.layers.Rescaling(1 / 255)(entry)

    def build() -> Any:
        devices.make_deterministic(0)
        return models.resnet50(
            layers,
            lambda x: keras.layers.Dense(3, activation="softmax", name="probabilities")(x),
            weights=None,
            dropout=0.2,
            fine_tune_layers=0,
            fine_tune_epochs=1,
            fine_tune_learning_rate=1e-5,
        )

    def fit(model: Any, array: Any, epochs: int, learning_rate: float) -> None:
        model.compile(keras.optimizers.Adam(learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(
            batches.batches(batches.Split(array("train"), labels["train"]), 32, batches.Order(0)),
            validation_data=batches.batches(batches.Split(array("validation"), labels["validation"]), 32),
            epochs=epochs,
            shuffle=False,
            verbose=0,
        )

    with tempfile.TemporaryDirectory() as folder:
        rows: dict[str, NDArray[np.uint8]] = {}
        for split, targets in labels.items():
            np.save(f"{folder}/{split}.npy", generator.integers(0, 256, (len(targets), *shape), np.uint8))
            rows[split] = np.load(f"{folder}/{split}.npy", mmap_mode="r")
        inputs = contracts.Inputs("image", rows.__getitem__, layers)

        model, start = build(), time.perf_counter()
        for phase in model.phases(inputs, arguments.epochs, 0.001):
            features = time.perf_counter() - start
            fit(phase.model, phase.inputs.array, phase.epochs, phase.learning_rate)
        cached = time.perf_counter() - start

        model, start = build(), time.perf_counter()
        fit(model, inputs.array, arguments.epochs, 0.001)
        naive = time.perf_counter() - start
    found = {
        "images": arguments.images,
        "side": arguments.side,
        "epochs": arguments.epochs,
        "features_s": round(features, 2),
        "cached_s": round(cached, 2),
        "naive_s": round(naive, 2),
        "ratio": round(naive / cached, 2),
    }
    print(
        f"{arguments.epochs} epochs of {arguments.images} pictures: naive {naive:.1f} s, cached {cached:.1f} s "
        f"(features {features:.1f} s of them), {naive / cached:.1f} times as fast",
        file=sys.stderr,
    )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
