"""Data augmentation: random transformations of the training images.

The geometric transformations of an image are combined into one affine map, so that its pixels are interpolated once.
The random numbers of a batch depend only on the seed and the step, not on threads: the same seed gives the same images
bit for bit, and every epoch differs.

To add a transformation, add a parameter to `augment`, its value to each file of conf/augmentation/, and a line to
`transform`. For instance, Gaussian noise:

    noise: Fraction,
    ...
    pixels += 255 * noise * tf.random.stateless_normal(tf.shape(pixels), seed)
"""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from .harness.contracts import Augment, Tensor

if TYPE_CHECKING:
    import tensorflow as tf

Fraction = Annotated[float, Field(ge=0, lt=1)]


def augment(  # noqa: PLR0913  The parameters are section `augmentation` of the configuration.
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
    """The augmentation of a dataset, or None if every setting is off.

    Each amount is drawn for each image from a uniform distribution; zoom is log-uniform.

    Args:
        flip_horizontal: Flip half of the images left to right.
        flip_vertical: Flip half of the images top to bottom.
        translate: Maximum shift, as a fraction of height and width; with `zoom`, this is a random crop.
        rotate: Maximum angle in degrees, in both directions.
        zoom: Maximum zoom: images are enlarged or shrunk by a factor of up to 1 + zoom.
        brightness: Maximum shift of all pixel values, as a fraction of 255.
        contrast: Maximum change of contrast: a factor from 1 - contrast to 1 + contrast, around the image's mean.
        fill: Pixels beyond the border: `nearest` repeats the edge, `reflect` mirrors the image, `constant` is black.

    Returns:
        (dataset of (uint8 or float32 [B, H, W, C], targets), seed) -> dataset of the same.
    """
    if not any(amount for name, amount in locals().items() if name != "fill"):
        return None
    geometry = bool(flip_horizontal or flip_vertical or translate or rotate or zoom)
    intensity = bool(brightness or contrast)

    def transform(images: Tensor, seed: Tensor) -> Tensor:
        import keras
        import tensorflow as tf

        draws = tf.unstack(tf.random.stateless_uniform((8, tf.shape(images)[0]), seed, -1, 1))
        flip_x, flip_y, x, y, angle, scale, lightness, sharpness = draws
        pixels = tf.cast(images, tf.float32)
        if geometry:
            factor = tf.exp(scale * tf.math.log1p(float(zoom)))
            mirror_x = tf.where(flip_x < 0, -1.0, 1.0) if flip_horizontal else 1.0
            mirror_y = tf.where(flip_y < 0, -1.0, 1.0) if flip_vertical else 1.0
            height, width = images.shape[1:3]
            scales, shifts = (mirror_x * factor, mirror_y * factor), (translate * width * x, translate * height * y)
            maps = affine((height, width), scales, rotate * angle, shifts)
            pixels = keras.ops.image.affine_transform(pixels, maps, "bilinear", fill)
        if intensity:
            mean = tf.reduce_mean(pixels, (1, 2, 3), keepdims=True)
            factor = (1 + contrast * sharpness)[:, None, None, None]
            shift = (255 * brightness * lightness)[:, None, None, None]
            pixels = pixels * factor + (mean * (1 - factor) + shift)
        rounding = 0.5 if images.dtype.is_integer else 0.0  # a cast to integers truncates
        return tf.cast(tf.clip_by_value(pixels + rounding, 0, 255), images.dtype)

    def apply(dataset: "tf.data.Dataset", seed: int) -> "tf.data.Dataset":
        import tensorflow as tf

        # Each epoch is a new iteration, which continues the sequence of random numbers.
        seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=True).batch(2)
        return tf.data.Dataset.zip(dataset, seeds).map(
            lambda batch, seed: (transform(batch[0], seed), *batch[1:]), tf.data.AUTOTUNE, deterministic=True
        )

    return apply


def affine(
    size: tuple[int, int], scales: tuple[Tensor, Tensor], degrees: Tensor, shifts: tuple[Tensor, Tensor]
) -> Tensor:
    """Affine maps from output to input pixels, for `keras.ops.image.affine_transform`.

    With center c, scales S, rotation R and shift t, output pixel p is input pixel S^-1 R^-1 (p - c - t) + c.

    Args:
        size: (H, W).
        scales: Horizontal and vertical factors [B]; negative ones flip.
        degrees: Angles [B], counterclockwise in the displayed image.
        shifts: Horizontal and vertical shifts [B], in pixels.

    Returns:
        float32 [B, 8]: rows of the 3x3 matrix without its last element, 1.
    """
    import numpy as np
    import tensorflow as tf

    height, width = size
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    radians = degrees * (np.pi / 180)
    cosine, sine = tf.cos(radians), tf.sin(radians)
    a, b = cosine / scales[0], -sine / scales[0]
    c, d = sine / scales[1], cosine / scales[1]
    origin_x, origin_y = center_x + shifts[0], center_y + shifts[1]
    first = [a, b, center_x - a * origin_x - b * origin_y]
    second = [c, d, center_y - c * origin_x - d * origin_y]
    zero = tf.zeros_like(cosine)
    return tf.stack([*first, *second, zero, zero], axis=1)
