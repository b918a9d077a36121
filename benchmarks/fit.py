"""Images a second of `descent.descend` and of a hand-written `model.fit`, in this process, taking turns.

    python benchmarks/fit.py PROJECT DETERMINISM VARIANTS DATA=EPOCHS[xREPEATS]...
    python benchmarks/fit.py build/bake/my-experiment on package,hand digits=5x2 synthetic_mlp=3

Run by pipeline.py: determinism cannot be switched off again, so that it takes a process for each setting. The
last line on stdout is JSON: data -> variant -> images a second of each epoch that counts.

digits         the project's data and model: 1,261 pictures for training are an epoch of 40 steps, in which
               what comes once an epoch weighs as much as the steps
synthetic_cnn  noisy pictures of 28x28x1, the default `cnn`: 6,000 of them, because a step takes long
synthetic_mlp  20,000 of them, the default `mlp`: a cheap model, the hardest case for what feeds it
"""

import importlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

Arrays = tuple[Any, Any]
LOSS = "sparse_categorical_crossentropy"


def data(name: str, prepared: Any, project: Path, folder: Path) -> tuple[Arrays, Arrays, int]:
    """Gives (images, labels) of training and validation, images memory-mapped, and the number of classes."""
    import numpy as np

    if name == "digits":
        lies = project / "data/prepared"
        load = importlib.import_module(f"{prepared.__name__}.images").load
        train, validation = ((load(split, lies), prepared.targets(split, lies)) for split in ("train", "validation"))
        return train, validation, len(prepared.manifest(lies)["classes"])
    made = []
    generator = np.random.default_rng(0)
    # A bright row and column tell the class, noise hides them: there is something to learn.
    for split, count in (("train", 20_000 if name == "synthetic_mlp" else 6_000), ("validation", 500)):
        labels = generator.integers(0, 10, count)
        images = generator.integers(0, 200, (count, 28, 28, 1), np.uint8)
        images[np.arange(count), labels * 2 + 3] += 55
        np.save(folder / f"{split}.npy", images)
        made.append((np.load(folder / f"{split}.npy", mmap_mode="r"), labels))
    return made[0], made[1], 10


def main(project: Path, determinism: str, variants: list[str], runs: list[str]) -> None:
    """Fits, and prints the throughput."""
    sys.path.insert(0, str(project / "src"))
    (package,) = (path.name for path in (project / "src").iterdir() if (path / "__init__.py").is_file())
    contracts, prepared, devices, descent = (
        importlib.import_module(f"{package}.harness.{name}")
        for name in ("contracts", "prepared", "training.devices", "training.descent")
    )
    import keras
    import numpy as np
    import yaml

    params = yaml.safe_load((project / "params.yaml").read_text())
    settings = {key: value for key, value in params["train"].items() if key in descent.Settings._fields}
    networks = {kind: yaml.safe_load((project / f"conf/model/{kind}.yaml").read_text()) for kind in ("cnn", "mlp")}
    if determinism == "on":
        devices.make_deterministic(settings["seed"])
    else:
        keras.utils.set_random_seed(settings["seed"])

    class Clock(keras.callbacks.Callback):
        """Notes when epochs end, validation included."""

        def __init__(self) -> None:
            super().__init__()
            self.ends: list[float] = []

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.ends.append(time.perf_counter())

    def fit(variant: str, kind: str, train: Arrays, validation: Arrays, classes: int, epochs: int) -> list[float]:
        make = getattr(importlib.import_module(f"{package}.models.{kind}"), kind)
        network = {key: value for key, value in networks[kind].items() if key != "_target_"}

        def inputs() -> tuple[Any, Any]:
            image = keras.Input(train[0].shape[1:])
            return image, keras.layers.Rescaling(1 / 255)(image)

        model, clock = make(inputs, keras.layers.Dense(classes, activation="softmax"), **network), Clock()
        if variant == "package":
            own = model.fit  # `descend` takes no callbacks, so the clock is slipped in below it
            model.fit = lambda *args, callbacks, **kw: own(*args, callbacks=[*callbacks, clock], **kw)
            in_package = descent.Settings(
                **{**settings, "patience": epochs, "strategy": descent.Strategy(**settings["strategy"])}
            )
            arrays, targets = ({"train": train[i], "validation": validation[i]} for i in (0, 1))
            phase = contracts.Phase(
                model, contracts.Inputs("image", arrays.__getitem__, inputs), epochs, settings["learning_rate"]
            )
            metrics = [keras.metrics.SparseCategoricalAccuracy("accuracy")]
            compiled = {"loss": LOSS, "metrics": metrics}
            descent.descend(phase, descent.Training(in_package, targets, compiled, "min", lambda *_: None))
        else:
            optimiser = keras.optimizers.Adam(settings["learning_rate"])
            model.compile(optimiser, LOSS, metrics=["accuracy"])
            model.fit(
                np.asarray(train[0], np.float32),
                train[1],
                batch_size=settings["batch_size"],
                epochs=epochs,
                validation_data=(np.asarray(validation[0], np.float32), validation[1]),
                validation_batch_size=256,  # that of the package
                callbacks=[clock],
                verbose=0,
            )
        return [len(train[1]) / seconds for seconds in np.diff(clock.ends)]  # without the first, which traces

    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for run in runs:
            name, _, times = run.partition("=")
            epochs, _, repeats = times.partition("x")
            train, validation, classes = data(name, prepared, project, Path(folder))
            speeds = found.setdefault(name, {variant: [] for variant in variants})
            for _ in range(int(repeats or 1)):
                for variant in variants:
                    speeds[variant] += fit(
                        variant,
                        "mlp" if name.endswith("mlp") else "cnn",
                        train,
                        validation,
                        classes,
                        int(epochs) + 1,
                    )
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2], sys.argv[3].split(","), sys.argv[4:])
