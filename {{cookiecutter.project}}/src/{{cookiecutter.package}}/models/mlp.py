"""A multilayer perceptron."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ..harness.contracts import Head, Layers

if TYPE_CHECKING:
    import keras


def mlp(
    inputs: Layers,
    head: Head,
    *,
    units: list[Annotated[int, Field(ge=1)]],
    dropout: Annotated[float, Field(ge=0, lt=1)],
) -> "keras.Model":
    """Multilayer perceptron: fully connected ReLU layers with dropout.

    h_i = max(0, W_i h_(i-1) + b_i). Source: I. Goodfellow, Y. Bengio, A. Courville, Deep Learning, 2016, chapter 6.

    Args:
        inputs: Makes the Keras input and the tensor for the first layer, pixels or encoded columns, [N, ...].
        head: Layers from the last hidden tensor to the output.
        units: Width of each hidden layer.
        dropout: Fraction of the activations that are dropped in training, after each hidden layer.
    """
    import keras  # here, not above: the stage `config` reads this signature and must not wait for TensorFlow

    entry, x = inputs()
    x = keras.layers.Flatten()(x)
    for width in units:
        x = keras.layers.Dense(width, activation="relu")(x)
        x = keras.layers.Dropout(dropout)(x)
    return keras.Model(entry, head(x))
