"""Random changes of pictures while training, never elsewhere: section `augmentation` of the configuration.

All changes of geometry are one affine map a picture, so that a picture is interpolated once. The random numbers of a
batch follow from the seed and the number of the step alone, whatever thread works on it: the same seed gives the same
pictures bit for bit, and every epoch gives others.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from .harness.contracts import Augment, Tensor

Dataset = Any  # of TensorFlow
Fraction = Annotated[float, Field(ge=0, lt=1)]


def augment(
    *,
    flip_horizontal: bool,
    flip_vertical: bool,
    translate: Fraction,
    rotate: Annotated[float, Field(ge=0, le=180)],
    zoom: Annotated[float, Field(ge=0, le=4)],
    brightness: Fraction,
    contrast: Fraction,
    fill: Literal["nearest", "reflect", "constant"],
) -> Augment | None:
    """Returns what changes a dataset of batches, or None where nothing is to be changed.

    Each amount is drawn anew for each picture, uniformly, zoom in proportion.

    Args:
        flip_horizontal: Mirror left and right, half of the pictures.
        flip_vertical: Mirror top and bottom, half of the pictures.
        translate: Shift by this fraction of height and width at most; with `zoom`, this is a random crop.
        rotate: Turn by this many degrees at most, either way.
        zoom: Enlarge, or shrink, by a factor of 1 + zoom at most.
        brightness: Add this fraction of 255 at most, or subtract it.
        contrast: Multiply the distance from the picture's mean by a factor between 1 - contrast and 1 + contrast.
        fill: What comes in at the borders: the edge's pixels, the mirrored picture, or black.

    Returns:
        (dataset of (uint8 [B, H, W, C], targets), seed) -> such a dataset.
    """
    geometry = bool(flip_horizontal or flip_vertical or translate or rotate or zoom)
    colour = bool(brightness or contrast)
    if not geometry and not colour:
        return None

    def change(images: Tensor, seed: Tensor) -> Tensor:
        import keras
        import tensorflow as tf

        draws = tf.unstack(tf.random.stateless_uniform((8, tf.shape(images)[0]), seed, -1, 1))
        flip_x, flip_y, x, y, angle, scale, lighter, sharper = draws
        pixels = tf.cast(images, tf.float32)
        if geometry:
            factor = tf.exp(scale * tf.math.log1p(float(zoom)))
            mirror_x = tf.where(flip_x < 0, -1.0, 1.0) if flip_horizontal else 1.0
            mirror_y = tf.where(flip_y < 0, -1.0, 1.0) if flip_vertical else 1.0
            map_ = affine(images.shape[1:3], mirror_x * factor, mirror_y * factor, rotate * angle, translate, x, y)
            pixels = keras.ops.image.affine_transform(pixels, map_, "bilinear", fill)
        if colour:
            mean = tf.reduce_mean(pixels, (1, 2, 3), keepdims=True)
            factor = (1 + contrast * sharper)[:, None, None, None]
            shift = (255 * brightness * lighter)[:, None, None, None]
            pixels = pixels * factor + (mean * (1 - factor) + shift)
        return tf.cast(tf.clip_by_value(pixels + 0.5, 0, 255), images.dtype)  # the cast cuts off: this rounds

    def apply(dataset: Dataset, seed: int) -> Dataset:
        import tensorflow as tf

        # Every epoch iterates anew, and goes on with the next random numbers.
        seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=True).batch(2)
        return tf.data.Dataset.zip(dataset, seeds).map(
            lambda batch, seed: (change(batch[0], seed), *batch[1:]), tf.data.AUTOTUNE, deterministic=True
        )

    return apply


def affine(
    size: tuple[int, int], scale_x: Tensor, scale_y: Tensor, degrees: Tensor, translate: float, x: Tensor, y: Tensor
) -> Tensor:
    """Returns the maps from a picture's pixel to where it comes from, for `keras.ops.image.affine_transform`.

    With the centre c, scales S, rotation R and shift t, a pixel p comes from S^-1 R^-1 (p - c - t) + c.

    Args:
        size: (H, W).
        scale_x: Horizontal factors [B], negative ones mirror.
        scale_y: Vertical factors [B].
        degrees: Angles [B], counterclockwise as one sees it.
        translate: Largest shift, as a fraction of H and W.
        x: Horizontal shifts [B], from -1 to 1.
        y: Vertical shifts [B], from -1 to 1.

    Returns:
        float32 [B, 8]: rows of the 3x3 matrix without its last element, 1.
    """
    import numpy as np
    import tensorflow as tf

    height, width = size
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    radians = degrees * (np.pi / 180)
    cosine, sine = tf.cos(radians), tf.sin(radians)
    a, b = cosine / scale_x, -sine / scale_x
    c, d = sine / scale_y, cosine / scale_y
    shifted_x, shifted_y = centre_x + translate * width * x, centre_y + translate * height * y
    zero = tf.zeros_like(cosine)
    return tf.stack(
        [
            *(a, b, centre_x - a * shifted_x - b * shifted_y),
            *(c, d, centre_y - c * shifted_x - d * shifted_y),
            *(zero, zero),
        ],
        axis=1,
    )
