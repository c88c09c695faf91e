"""One small U-Net for images, with a time, and with a class that may be left out.

```
x [c, h, w] ─ unshuffle 2 ─ blocks ───────────────────────────── join ─ blocks ─ shuffle 2 ─ [c, h, w]
                              │ (h/2, w/2)                        │
                              └─ stride 2 ─ blocks ─ nearest x 2 ─┘
                                            (h/4, w/4)
```

Full resolution is never convolved: four pixels are four channels from the start, which on a CPU is most of
the speed.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle, pixel_unshuffle, silu

from rtc.errors import InvalidArgument

GROUPS = 8
FREQUENCIES = 32  # of the time embedding, in a geometric row from 1 to HIGHEST radians per unit of tau
HIGHEST = 1000.0


class Block(nn.Module):
    """A residual block whose channels are scaled and shifted by the embedding; the identity at first."""

    def __init__(self, channels_in: int, channels_out: int, embedding: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels_in)
        self.modulation = nn.Linear(embedding, 2 * channels_in)
        self.first = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.second = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.skip = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """[batch, channels_in, h, w] -> [batch, channels_out, h, w]."""
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, 1)
        inner = silu(torch.addcmul(shift, self.norm(h), 1 + scale))
        return self.skip(h) + self.second(silu(self.first(inner)))


class UNet(nn.Module):
    """(image, tau, label) -> image: a denoiser's network; about 0.7 million parameters as it stands.

    channels: of the image. classes: labels are 0 .. classes - 1, and `classes` itself is the null label,
    which stands for an image of any class (Ho & Salimans 2022); 0 classes: the network takes no label.
    widths: channels at half and at quarter resolution, multiples of 8. depth: blocks in each of the three
    runs. embedding: size of the time and class embedding.
    """

    def __init__(
        self,
        channels: int = 1,
        classes: int = 0,
        widths: tuple[int, int] | list[int] = (48, 96),
        depth: int = 2,
        embedding: int = 128,
    ) -> None:
        super().__init__()
        wide, deep = widths
        self.channels, self.classes = channels, classes
        self.time = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.label = nn.Embedding(classes + 1, embedding) if classes else None
        self.enter = nn.Conv2d(4 * channels, wide, 3, padding=1)
        self.down = nn.ModuleList([Block(wide, wide, embedding) for _ in range(depth)])
        self.shrink = nn.Conv2d(wide, deep, 3, stride=2, padding=1)
        self.middle = nn.ModuleList([Block(deep, deep, embedding) for _ in range(depth)])
        self.grow = nn.Conv2d(deep, wide, 1)
        self.up = nn.ModuleList([Block(wide if i else 2 * wide, wide, embedding) for i in range(depth)])
        self.norm = nn.GroupNorm(GROUPS, wide)
        self.leave = nn.Conv2d(wide, 4 * channels, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        tau: Float[Tensor, " times"],
        label: Int[Tensor, " labels"] | None = None,
    ) -> Float[Tensor, "batch channels height width"]:
        """One tau and one label for the batch, or one each; no label is the null label.

        Raises InvalidArgument for an image of another number of channels or sides that 4 does not divide.
        """
        if x.shape[1] != self.channels or x.shape[2] % 4 or x.shape[3] % 4:
            raise InvalidArgument(
                f"the image is {'x'.join(map(str, x.shape[1:]))}; this network takes "
                f"{self.channels} channel(s) and sides that 4 divides: crop or pad it"
            )
        embedding = silu(self._embed(tau.to(x.dtype), label))
        h = self.enter(pixel_unshuffle(x, 2))
        for block in self.down:
            h = block(h, embedding)
        aside = h
        h = self.shrink(h)
        for block in self.middle:
            h = block(h, embedding)
        h = torch.cat([interpolate(self.grow(h), scale_factor=2.0, mode="nearest"), aside], 1)
        for block in self.up:
            h = block(h, embedding)
        return pixel_shuffle(self.leave(silu(self.norm(h))), 2)

    def _embed(self, tau: Tensor, label: Tensor | None) -> Tensor:
        exponents = torch.linspace(0, math.log(HIGHEST), FREQUENCIES, dtype=tau.dtype, device=tau.device)
        angle = tau[:, None] * exponents.exp()
        embedding = self.time(torch.cat([angle.sin(), angle.cos()], 1))
        if self.label is None:
            if label is not None:
                raise InvalidArgument("this network was made without classes; leave the label out")
            return embedding
        if label is None:
            label = torch.full((1,), self.classes, device=tau.device)
        return embedding + self.label(label)
