"""ResNet-50, pretrained."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from ..harness.contracts import Head, Layers
from ..harness.training import transfer

if TYPE_CHECKING:
    import keras

PRETRAINED = transfer.Pretrained(
    "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
    "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "4d473c1dd8becc155b73f8504c6f6626",  # pragma: allowlist secret
)
MEANS = (103.939, 116.779, 123.68)  # of blue, green and red over ImageNet


def resnet50(  # noqa: PLR0913  The keyword-only parameters are section `model` of the configuration.
    inputs: Layers,
    head: Head,
    *,
    weights: str | None,
    dropout: Annotated[float, Field(ge=0, lt=1)],
    fine_tune_layers: NonNegativeInt,
    fine_tune_epochs: PositiveInt,
    fine_tune_learning_rate: Annotated[PositiveFloat, Field(le=10)],
) -> "keras.Model":
    """Transfer learning from ResNet-50.

    The frozen base without its top, then global average pooling, dropout and the head. The preprocessing is what its
    weights expect: channels in the order blue, green, red, minus their means over ImageNet.
    Source: K. He et al., Deep Residual Learning for Image Recognition, CVPR 2016.

    Args:
        inputs: Makes the Keras input, pixel values 0..255; the scaled tensor that it also makes is not used.
        head: Layers from the features to the output.
        weights: `imagenet`, None for random weights, or the path of an HDF5 file with weights of this base.
        dropout: Fraction of the features that are dropped in training.
        fine_tune_layers: Number of layers, of 53, that the second phase trains, counted from the output; 0 for none.
        fine_tune_epochs: Maximum number of epochs of the second phase.
        fine_tune_learning_rate: Step size of the second phase.

    Returns:
        The model, with `phases` as in `transfer.connect`.
    """
    import keras  # here, not above: the stage `config` reads this signature and must not wait for TensorFlow

    entry, _ = inputs()
    image = keras.layers.Rescaling(1, [-mean for mean in MEANS])(transfer.rgb(entry)[..., ::-1])
    base = keras.applications.ResNet50(include_top=False, weights=None, input_shape=tuple(image.shape[1:]))
    transfer.load(base, weights, PRETRAINED)
    fine_tuning = transfer.FineTuning(fine_tune_layers, fine_tune_epochs, fine_tune_learning_rate)
    return transfer.connect(transfer.Trunk(entry, image, base), head, dropout, fine_tuning)
