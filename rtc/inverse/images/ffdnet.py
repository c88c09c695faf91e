"""FFDNet, a denoiser of colour photographs that is told the noise level, as a prior on a VE path.

Source: Zhang, Zuo & Zhang 2018; the weights' origin and licence are in weights/NOTICE.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad, pixel_shuffle, pixel_unshuffle

from rtc.checkpoint import read_weights
from rtc.errors import CheckpointError, InvalidArgument
from rtc.inverse.images.model import per_image
from rtc.path import VE, Time
from rtc.prior import DenoiserPrior, from_gaussian_denoiser

SHIPPED = Path(__file__).parent / "weights" / "ffdnet_color.safetensors"
TRAINED_TO = 75 / 255
"""The largest noise level that the weights were trained for (Zhang et al. 2018, section IV)."""


class FFDNet(nn.Module):
    """(image, sigma) -> denoised image: 12 convolutions at half resolution; the noise level is a channel."""

    def __init__(self, channels: int = 3, width: int = 96, depth: int = 12) -> None:
        super().__init__()
        self.channels = channels
        sizes = [4 * channels + 1, *[width] * (depth - 1), 4 * channels]
        layers: list[nn.Module] = []
        for size_in, size_out in pairwise(sizes):
            layers += [nn.Conv2d(size_in, size_out, 3, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(
        self, x: Float[Tensor, "batch channels height width"], sigma: Float[Tensor, " levels"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Images in [0, 1] plus noise; one noise level (standard deviation, in the same unit) or one each.

        An odd side is padded by a copy of its last row or column, which is cut off again. Raises
        InvalidArgument for another number of channels.
        """
        if x.shape[1] != self.channels:
            raise InvalidArgument(
                f"the image has {x.shape[1]} channel(s); this denoiser takes {self.channels} (RGB)"
            )
        height, width = x.shape[2:]
        even = pixel_unshuffle(pad(x, (0, width % 2, 0, height % 2), mode="replicate"), 2)
        level = sigma.to(x.dtype)[:, None, None, None].expand(len(x), 1, *even.shape[2:])
        return pixel_shuffle(self.layers(torch.cat([even, level], 1)), 2)[:, :, :height, :width]


def load_ffdnet(path: Path | str = SHIPPED) -> FFDNet:
    """The network with the weights in a safetensors file, on the CPU, for inference.

    Raises CheckpointError if the file is missing, damaged, not finite, or another network's.
    """
    network = FFDNet()
    try:
        network.load_state_dict(read_weights(Path(path)))
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} is not FFDNet for colour images ({' '.join(str(error).split())[:200]}); "
            f"use {SHIPPED.name}, which comes with the package"
        ) from error
    return network.eval().requires_grad_(False)


@lru_cache(maxsize=1)
def _shipped() -> FFDNet:
    return load_ffdnet()


def ffdnet(sigma_max: float = 0.5, sigma_min: float = 1e-3, network: FFDNet | None = None) -> DenoiserPrior:
    """A prior of colour photographs [*batch, 3, height, width] in [0, 1] on VE(sigma_max, sigma_min).

    network: one on another device or dtype; None: the shipped weights, in float32 on the CPU. Above 75/255
    there is more noise than the network was trained for: it grows worse, but does not break.
    """
    denoiser = network or _shipped()

    def denoise(z: Tensor, rho: Time) -> Tensor:
        return denoiser(z.reshape(-1, *z.shape[-3:]), per_image(rho, z)).reshape(z.shape)

    return from_gaussian_denoiser(denoise, VE(sigma_max, sigma_min))
