"""MobileNetV3-Small, pretrained: a twenty-fifth of ResNet-50's weights, and much faster."""

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
    """Transfer learning from MobileNetV3-Small.

    The frozen base without its top, then global average pooling, dropout and the head. The base includes the
    preprocessing that its weights expect, pixel values scaled to -1..1.
    Source: A. Howard et al., Searching for MobileNetV3, ICCV 2019.

    Args:
        inputs: Makes the Keras input, pixel values 0..255; the scaled tensor that it also makes is not used.
        head: Layers from the features to the output.
        weights: `imagenet`, None for random weights, or the path of an HDF5 file with weights of this base.
        dropout: Fraction of the features that are dropped in training.
        fine_tune_layers: Number of layers, of 52, that the second phase trains, counted from the output; 0 for none.
        fine_tune_epochs: Maximum number of epochs of the second phase.
        fine_tune_learning_rate: Step size of the second phase.

    Returns:
        The model, with `phases` as in `transfer.connect`.
    """
    import keras  # here, not above: the stage `config` reads this signature and must not wait for TensorFlow

    entry, _ = inputs()
    image = transfer.rgb(entry)
    base = keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=tuple(image.shape[1:]))
    transfer.load(base, weights, PRETRAINED)
    fine_tuning = transfer.FineTuning(fine_tune_layers, fine_tune_epochs, fine_tune_learning_rate)
    return transfer.connect(transfer.Trunk(entry, image, base), head, dropout, fine_tuning)
