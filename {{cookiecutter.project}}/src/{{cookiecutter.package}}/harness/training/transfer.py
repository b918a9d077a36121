"""Transfer learning: a base trained on ImageNet, kept as it is, below a head that learns the classes of this project.

A model of this kind is trained in phases (`phases`): the head first, on features of the frozen base that are computed
once; then, if asked for, the last layers of the base together with the head, at a rate of their own.
"""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..contracts import Head, Inputs, Tensor
from ..core.errors import UserError

if TYPE_CHECKING:
    import keras

SMALLEST = 32  # pixels: the bases halve a picture five times
IMAGENET = "imagenet"
BATCH = 32  # images that go through the base at a time


class Pretrained(NamedTuple):
    """The weights that Keras offers for a base without its top.

    Attributes:
        url: Where they lie.
        md5: Checksum of the file, as keras.applications records it.
    """

    url: str
    md5: str

    @property
    def file(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[2]


class FineTuning(NamedTuple):
    """The second phase.

    Attributes:
        layers: How many of the base's last layers with weights are trained, batch normalisation not counted; 0: none.
        epochs: The most epochs of this phase.
        learning_rate: Step size of this phase.
    """

    layers: int
    epochs: int
    learning_rate: float


class Phase(NamedTuple):
    """A part of the training.

    Attributes:
        model: What to compile and fit; shares its weights with the whole model.
        inputs: What it is fitted on.
        epochs: The most epochs.
        learning_rate: Step size of the optimiser.
    """

    model: "keras.Model"
    inputs: Inputs
    epochs: int
    learning_rate: float


def rgb(image: Tensor) -> Tensor:
    """Gives every picture three channels and at least 32 pixels a side.

    Grey becomes three equal channels; small pictures are enlarged, bilinearly, by a whole factor.

    Args:
        image: [N, H, W, 1 or 3], values 0..255.

    Returns:
        [N, >=32, >=32, 3], values 0..255.
    """
    import keras

    _, height, width, channels = image.shape
    factor = -(-SMALLEST // min(height, width))
    if factor > 1:
        image = keras.layers.Resizing(factor * height, factor * width, "bilinear")(image)
    return image if channels == 3 else keras.layers.Concatenate()([image] * 3)


def load(base: "keras.Model", weights: str | None, pretrained: Pretrained) -> None:
    """Loads the weights of a base.

    Args:
        base: The base, without its top.
        weights: `imagenet`, None to keep random ones, or the path of an HDF5 file.
        pretrained: What `imagenet` means for this base.

    Raises:
        UserError: Where the file cannot be had, or holds something else.
    """
    if weights is None:
        return
    path = download(pretrained) if weights == IMAGENET else Path(weights)
    if not path.is_file():
        raise UserError(f"model.weights: {path} is no file: give imagenet, null or a path from the project's root")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras only warns of some layers that the file lacks
            base.load_weights(path)
    except (OSError, ValueError, KeyError, UserWarning) as error:
        raise UserError(
            f"model.weights: {path} does not hold the weights of {base.name} without its top "
            f"({_first_line(error)}): get {pretrained.url}"
        ) from error


def download(pretrained: Pretrained, folder: str = "models") -> Path:
    """Returns Keras' own copy of the weights; they are downloaded the first time, and their checksum is verified.

    Args:
        pretrained: Which weights.
        folder: Below Keras' cache, ~/.keras or $KERAS_HOME; or an absolute path.

    Raises:
        UserError: Where that is impossible, with what to do instead.
    """
    import keras

    try:
        return Path(
            keras.utils.get_file(pretrained.file, pretrained.url, cache_subdir=folder, file_hash=pretrained.md5)
        )
    except Exception as error:  # Keras raises no narrower class when the network is away
        raise UserError(
            f"model.weights: imagenet: {pretrained.file} cannot be downloaded ({_first_line(error)}): get "
            f"{pretrained.url} where there is a network, put it into data/weights/, run `dvc add "
            f"data/weights/{pretrained.file}` and set model.weights: data/weights/{pretrained.file}"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def connect(
    entry: Tensor,
    image: Tensor,
    base: "keras.Model",
    head: Head,
    dropout: float,
    fine_tuning: FineTuning,
) -> "keras.Model":
    """Puts global average pooling, dropout and the head on a frozen base.

    The base always runs in inference mode: the statistics of its batch normalisation never change, also while its
    last layers are trained.

    Args:
        entry: The model's input.
        image: What the base takes, made of `entry`.
        base: The base, its weights loaded.
        head: Makes the output.
        dropout: Fraction of the features dropped while training.
        fine_tuning: The second phase.

    Returns:
        An uncompiled model; `phases` is how it is to be trained: (inputs, epochs, learning rate) -> its phases.

    Raises:
        UserError: Where the base has fewer layers than are to be trained.
    """
    import keras

    if fine_tuning.layers > (most := len(_trainable(base))):
        raise UserError(
            f"model.fine_tune_layers: {fine_tuning.layers}, but {base.name} has {most} layers with weights "
            "(batch normalisation stays as it is and does not count)"
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
        else:  # other pictures in every epoch have other features
            yield Phase(model, inputs, epochs, learning_rate)
        if fine_tuning.layers:
            unfreeze(base, fine_tuning.layers)
            yield Phase(model, inputs, fine_tuning.epochs, fine_tuning.learning_rate)

    model.phases = phases
    return model


def cache(
    extractor: "keras.Model", array: Callable[[str], NDArray[Any]], folder: Path
) -> dict[str, NDArray[np.float32]]:
    """Computes what a frozen base makes of the training and validation split, once, onto disk.

    Args:
        extractor: Rows of a split -> features [B, F].
        array: Split -> its rows [N, ...], memory-mapped.
        folder: Where to write.

    Returns:
        Split -> float32 [N, F], memory-mapped.
    """
    import tensorflow as tf
    from tqdm import tqdm

    features: dict[str, NDArray[np.float32]] = {}
    for split in ("train", "validation"):
        rows = array(split)
        # A signature, so that the last batch, which is smaller, is not traced anew.
        run = tf.function(extractor, input_signature=[tf.TensorSpec((None, *rows.shape[1:]), rows.dtype)])
        size = (len(rows), extractor.output_shape[-1])
        made = np.lib.format.open_memmap(folder / f"{split}.npy", "w+", np.float32, size)
        with tqdm(total=len(rows), desc=f"features of {split}", unit=" images", disable=None) as progress:
            for start in range(0, len(rows), BATCH):
                batch = rows[start : start + BATCH]
                made[start : start + BATCH] = run(batch).numpy()
                progress.update(len(batch))
        features[split] = made
    return features


def unfreeze(base: "keras.Model", count: int) -> None:
    """Makes the base's last layers trainable, and no other.

    Args:
        base: The base.
        count: Number of layers with weights, counted from its output, batch normalisation not counted.
    """
    last = _trainable(base)[-count:]
    base.trainable = True
    for layer in base.layers:
        layer.trainable = layer in last


def _trainable(base: "keras.Model") -> list["keras.Layer"]:
    import keras

    return [layer for layer in base.layers if layer.weights and not isinstance(layer, keras.layers.BatchNormalization)]
