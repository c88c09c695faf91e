"""The usual inverse problems of images by name, each as an operator for images of a given shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Generator

from rtc.errors import InvalidArgument
from rtc.operators.base import Operator
from rtc.operators.blur import Blur
from rtc.operators.color import Grayscale
from rtc.operators.kernels import anisotropic, gaussian, motion
from rtc.operators.masks import Identity, Mask
from rtc.operators.resample import Downsample
from rtc.operators.sensing import Hadamard

LOST = 0.03
"""Frequencies that a blur leaves at this part or less count as lost, as in the released code of DDRM."""

CATALOGUE: dict[str, tuple[str, Callable[[Sequence[int], Generator], Operator]]] = {
    "denoise": ("everything is seen", lambda event, _: Identity(event)),
    "inpaint-box": (
        "a box in the middle is missing, 3/7 of each side",
        lambda event, _: Mask.box(event, 3 * event[-2] // 7, 3 * event[-1] // 7),
    ),
    "inpaint-half": ("the lower half is missing", lambda event, _: Mask.half(event, "top")),
    "inpaint-random": (
        "half of the pixels are missing",
        lambda event, generator: Mask.random(event, 0.5, generator),
    ),
    "deblur": ("Gaussian blur, 1.5 pixels", lambda event, _: Blur(event, gaussian(1.5), LOST)),
    "deblur-anisotropic": (
        "Gaussian blur, 3 by .75 pixels at 30 degrees",
        lambda event, _: Blur(event, anisotropic(3.0, 0.75, 30.0), LOST),
    ),
    "deblur-motion": (
        "motion blur, 7 pixels at 30 degrees",
        lambda event, _: Blur(event, motion(7.0, 30.0), LOST),
    ),
    "superres": ("the mean of blocks of 2 x 2 is seen", lambda event, _: Downsample(event, 2)),
    "superres-bicubic": (
        "a bicubic reduction to half the size is seen",
        lambda event, _: Downsample(event, 2, "bicubic"),
    ),
    "colourise": ("the brightness of a colour image is seen", lambda event, _: Grayscale(event)),
    "sensing": (
        "a quarter of the coefficients of a scrambled Hadamard transform is seen",
        lambda event, generator: Hadamard(event, 0.25, generator),
    ),
}
"""Name -> (what is known of the image, (event, generator) -> operator)."""


def named_operator(name: str, event: Sequence[int], generator: Generator) -> Operator:
    """The operator of that name for images [*event]; random ones are drawn from the generator.

    Raises InvalidArgument for an unknown name, and what the operator raises for an image that it cannot take.
    """
    if name not in CATALOGUE:
        raise InvalidArgument(f"there is no operator {name!r}; choose from {', '.join(CATALOGUE)}.")
    if name == "colourise" and event[0] != 3:
        raise InvalidArgument(f"colourise needs a colour image (3 channels); this one has {event[0]}.")
    return CATALOGUE[name][1](event, generator)
