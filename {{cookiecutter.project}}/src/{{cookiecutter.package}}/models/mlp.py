"""A multi-layer perceptron."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

if TYPE_CHECKING:
    import keras


def mlp(
    shape: tuple[int, int, int],
    classes: int,
    *,
    units: list[Annotated[int, Field(ge=1)]],
    dropout: Annotated[float, Field(ge=0, lt=1)],
) -> "keras.Model":
    """Flattens the pixels into fully connected ReLU layers with dropout and a softmax head.

    Args:
        shape: (H, W, C) of an image, pixel values 0..255.
        classes: Number of classes.
        units: Width of each hidden layer.
        dropout: Fraction of the activations dropped after each hidden layer while training.

    Returns:
        An uncompiled model: float32 [N, H, W, C] -> probabilities, float32 [N, classes].
    """
    import keras  # here, not above: the stage `config` reads this signature and must not wait for TensorFlow

    image = keras.Input(shape, name="image")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Flatten()(x)
    for width in units:
        x = keras.layers.Dense(width, activation="relu")(x)
        x = keras.layers.Dropout(dropout)(x)
    return keras.Model(image, keras.layers.Dense(classes, activation="softmax", name="probabilities")(x))
