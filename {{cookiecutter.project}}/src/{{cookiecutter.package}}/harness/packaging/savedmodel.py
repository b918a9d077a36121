"""The model for TensorFlow Serving, or as a Keras file.

models/serving/models.config             the ModelServerConfig: names and folders of the models
models/serving/<package>/<version>/      a SavedModel; the version is the time of the commit that brought the model into
                                         dvc.lock: the same in every clone, and the server takes the highest

Each written file is loaded again, and its predictions for the test split are compared with those of ONNX Runtime.
"""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from .. import prepared
from ..core import commands, files
from ..core.errors import UserError
from ..core.paths import MODELS, NAME
from ..tracking import git, lockfile
from ..training.export import TOLERANCE
from . import signatures, warm_up
from .tensorflow_model import ExportedModel, Feeds, Predict, build, read

if TYPE_CHECKING:
    import keras

SERVING = MODELS / "serving"


def commit_time(folder: Path = MODELS) -> int:
    """The time of the model's commit in seconds since 1970.

    It is the commit that brought the model into dvc.lock.

    Args:
        folder: The folder of the model.

    Raises:
        UserError: If no commit has the model, or this clone is shallow and does not reach back to its commit.
    """
    md5 = files.digest(folder / "model.onnx", "md5")
    if git.git("show", "HEAD:./dvc.lock") is None or lockfile.training(lockfile.read_lock("HEAD")).model != md5:
        raise UserError(
            f"{folder / 'model.onnx'} has no version, because dvc.lock of the last commit has another model: commit "
            "dvc.lock and params.yaml first"
        )
    latest = ("log", "-1", "--format=%H %ct")
    commit, time = (git.run(*latest, "-S", md5, "--", "dvc.lock") or git.run(*latest)).split()  # the second: a merge
    git.refuse_boundary(commit)
    return int(time)


def trained(model: ExportedModel, folder: Path = MODELS) -> "keras.Model | None":
    """The trained Keras model, or None for a model without layers.

    Args:
        model: The exported model.
        folder: The folder of the model.
    """
    from absl import logging

    from ..training import keras_fit, restore  # noqa: F401  keras_fit loads TensorFlow quietly

    # Keras' warnings (a column name is not an argument name, HDF5 is an old format) need no action.
    logging.set_verbosity(logging.ERROR)
    return restore.load_keras(folder) if "keras" in model.description else None


def compare(predict: Predict, model: ExportedModel, signature: str, folder: Path = MODELS) -> float:
    """Compares predictions for the test split with those of ONNX Runtime.

    Args:
        predict: The function to compare.
        model: The exported model.
        signature: Name of the function: `serving_default`, `classify`, `regress` or `keras`.
        folder: The folder of the ONNX model.

    Returns:
        The largest difference, relative to the largest output, or to 1 if all outputs are smaller.

    Raises:
        UserError: If the difference is larger than `export.TOLERANCE`.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    difference, largest = 0.0, 1.0
    for feeds in prepared.modality(model.description).feeds("test", 256):
        rows = feeds if signature in ("serving_default", "keras") else single_precision(feeds)
        expected = session.run([model.target.OUTPUT], rows)[0]
        difference = float(np.maximum(difference, np.abs(predict(rows) - expected).max()))  # NaN stays
        largest = max(largest, float(np.abs(expected).max()))
    if not difference <= TOLERANCE * largest:
        raise UserError(
            f"{signature}: TensorFlow's predictions differ from those of models/model.onnx by {difference:.2g} "
            f"(tolerance {TOLERANCE:.0e}, largest prediction {largest:.3g}): nothing was written"
        )
    return difference / largest


def single_precision(feeds: Feeds) -> dict[str, NDArray[Any]]:
    """Rows in single precision, as in a tf.Example."""
    return {
        name: value if value.dtype == object else value.astype(np.float32).astype(value.dtype)
        for name, value in feeds.items()
    }


def write(model: ExportedModel, place: Path, folder: Path = MODELS) -> dict[str, float]:
    """Writes the SavedModel with its warm-up requests, then loads it and compares.

    Args:
        model: The exported model.
        place: The folder to write.
        folder: The folder of the exported model.

    Returns:
        Signature -> the return value of `compare`.

    Raises:
        UserError: If the predictions of a signature differ from the ONNX model's.
    """
    signatures.save(model, trained(model, folder), place)
    warm_up.write(place, model)
    loaded = signatures.load(place, model)
    return {signature: compare(predict, model, signature, folder) for signature, predict in loaded.items()}


def export(folder: Path = SERVING) -> Path:
    """Writes models/serving; SavedModels of other commits stay.

    Args:
        folder: The folder to write.

    Returns:
        The folder of the SavedModel.

    Raises:
        UserError: If the model has no version, TensorFlow cannot compute it, or the predictions differ.
    """
    model = read()
    place = folder / NAME / str(commit_time())
    if place.exists():
        return place  # the model of a commit is always the same, and a server may be reading it
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as temporary:
        written = Path(temporary, "model")
        for signature, difference in write(model, written).items():
            print(f"{signature}: predicts the test split as models/model.onnx does, to {difference:.1g}")
        files.write_text(folder / "models.config", warm_up.server_configuration())
        place.parent.mkdir(exist_ok=True)
        os.replace(written, place)
    return place


def export_keras(file: Path) -> None:
    """Writes the trained Keras model to a file.

    Its inputs are pixels from 0 to 255, or the encoded columns of a table.

    Args:
        file: A path that ends in .keras or, for HDF5, in .h5.

    Raises:
        UserError: If there is no Keras model, or the predictions of the file differ from the ONNX model's.
    """
    if file.suffix not in (".keras", ".h5"):
        raise UserError(f"{file}: Keras writes .keras or, for HDF5, .h5: choose one of these endings")
    if not file.parent.is_dir():
        raise UserError(f"{file}: there is no folder {file.parent}: create it first")
    model = read()
    layers = trained(model)
    if layers is None:
        raise UserError("models/: only a Keras model has layers, and this is another: use models/weights.npz")
    import keras

    temporary = file.with_name(f".{file.stem}.tmp{file.suffix}")
    try:
        layers.save(temporary)
        module = build(model, keras.models.load_model(temporary, compile=False))
        compare(lambda feeds: np.asarray(module.predict(feeds)), model, "keras")
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


@click.command()
@click.option("--keras", "file", type=commands.FILE, metavar="FILE", help="Write this .keras or .h5 file instead.")
def command(file: Path | None) -> None:
    """Export the model for TensorFlow Serving, or as a Keras file."""
    if file:
        export_keras(file)
    print(file or export())
