"""Images from and to files, in [0, 1]; needs the `images` extra."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rtc.errors import InvalidArgument
from rtc.serialise import whole_file

LARGEST = 1024
"""Pixels of a side; a larger image would take hours on a CPU."""


def read_image(
    path: Path, channels: int, size: tuple[int, int] | None
) -> Float[Tensor, "channels height width"]:
    """The picture in a file, in [0, 1], as grey (1 channel) or RGB (3).

    Raises InvalidArgument if there is no picture, if it has not the `size` wanted, or is too large.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as file:
            picture = file.convert("L" if channels == 1 else "RGB")
    except FileNotFoundError:
        raise InvalidArgument(f"there is no image {path}; give a file, or builtin.") from None
    except (UnidentifiedImageError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidArgument(
            f"{path} is no image that can be read ({reason}); give a PNG or JPEG file."
        ) from None
    width, height = picture.size
    if size is not None and (height, width) != size:
        raise InvalidArgument(
            f"{path} is {height} x {width}, but this prior knows images of {size[0]} x {size[1]} only; "
            "scale or crop it, or use --prior ffdnet."
        )
    if max(height, width) > LARGEST:
        raise InvalidArgument(f"{path} is {height} x {width}; crop it to at most {LARGEST} pixels a side.")
    values = torch.from_numpy(np.array(picture, dtype=np.float32) / 255.0)
    return values[None] if channels == 1 else values.permute(2, 0, 1)


def as_array(image: Float[Tensor, "channels height width"]) -> np.ndarray:
    """[height, width] or [height, width, 3], clipped to [0, 1]: what plots and metrics take."""
    clipped = image.detach().clamp(0.0, 1.0).permute(1, 2, 0).double().numpy()
    return clipped[..., 0] if clipped.shape[-1] == 1 else clipped


def write_image(path: Path, image: Float[Tensor, "channels height width"]) -> None:
    """Write a PNG file of 8 bits a channel."""
    from PIL import Image

    values = (as_array(image) * 255.0).round().astype(np.uint8)
    with whole_file(path) as temporary:
        Image.fromarray(values).save(temporary, format="PNG")
