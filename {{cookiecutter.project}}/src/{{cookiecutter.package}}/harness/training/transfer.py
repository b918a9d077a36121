"""Transfer learning: a pretrained base with a new head.

Such a model is trained in phases (`model.phases`): first the head, on features of the frozen base, which are computed
only once; then, unless `fine_tune_layers` is 0, the head with the last layers of the base, at a lower learning rate.
"""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..contracts import Head, Inputs, Phase, Tensor
from ..core.errors import UserError, one_line

if TYPE_CHECKING:
    import keras

SMALLEST = 32  # pixels of height and width: the bases halve them five times
IMAGENET = "imagenet"
BATCH = 32  # number of images in a batch when features are computed


class Pretrained(NamedTuple):
    """ImageNet weights of a base without its top, published by Keras.

    Attributes:
        url: URL of the file.
        md5: Checksum of the file, as keras.applications records it.
    """

    url: str
    md5: str

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.url.rpartition("/")[2]


class FineTuning(NamedTuple):
    """Settings of the second phase.

    Attributes:
        layers: Number of last layers of the base to train, not counting batch normalization; 0 for no second phase.
        epochs: Maximum number of epochs.
        learning_rate: Step size.
    """

    layers: int
    epochs: int
    learning_rate: float


class Trunk(NamedTuple):
    """A base with its preprocessing.

    Attributes:
        entry: Input of the model.
        image: Input of the base, computed from `entry`.
        base: The base, with its weights.
    """

    entry: Tensor
    image: Tensor
    base: "keras.Model"


def rgb(image: Tensor) -> Tensor:
    """Color images, [N, >=32, >=32, 3], with values 0..255.

    Gray is repeated in three channels; small images are enlarged by an integer factor with bilinear interpolation.

    Args:
        image: [N, H, W, 1 or 3], values 0..255.
    """
    import keras

    _, height, width, channels = image.shape
    side = min(height, width)
    factor = (SMALLEST + side - 1) // side
    if factor > 1:
        image = keras.layers.Resizing(factor * height, factor * width, "bilinear")(image)
    return image if channels == 3 else keras.layers.Concatenate()([image] * 3)


def load(base: "keras.Model", weights: str | None, pretrained: Pretrained) -> None:
    """Loads the weights of a base.

    Args:
        base: The base, without its top.
        weights: `imagenet`, None to keep random weights, or the path of an HDF5 file.
        pretrained: The weights that `imagenet` stands for.

    Raises:
        UserError: If the file is missing or does not hold the weights of this base.
    """
    if weights is None:
        return
    path = download(pretrained) if weights == IMAGENET else Path(weights)
    if not path.is_file():
        raise UserError(
            f"model.weights: {path} is not a file: set imagenet, null or a path relative to the project's root"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras only warns if the file lacks some layers
            base.load_weights(path)
    except (OSError, ValueError, KeyError, UserWarning) as error:
        raise UserError(
            f"model.weights: {path} does not hold the weights of {base.name} without its top "
            f"({one_line(error, 200)}): get {pretrained.url}"
        ) from error


def download(pretrained: Pretrained, folder: str = "models") -> Path:
    """The file of pretrained weights, downloaded once and verified by its checksum.

    Args:
        pretrained: The weights.
        folder: Folder in Keras' cache, ~/.keras or $KERAS_HOME; or an absolute path.

    Raises:
        UserError: If the download fails, with the steps to provide the file by hand.
    """
    import keras

    try:
        return Path(
            keras.utils.get_file(pretrained.file, pretrained.url, cache_subdir=folder, file_hash=pretrained.md5)
        )
    except Exception as error:  # without a network, Keras raises a bare Exception
        raise UserError(
            f"model.weights: imagenet: {pretrained.file} cannot be downloaded ({one_line(error, 200)}): get "
            f"{pretrained.url} on a machine with network access, put it into data/weights/, run `dvc add "
            f"data/weights/{pretrained.file}` and set model.weights: data/weights/{pretrained.file}"
        ) from error


def connect(trunk: Trunk, head: Head, dropout: float, fine_tuning: FineTuning) -> "keras.Model":
    """Frozen base, global average pooling, dropout and head, as one model.

    The base always runs in inference mode: its batch normalization statistics never change, even if its last layers are
    fine-tuned.

    Args:
        trunk: The base with its preprocessing.
        head: Layers from the features to the output.
        dropout: Fraction of the features that are dropped in training.
        fine_tuning: Settings of the second phase.

    Returns:
        The model without `compile`; its `phases` is a function (inputs, epochs, learning rate) -> training phases.

    Raises:
        UserError: If `fine_tuning.layers` exceeds the number of layers of the base.
    """
    import keras

    entry, image, base = trunk
    if fine_tuning.layers > (available := len(_trainable(base))):
        raise UserError(
            f"model.fine_tune_layers: {fine_tuning.layers}, but {base.name} has {available} layers with weights "
            "(batch normalization is never trained and does not count)"
        )
    base.trainable = False
    features = keras.layers.GlobalAveragePooling2D(name="features")(base(image, training=False))
    model = keras.Model(entry, head(keras.layers.Dropout(dropout)(features)))

    def phases(inputs: Inputs, epochs: int, learning_rate: float) -> Iterator[Phase]:
        if inputs.augment is None:
            with tempfile.TemporaryDirectory() as folder:
                rows = cache(keras.Model(entry, features), inputs.array, Path(folder))
                top = keras.Model(features, model.output)
                yield Phase(top, inputs._replace(array=rows.__getitem__), epochs, learning_rate)
        else:  # with augmentation, the features differ in every epoch
            yield Phase(model, inputs, epochs, learning_rate)
        if fine_tuning.layers:
            unfreeze(base, fine_tuning.layers)
            key = "model.fine_tune_learning_rate"
            yield Phase(model, inputs, fine_tuning.epochs, fine_tuning.learning_rate, key)

    model.phases = phases
    return model


def cache(
    extractor: "keras.Model", array: Callable[[str], NDArray[Any]], folder: Path
) -> dict[str, NDArray[np.float32]]:
    """Features of training and validation split, cached on disk.

    Args:
        extractor: Model from rows [B, ...] to features [B, F].
        array: Split -> rows [N, ...], memory-mapped.
        folder: Folder to write to.

    Returns:
        Split -> float32 [N, F], memory-mapped.
    """
    import tensorflow as tf
    from tqdm import tqdm

    features: dict[str, NDArray[np.float32]] = {}
    for split in ("train", "validation"):
        rows = array(split)
        # Without this signature, the smaller last batch would be traced again.
        extract = tf.function(extractor, input_signature=[tf.TensorSpec((None, *rows.shape[1:]), rows.dtype)])
        shape = (len(rows), extractor.output_shape[-1])
        features[split] = np.lib.format.open_memmap(folder / f"{split}.npy", "w+", np.float32, shape)
        with tqdm(total=len(rows), desc=f"features of {split}", unit=" images", disable=None) as bar:
            for start in range(0, len(rows), BATCH):
                batch = rows[start : start + BATCH]
                features[split][start : start + BATCH] = extract(batch).numpy()
                bar.update(len(batch))
    return features


def unfreeze(base: "keras.Model", count: int) -> None:
    """Makes only the last layers of a base trainable.

    Args:
        base: The base.
        count: Number of layers with weights, counted from the output, not counting batch normalization.
    """
    last = _trainable(base)[-count:]
    base.trainable = True
    for layer in base.layers:
        layer.trainable = layer in last


def _trainable(base: "keras.Model") -> list["keras.Layer"]:
    import keras

    return [layer for layer in base.layers if layer.weights and not isinstance(layer, keras.layers.BatchNormalization)]
