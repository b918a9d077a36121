"""The pictures of a request as they are kept: what the model has seen of them, as PNG.

Not the uploaded files: these have up to 32 MB each, and may tell where and by whom a picture was taken. A training in
the size of the model sees no difference.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

from ..contracts import Description
from .answered import Answered
from .contracts import MOST_BYTES, MOST_ROWS, Privacy

if TYPE_CHECKING:
    from numpy.typing import NDArray


def request(answered: Answered, description: Description, privacy: Privacy) -> tuple[bytes, int]:
    """A request as `{"pictures": ["<PNG in base64>", ...]}`: the first ones, if they are many or large.

    Args:
        answered: The request.
        description: Content of models/model.json.
        privacy: Not used: pictures have no columns.

    Returns:
        JSON in one line, and the number of pictures.
    """
    pictures: list[bytes] = []
    room = MOST_BYTES
    for pixels in answered.feeds["image"][:MOST_ROWS]:
        picture = b'"%s"' % base64.b64encode(png(pixels))
        room -= len(picture)
        if pictures and room < 0:
            break
        pictures.append(picture)
    return b'{"pictures":[%s]}' % b",".join(pictures), len(pictures)


def png(pixels: NDArray[Any]) -> bytes:
    """A PNG file of pixels, which decodes to the same ones.

    Gray with fractions has 16 bits; colors with fractions, which only JSON and arrays can have, are rounded.

    Args:
        pixels: Values from 0 to 255, [H, W, C].
    """
    import numpy as np
    from PIL import Image

    levels = np.rint(pixels).astype(np.uint8)
    is_gray = bool((pixels == pixels[..., :1]).all())
    if is_gray and (levels != pixels).any():
        image = Image.fromarray(np.rint(pixels[..., 0].astype(np.float64) * 257).astype(np.uint16))
    else:
        image = Image.fromarray(levels[..., 0] if is_gray else levels)
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=3)
    return file.getvalue()
