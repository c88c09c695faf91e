"""An MLP-Mixer over the actions of a chunk, told the flow time through adaptive layer norms.

The network of the RTC paper's simulated experiments (Black, Galliker & Levine 2025, arXiv 2506.07339;
Tolstikhin et al. 2021, arXiv 2105.01601; adaptive norms as in Peebles & Xie 2023, arXiv 2212.09748).
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from policies.embedding import TimeEncoder
from policies.readout import Readout


class MixerBlock(nn.Module):
    """Mixes over rows of the chunk, then over channels; the flow time scales, shifts and gates each half."""

    def __init__(self, horizon: int, channels: int, row_hidden: int, channel_hidden: int) -> None:
        super().__init__()
        self.row_norm = nn.LayerNorm(channels, eps=1e-6, elementwise_affine=False)
        self.row_modulation = nn.Linear(channels, 3 * channels)
        self.row_in = nn.Linear(horizon, row_hidden, bias=False)
        self.row_out = nn.Linear(row_hidden, horizon, bias=False)
        self.channel_norm = nn.LayerNorm(channels, eps=1e-6, elementwise_affine=False)
        self.channel_modulation = nn.Linear(channels, 3 * channels)
        self.channel_in = nn.Linear(channels, channel_hidden, bias=False)
        self.channel_out = nn.Linear(channel_hidden, channels, bias=False)
        for modulation in (self.row_modulation, self.channel_modulation):  # a new block is the identity
            nn.init.zeros_(modulation.weight)
            nn.init.zeros_(modulation.bias)

    def forward(
        self, hidden: Float[Tensor, "batch horizon channels"], condition: Float[Tensor, "any rows channels"]
    ) -> Float[Tensor, "batch horizon channels"]:
        """One block; condition is the encoded flow time: one for the batch, one each, or one an action."""
        scale, shift, gate = self.row_modulation(condition).chunk(3, -1)
        rows = (self.row_norm(hidden) * (1 + scale) + shift).transpose(1, 2)
        mixed = self.row_out(functional.gelu(self.row_in(rows), approximate="tanh")).transpose(1, 2)
        hidden = hidden + gate * mixed
        scale, shift, gate = self.channel_modulation(condition).chunk(3, -1)
        values = self.channel_norm(hidden) * (1 + scale) + shift
        return hidden + gate * self.channel_out(functional.gelu(self.channel_in(values), approximate="tanh"))


class Mixer(Readout):
    """A velocity field over chunks: v(x, tau | obs).

    Every row of the chunk sees its action and the whole observation; what the observation contributes is the
    same at every flow step, so it is computed once (`encode`) and handed to `forward`. image_tokens: how many
    tokens of `channels` numbers the images of an observation are.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        horizon: int,
        channels: int = 96,
        row_hidden: int = 48,
        channel_hidden: int = 192,
        blocks: int = 3,
        image_tokens: int = 0,
    ) -> None:
        super().__init__()
        self.action_in = nn.Linear(action_dim, channels)
        self.obs_in = nn.Linear(obs_dim, channels, bias=False)
        self.image_in = nn.Linear(image_tokens * channels, channels, bias=False) if image_tokens else None
        self.time_in = TimeEncoder(channels)
        self.blocks = nn.ModuleList(
            MixerBlock(horizon, channels, row_hidden, channel_hidden) for _ in range(blocks)
        )
        self.end_with(channels, action_dim)

    def encode(
        self,
        obs: Float[Tensor, "batch obs_dim"],
        images: Float[Tensor, "batch tokens channels"] | None = None,
    ) -> Float[Tensor, "batch 1 channels"]:
        """What the observation adds to every row, once per chunk."""
        context = self.obs_in(obs)
        if self.image_in is not None and images is not None:
            context = context + self.image_in(images.flatten(1))
        return context[:, None]

    def forward(
        self,
        chunk: Float[Tensor, "batch horizon action_dim"],
        tau: Float[Tensor, "*times"],
        context: Float[Tensor, "batch 1 channels"],
    ) -> Float[Tensor, "batch horizon action_dim"]:
        """The velocity at `chunk` and flow time `tau`: [1], one each [batch], or [batch, horizon]."""
        condition = self.time_in(tau)
        hidden = self.action_in(chunk) + context
        for block in self.blocks:
            hidden = block(hidden, condition)
        return self.read_out(hidden, condition)
