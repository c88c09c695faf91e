"""How a network is told the flow time."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


def time_embedding(
    tau: Float[Tensor, "*times"], width: int, shortest: float = 0.004, longest: float = 4.0
) -> Float[Tensor, "*times width"]:
    """Sines then cosines of `tau` at periods spaced evenly in logarithm from `shortest` to `longest`."""
    periods = torch.logspace(
        math.log10(shortest), math.log10(longest), width // 2, dtype=torch.float64, device=tau.device
    )
    phase = tau.double()[..., None] * (2 * math.pi / periods)
    return torch.cat([phase.sin(), phase.cos()], -1).to(tau.dtype)


class TimeEncoder(nn.Sequential):
    """The embedded flow time through two layers: what the adaptive norms of every block read."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, channels), nn.SiLU())
        self.channels = channels

    def forward(self, input: Float[Tensor, "*times"]) -> Float[Tensor, "any rows channels"]:
        """Flow times [1 or batch] give one row for the whole chunk, [batch, horizon] one for each action."""
        condition = super().forward(time_embedding(input, self.channels))
        return condition[:, None] if input.ndim == 1 else condition
