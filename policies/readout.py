"""The end that the networks share: rows of hidden numbers become velocities."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class Readout(nn.Module):
    """A network that ends in an adaptive layer norm and a linear map; a new one ignores the flow time."""

    def end_with(self, channels: int, action_dim: int) -> None:
        """Make the last layers; the subclass calls this once it has made the others."""
        self.norm = nn.LayerNorm(channels, eps=1e-6, elementwise_affine=False)
        self.modulation = nn.Linear(channels, 2 * channels)
        self.action_out = nn.Linear(channels, action_dim)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def read_out(
        self, hidden: Float[Tensor, "batch horizon channels"], condition: Float[Tensor, "any rows channels"]
    ) -> Float[Tensor, "batch horizon action_dim"]:
        """Velocities; condition is the encoded flow time: one for the batch, one each, or one an action."""
        scale, shift = self.modulation(condition).chunk(2, -1)
        return self.action_out(self.norm(hidden) * (1 + scale) + shift)
