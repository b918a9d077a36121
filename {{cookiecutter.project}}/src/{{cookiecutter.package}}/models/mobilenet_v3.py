"""MobileNetV3-Small as a frozen base: a twenty-fifth of ResNet-50's weights, and many times as fast."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from ..harness.contracts import Head, Layers
from ..harness.training import transfer

if TYPE_CHECKING:
    import keras

PRETRAINED = transfer.Pretrained(
    "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v3/"
    "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
    "d3e8ec802a04aa4fc771ee12a9a9b836",  # pragma: allowlist secret
)


def mobilenet_v3(  # noqa: PLR0913  The keyword-only parameters are section `model` of the configuration.
    inputs: Layers,
    head: Head,
    *,
    weights: str | None,
    dropout: Annotated[float, Field(ge=0, lt=1)],
    fine_tune_layers: NonNegativeInt,
    fine_tune_epochs: PositiveInt,
    fine_tune_learning_rate: Annotated[PositiveFloat, Field(le=10)],
) -> "keras.Model":
    """MobileNetV3-Small without its top, frozen, then global average pooling, dropout and the head.

    Source: A. Howard et al., Searching for MobileNetV3, ICCV 2019. The base holds the preprocessing of its weights:
    pixel values to -1..1.

    Args:
        inputs: Makes the Keras input, pixel values 0..255, which is used, and a tensor, which is not.
        head: Layers from the features to the output.
        weights: `imagenet`, None for random ones, or the path of an HDF5 file of this base's weights.
        dropout: Fraction of the features that are dropped in training.
        fine_tune_layers: Number of layers, of 52, that the second phase trains, counted from the output; 0 for none.
        fine_tune_epochs: Maximum number of epochs of the second phase.
        fine_tune_learning_rate: Step size of the second phase.

    Returns:
        A model with `phases` (`transfer.connect`).
    """
    import keras  # here, not above: the stage `config` reads this signature and must not wait for TensorFlow

    entry, _ = inputs()
    image = transfer.rgb(entry)
    base = keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=tuple(image.shape[1:]))
    transfer.load(base, weights, PRETRAINED)
    fine_tuning = transfer.FineTuning(fine_tune_layers, fine_tune_epochs, fine_tune_learning_rate)
    return transfer.connect(transfer.Trunk(entry, image, base), head, dropout, fine_tuning)
