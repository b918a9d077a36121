"""Natural changes of pictures, each in three strengths.

Source: D. Hendrycks, T. Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations,
ICLR 2019.
"""

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pictures = NDArray[np.float32]  # [n, H, W, C], values from 0 to 255
Change = Callable[[Pictures, float, np.random.Generator], Pictures]


def sensor_noise(pictures: Pictures, deviation: float, generator: np.random.Generator) -> Pictures:
    """Normal noise with a standard deviation of gray levels."""
    noise: Pictures = generator.standard_normal(pictures.shape, np.float32)
    return pictures + np.float32(deviation) * noise


def blur(pictures: Pictures, radius: float, generator: np.random.Generator) -> Pictures:
    """Gaussian blur; the radius is in hundredths of the shorter side, or in half pixels if that is more."""
    pixels = radius * max(0.5, min(pictures.shape[1:3]) / 100)
    return _each(pictures, lambda image: image.filter(ImageFilter.GaussianBlur(pixels)))


def dark(pictures: Pictures, factor: float, generator: np.random.Generator) -> Pictures:
    """Underexposure: every value times a factor below 1."""
    return pictures * np.float32(factor)


bright = dark  # overexposure: a factor above 1


def contrast(pictures: Pictures, factor: float, generator: np.random.Generator) -> Pictures:
    """Differences to the mean of a picture times a factor."""
    mean: Pictures = pictures.mean((1, 2, 3), keepdims=True)
    return mean + (pictures - mean) * np.float32(factor)


def jpeg(pictures: Pictures, quality: float, generator: np.random.Generator) -> Pictures:
    """Compression at a quality of 100."""

    def compressed(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(quality))
        return Image.open(file)

    return _each(pictures, compressed)


def fog(pictures: Pictures, share: float, generator: np.random.Generator) -> Pictures:
    """A share of uneven light gray in each picture, with wide swaths."""
    count, height, width, _ = pictures.shape
    swaths = generator.integers(160, 256, (count, 4, 4), np.uint8)
    veils = (Image.fromarray(swath).resize((width, height), Image.Resampling.BICUBIC) for swath in swaths)
    veil = np.stack([np.asarray(image, np.float32) for image in veils])[..., None]
    return pictures * np.float32(1 - share) + veil * np.float32(share)


CHANGES: dict[str, tuple[Change, tuple[float, float, float], str]] = {
    "sensor_noise": (sensor_noise, (8, 16, 32), "standard deviation, of 255"),
    "blur": (blur, (1, 2, 4), "radius, in % of the shorter side, at least 0.5, 1 and 2 pixels"),
    "dark": (dark, (0.75, 0.5, 0.25), "factor"),
    "bright": (bright, (1.5, 2, 3), "factor"),
    "contrast": (contrast, (0.6, 0.4, 0.2), "factor"),
    "jpeg": (jpeg, (50, 25, 10), "quality, of 100"),
    "fog": (fog, (0.3, 0.5, 0.7), "share"),
}


def changed(pictures: Pictures, generator: np.random.Generator) -> Iterator[tuple[str, float, Pictures]]:
    """Every change in every strength, the weakest first.

    Args:
        pictures: The pictures.
        generator: Source of random numbers.

    Yields:
        Name, strength and changed pictures, float32 [n, H, W, C], values from 0 to 255.
    """
    for name, (change, strengths, _) in CHANGES.items():
        for strength in strengths:
            yield name, strength, np.clip(change(pictures, strength, generator), 0, 255)


def _each(pictures: Pictures, change: Callable[[Image.Image], Image.Image]) -> Pictures:
    """The pictures, changed one by one as 8-bit images."""
    gray = pictures.shape[-1] == 1
    images = (Image.fromarray(p[..., 0] if gray else p) for p in np.rint(pictures).astype(np.uint8))
    result: NDArray[Any] = np.stack([np.asarray(change(image), np.float32) for image in images])
    return result[..., None] if gray else result
