"""Blur kernels: small images that sum to 1, their centre at index size // 2 of both axes."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from rtc.errors import InvalidArgument

SAMPLES_PER_PIXEL = 32


def gaussian(std: float) -> Float[Tensor, "size size"]:
    """A round Gaussian of standard deviation `std` > 0 pixels, cut off at four of them."""
    return anisotropic(std, std, 0.0)


def anisotropic(std_a: float, std_b: float, angle: float) -> Float[Tensor, "size size"]:
    """A Gaussian of standard deviations std_a, std_b > 0 pixels along two axes.

    angle: of the first axis, in degrees, anticlockwise from the direction of the columns (to the right).
    Raises InvalidArgument for other deviations.
    """
    if not (0.0 < std_a < math.inf and 0.0 < std_b < math.inf):
        raise InvalidArgument(f"std_a = {std_a}, std_b = {std_b}; a standard deviation is a positive number.")
    radius = math.ceil(4.0 * max(std_a, std_b))
    offset = torch.arange(-radius, radius + 1, dtype=torch.float64)
    up, right = -offset[:, None], offset[None, :]
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    along, across = right * cos + up * sin, up * cos - right * sin
    kernel = torch.exp(-0.5 * ((along / std_a) ** 2 + (across / std_b) ** 2))
    return kernel / kernel.sum()


def motion(length: float, angle: float) -> Float[Tensor, "size size"]:
    """A straight line of `length` > 0 pixels, as a camera draws that moves at constant speed.

    angle: in degrees, anticlockwise from the direction of the columns. Its points are shared out between the
    four pixels around each (bilinearly). Raises InvalidArgument for another length.
    """
    if not 0.0 < length < math.inf:
        raise InvalidArgument(f"length is {length}; a length is a positive number of pixels.")
    count = max(1, round(length * SAMPLES_PER_PIXEL))
    place = ((torch.arange(count, dtype=torch.float64) + 0.5) / count - 0.5) * length
    radius = math.ceil(length / 2.0)
    row = radius - place * math.sin(math.radians(angle))
    column = radius + place * math.cos(math.radians(angle))
    index = torch.arange(2 * radius + 1, dtype=torch.float64)
    near_row = (1.0 - (index[:, None] - row).abs()).clamp(min=0.0)  # [size, count]
    near_column = (1.0 - (index[:, None] - column).abs()).clamp(min=0.0)
    return near_row @ near_column.T / count
