"""A small convolutional network."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

if TYPE_CHECKING:
    import keras


def cnn(
    shape: tuple[int, int, int],
    classes: int,
    *,
    filters: list[Annotated[int, Field(ge=1)]],
    units: Annotated[int, Field(ge=1)],
    dropout: Annotated[float, Field(ge=0, lt=1)],
) -> "keras.Model":
    """Blocks of two 3x3 convolutions and 2x2 max pooling, then a dense layer and a softmax head.

    Source: the blocks of K. Simonyan, A. Zisserman, Very Deep Convolutional Networks, ICLR 2015.

    Args:
        shape: (H, W, C) of an image, pixel values 0..255.
        classes: Number of classes.
        filters: Number of filters in each block; every block halves the picture.
        units: Width of the dense layer.
        dropout: Fraction of the activations dropped around the dense layer while training.

    Returns:
        An uncompiled model: float32 [N, H, W, C] -> probabilities, float32 [N, classes].
    """
    import keras  # here, not above: the stage `config` reads this signature and must not wait for TensorFlow

    image = keras.Input(shape, name="image")
    x = keras.layers.Rescaling(1 / 255)(image)
    for count in filters:
        for _ in range(2):
            x = keras.layers.Conv2D(count, 3, padding="same", activation="relu")(x)
        x = keras.layers.MaxPooling2D(padding="same")(x)
    x = keras.layers.Dropout(dropout)(keras.layers.Flatten()(x))
    x = keras.layers.Dropout(dropout)(keras.layers.Dense(units, activation="relu")(x))
    return keras.Model(image, keras.layers.Dense(classes, activation="softmax", name="probabilities")(x))
