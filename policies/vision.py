"""Images as a few tokens: a small convolutional encoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

WIDTHS = (32, 48, 64, 64)  # channels after each halving of the side
PLACES = 3  # tokens along each side of an image


class ImageEncoder(nn.Module):
    """`PLACES` x `PLACES` tokens for each camera's image; all cameras share the convolutions."""

    def __init__(self, cameras: Sequence[str], channels: int) -> None:
        super().__init__()
        self.cameras = tuple(cameras)
        layers: list[nn.Module] = []
        for before, after in zip((3, *WIDTHS[:-1]), WIDTHS, strict=True):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
        self.convolutions = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(PLACES))
        self.leave = nn.Linear(WIDTHS[-1], channels)
        self.position = nn.Parameter(0.02 * torch.randn(self.tokens, channels))

    @property
    def tokens(self) -> int:
        """Tokens of one observation."""
        return len(self.cameras) * PLACES**2

    def forward(
        self, images: Sequence[UInt8[Tensor, "batch height width 3"]]
    ) -> Float[Tensor, "batch tokens channels"]:
        """Tokens that know their camera and place, of one image a camera."""
        seen = []
        for image in images:
            pixels = image.permute(0, 3, 1, 2).to(self.position.dtype) / 127.5 - 1
            seen.append(self.leave(self.convolutions(pixels).flatten(2).mT))
        return torch.cat(seen, 1) + self.position
