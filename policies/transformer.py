"""A diffusion transformer over the actions of a chunk, looking at the observation through cross-attention.

Blocks with zero-initialised adaptive layer norms as in Peebles & Xie 2023 (DiT, arXiv 2212.09748), with the
cross-attention between self-attention and perceptron that Vaswani et al. 2017 put there.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from policies.embedding import TimeEncoder
from policies.readout import Readout

HEAD = 32  # channels of one attention head


class Attention(nn.Module):
    """Multi-head attention of one sequence to another, or to itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(1, channels // HEAD)
        self.query = nn.Linear(channels, channels, bias=False)
        self.key_value = nn.Linear(channels, 2 * channels, bias=False)
        self.out = nn.Linear(channels, channels, bias=False)

    def forward(
        self, hidden: Float[Tensor, "batch rows channels"], tokens: Float[Tensor, "batch tokens channels"]
    ) -> Float[Tensor, "batch rows channels"]:
        """What `hidden` reads from `tokens`."""
        parts = [self.query(hidden), *self.key_value(tokens).chunk(2, -1)]
        heads = [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts]
        read = functional.scaled_dot_product_attention(*heads)
        return self.out(read.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Rows look at each other, then at the observation, then each thinks; the flow time gates all three."""

    def __init__(self, channels: int, channel_hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6, elementwise_affine=False)
        self.modulation = nn.Linear(channels, 9 * channels)
        self.rows = Attention(channels)
        self.observation = Attention(channels)
        self.perceptron = nn.Sequential(
            nn.Linear(channels, channel_hidden),
            nn.GELU(approximate="tanh"),
            nn.Linear(channel_hidden, channels),
        )
        nn.init.zeros_(self.modulation.weight)  # a new block is the identity
        nn.init.zeros_(self.modulation.bias)

    def forward(
        self,
        hidden: Float[Tensor, "batch horizon channels"],
        condition: Float[Tensor, "any rows channels"],
        context: Float[Tensor, "batch tokens channels"],
    ) -> Float[Tensor, "batch horizon channels"]:
        """One block; condition is the encoded flow time: one for the batch, one each, or one an action."""
        scale, shift, gate, *others = self.modulation(condition).chunk(9, -1)
        normed = self.norm(hidden) * (1 + scale) + shift
        hidden = hidden + gate * self.rows(normed, normed)
        scale, shift, gate, *others = others
        hidden = hidden + gate * self.observation(self.norm(hidden) * (1 + scale) + shift, context)
        scale, shift, gate = others
        return hidden + gate * self.perceptron(self.norm(hidden) * (1 + scale) + shift)


class Transformer(Readout):
    """A velocity field over chunks: v(x, tau | obs); a token an action, one for the state, some an image."""

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        horizon: int,
        channels: int = 96,
        channel_hidden: int = 192,
        blocks: int = 3,
    ) -> None:
        super().__init__()
        self.action_in = nn.Linear(action_dim, channels)
        self.position = nn.Parameter(0.02 * torch.randn(horizon, channels))
        self.obs_in = nn.Linear(obs_dim, channels)
        self.time_in = TimeEncoder(channels)
        self.blocks = nn.ModuleList(TransformerBlock(channels, channel_hidden) for _ in range(blocks))
        self.end_with(channels, action_dim)

    def encode(
        self,
        obs: Float[Tensor, "batch obs_dim"],
        images: Float[Tensor, "batch tokens channels"] | None = None,
    ) -> Float[Tensor, "batch all channels"]:
        """The tokens that the rows look at, once per chunk: the state, then the images."""
        state = self.obs_in(obs)[:, None]
        return state if images is None else torch.cat([state, images], 1)

    def forward(
        self,
        chunk: Float[Tensor, "batch horizon action_dim"],
        tau: Float[Tensor, "*times"],
        context: Float[Tensor, "batch tokens channels"],
    ) -> Float[Tensor, "batch horizon action_dim"]:
        """The velocity at `chunk` and flow time `tau`: [1], one each [batch], or [batch, horizon]."""
        condition = self.time_in(tau)
        hidden = self.action_in(chunk) + self.position
        for block in self.blocks:
            hidden = block(hidden, condition, context)
        return self.read_out(hidden, condition)
