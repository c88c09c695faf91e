"""The image priors by name, each with the scale that its images have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from rtc.errors import InvalidArgument
from rtc.inverse.images.digits import digits_model
from rtc.inverse.images.ffdnet import ffdnet
from rtc.inverse.images.model import load_model
from rtc.prior import Prior

PHOTOGRAPH_STD, PHOTOGRAPH_MEAN = 0.25, 0.5
"""Of a pixel of a photograph in [0, 1], roughly: what guidance assumes about FFDNet's images."""


@dataclass(frozen=True, eq=False)
class ImagePrior:
    """A prior of images and their scale: a pixel is low + (high - low) u for a pixel u in [0, 1].

    channels: 1 or 3. size: (height, width), or None if any will do. data_std, data_mean: of a pixel, scaled.
    """

    prior: Prior
    channels: int
    size: tuple[int, int] | None
    data_std: float
    data_mean: float
    low: float = -1.0
    high: float = 1.0

    @property
    def range(self) -> float:
        """high - low."""
        return self.high - self.low

    def scaled(self, pixels: Tensor) -> Tensor:
        """From [0, 1] to the prior's scale."""
        return self.low + self.range * pixels

    def pixels(self, images: Tensor) -> Tensor:
        """From the prior's scale to [0, 1]; not clipped."""
        return (images - self.low) / self.range


def image_prior(name: str, label: int | None = None, guidance: float = 1.0) -> ImagePrior:
    """The prior of that name: "digits", "ffdnet", or the folder of a checkpoint of `rtc train-prior`.

    label, guidance: the class to condition on, and the weight of classifier-free guidance. Raises
    InvalidArgument for an unknown name or a prior without labels, CheckpointError for a damaged checkpoint.
    """
    if name == "ffdnet":
        if label is not None:
            raise InvalidArgument("ffdnet knows no classes; leave --label out, or take --prior digits.")
        return ImagePrior(
            ffdnet(sigma_max=1.0, sigma_min=0.005), 3, None, PHOTOGRAPH_STD, PHOTOGRAPH_MEAN, low=0.0
        )
    if name != "digits" and not Path(name).is_dir():
        raise InvalidArgument(
            f"there is no prior {name!r}; give digits, ffdnet, or the folder of a checkpoint."
        )
    model = digits_model() if name == "digits" else load_model(name)
    channels, height, width = model.shape
    return ImagePrior(model.prior(label, guidance), channels, (height, width), model.data_std, 0.0)
