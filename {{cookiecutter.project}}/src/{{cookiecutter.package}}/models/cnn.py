"""A small convolutional network."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ..harness.contracts import Head, Layers

if TYPE_CHECKING:
    import keras


def cnn(
    inputs: Layers,
    head: Head,
    *,
    filters: list[Annotated[int, Field(ge=1)]],
    units: Annotated[int, Field(ge=1)],
    dropout: Annotated[float, Field(ge=0, lt=1)],
) -> "keras.Model":
    """Convolutional network: VGG-style blocks, a dense layer and the head.

    Each block is two 3x3 convolutions and 2x2 max pooling.
    Source: the blocks of K. Simonyan, A. Zisserman, Very Deep Convolutional Networks, ICLR 2015.

    Args:
        inputs: Makes the Keras input and pixels from 0 to 1, [N, H, W, C].
        head: Layers from the last hidden tensor to the output.
        filters: Number of filters in each block; every block halves the image.
        units: Width of the dense layer.
        dropout: Fraction of the activations that are dropped in training, before and after the dense layer.
    """
    import keras  # here, not above: the stage `config` reads this signature and must not wait for TensorFlow

    image, x = inputs()
    for count in filters:
        for _ in range(2):
            x = keras.layers.Conv2D(count, 3, padding="same", activation="relu")(x)
        x = keras.layers.MaxPooling2D(padding="same")(x)
    x = keras.layers.Dropout(dropout)(keras.layers.Flatten()(x))
    x = keras.layers.Dropout(dropout)(keras.layers.Dense(units, activation="relu")(x))
    return keras.Model(image, head(x))
