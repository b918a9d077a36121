"""The project in a notebook: examples, results, run, and models tried beside the pipeline.

Every function works in the project's root, whatever the folder of the notebook, and changes no output of the pipeline.
"""

import contextlib
import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from .. import configuration, prepared, targets
from ..core import config, files, paths
from ..core.errors import UserError
from ..core.paths import HISTORY, MODELS, REPORTS
from ..targets import monitor

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run


class Examples(NamedTuple):
    """The examples of a split, in the order of its rows.

    Attributes:
        inputs: Pictures, uint8 [N, H, W, C], or a table with a row for each example.
        targets: Names of classes, object [N] of str, or numbers, float64 [N].
    """

    inputs: Any
    targets: NDArray[Any]


class Trial(NamedTuple):
    """A model fitted in the notebook.

    Attributes:
        metrics: Losses and metrics in the epoch whose weights are kept.
        history: A row for each epoch: loss and metric on the training and the validation split.
        outputs: Outputs on the validation split, [N, ...].
        parameters: Dotted key -> value of the configuration.
    """

    metrics: dict[str, float]
    history: "pd.DataFrame"
    outputs: NDArray[Any]
    parameters: dict[str, Any]


class _Reader(Protocol):
    """A module of this package, `images` or `tables`."""

    def read(self, split: str) -> Any:
        """The inputs of a split, as in `Examples`."""


def examples(split: str = "train") -> Examples:
    """The prepared examples of a split.

    Args:
        split: `train`, `validation` or `test`.

    Raises:
        UserError: If the pipeline has not run, or there is no such split.
    """
    with _project():
        if split not in prepared.SPLITS:
            raise UserError(f"there is no split {split!r}: choose {', '.join(prepared.SPLITS)}")
        manifest = prepared.manifest()
        reader = cast(_Reader, importlib.import_module(f".{manifest['input']}", __package__))
        values = np.array(prepared.targets(split))
        if classes := manifest.get("classes"):
            values = np.array(classes, object)[values]
        return Examples(reader.read(split), values)


def answers(split: str = "test") -> list[dict[str, Any]]:
    """Predictions of the exported model for a split, in the form of the service's response.

    Args:
        split: `train`, `validation` or `test`.

    Raises:
        UserError: If there is no model, or model.onnx is not the one that model.json describes.
    """
    from ..exported import inference, model

    with _project():
        description = model.served(MODELS)
        feeds = prepared.modality(description).feeds(split)
        outputs = inference.predict(MODELS / "model.onnx", feeds)
        return targets.target(description).answers(outputs, description)


def metrics() -> dict[str, float]:
    """The test metrics of the pipeline's model, from reports/metrics.json."""
    with _project():
        values: dict[str, float] = files.read_json(REPORTS / "metrics.json")
        return values


def history() -> "pd.DataFrame":
    """A row for each epoch of the pipeline's model: loss and metric on both splits."""
    import pandas as pd

    with _project():
        return pd.read_csv(HISTORY, index_col="epoch")


def run() -> "Run | None":
    """The MLflow run of the pipeline's model, if it was logged."""
    from ..tracking import lockfile, runs, store

    with _project(), store.in_one_line():
        training = lockfile.training(lockfile.read_lock())
        return runs.resolve(training.key, training.model)


def fit(*overrides: str) -> Trial:
    """Fits a model with a changed configuration on the prepared data, in memory.

    Args:
        *overrides: Changes in Hydra's grammar, as for `dvc exp run -S`: `model=mlp`, `train.epochs=5`.

    Raises:
        UserError: If the configuration is not valid, needs other prepared data, or does not fit the data.
    """
    with _project():
        text = config.compose(overrides=overrides)
        configuration.check(text)
        sections, manifest = configuration.parse(text), prepared.manifest()
        pipeline = config.read()
        if changed := [name for name in ("data", "prepare") if sections[name] != pipeline[name]]:
            raise UserError(
                f"{' and '.join(changed)}: the prepared data were made with other values, which `fit` cannot change; "
                "after an edit of conf/, run `dvc repro`"
            )
        reader = prepared.modality(manifest)
        inputs = reader.inputs(manifest, sections[reader.SECTION])
        fitted = config.instantiate(sections["train"], sections["model"], inputs, manifest)
        epoch = monitor.best_epoch(fitted.history, sections["train"].get("monitor"), targets.target(manifest))
        return Trial(
            fitted.history.iloc[epoch].to_dict(),
            fitted.history,
            fitted.predict(inputs.array("validation")),
            config.flatten(sections),
        )


@contextlib.contextmanager
def _project() -> Iterator[None]:
    """The project's root as working directory; missing files of the pipeline as `UserError`."""
    try:
        with contextlib.chdir(paths.find_root()):
            yield
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing: run `dvc repro` or `dvc pull`") from None
