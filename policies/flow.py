"""A flow-matching policy: observations in, a prior over chunks of actions out; one folder holds all of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from huggingface_hub import PyTorchModelHubMixin
from jaxtyping import Float
from torch import Tensor, nn

from policies.mixer import Mixer
from rtc.path import Time
from rtc.prior import Prior, from_velocity


class FlowPolicy(nn.Module, PyTorchModelHubMixin):
    """p(chunk | obs) as a flow from noise to actions (Lipman et al. 2023), with its normalisation inside.

    Observations are raw; the prior is over normalised chunks [batch, horizon, action_dim]; `normalize` and
    `denormalize` convert actions at the border. `save_pretrained(folder)` writes config.json and
    model.safetensors, `from_pretrained(folder)` reads them; neither needs a network.
    """

    def __init__(
        self,
        task: str,
        obs_dim: int,
        action_dim: int,
        horizon: int = 16,
        channels: int = 96,
        row_hidden: int = 48,
        channel_hidden: int = 192,
        blocks: int = 3,
        action_low: Sequence[float] | float = -1.0,
        action_high: Sequence[float] | float = 1.0,
    ) -> None:
        super().__init__()
        self.task = task
        self.obs_dim = obs_dim
        self.action_dim = action_dim
        self.horizon = horizon
        self.network = Mixer(obs_dim, action_dim, horizon, channels, row_hidden, channel_hidden, blocks)
        # limits are arguments, kept in config.json: not among the weights, but moved with them
        self.register_buffer("action_low", torch.as_tensor(action_low), persistent=False)
        self.register_buffer("action_high", torch.as_tensor(action_high), persistent=False)
        self.register_buffer("obs_mean", torch.zeros(obs_dim))
        self.register_buffer("obs_std", torch.ones(obs_dim))
        self.register_buffer("action_mean", torch.zeros(action_dim))
        self.register_buffer("action_std", torch.ones(action_dim))

    obs_mean: Tensor
    obs_std: Tensor
    action_mean: Tensor
    action_std: Tensor
    action_low: Tensor
    action_high: Tensor

    def fit_normalisation(
        self, obs: Float[Tensor, "n obs_dim"], chunks: Float[Tensor, "n horizon action_dim"]
    ) -> None:
        """Take means and standard deviations from data; every row of the chunk shares its action's."""
        self.obs_mean.copy_(obs.mean(0))
        self.obs_std.copy_(obs.std(0).clamp_min(1e-3))
        self.action_mean.copy_(chunks.mean((0, 1)))
        self.action_std.copy_(chunks.std((0, 1)).clamp_min(1e-3))

    def encode(self, obs: Float[Tensor, "batch obs_dim"]) -> Float[Tensor, "batch 1 channels"]:
        """What the network needs of raw observations, once per chunk."""
        return self.network.encode((obs - self.obs_mean) / self.obs_std)

    def velocity(
        self,
        x: Float[Tensor, "batch horizon action_dim"],
        tau: Float[Tensor, " any"],
        context: Float[Tensor, "batch 1 channels"],
    ) -> Float[Tensor, "batch horizon action_dim"]:
        """v(x, tau | obs) for normalised chunks; one tau for the batch, or one each."""
        return self.network(x, tau, context)

    def condition(self, obs: Float[Tensor, "batch obs_dim"]) -> Prior:
        """The prior over normalised chunks for these observations; encodes them once for all flow steps."""
        context = self.encode(obs)

        def field(x: Tensor, tau: Time) -> Tensor:
            return self.velocity(x, torch.as_tensor(tau, dtype=x.dtype, device=x.device).reshape(-1), context)

        return from_velocity(field)

    def normalize(self, actions: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Actions of the environment -> units of the prior."""
        return (actions - self.action_mean) / self.action_std

    def denormalize(self, actions: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Units of the prior -> actions of the environment, clipped to its range: what will be executed."""
        return (actions * self.action_std + self.action_mean).clamp(self.action_low, self.action_high)
