"""A learned model of the world: what a robot will observe once actions that it is committed to have run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from huggingface_hub import PyTorchModelHubMixin
from jaxtyping import Float, Int
from torch import Tensor, nn

from rtc.errors import CheckpointError, InvalidArgument

FORMAT = 1  # of checkpoints; dynamics that an older rtc cannot read get a new number
SMALLEST = 1e-3  # standard deviation: a number that stays as it is is not divided by nothing


class Dynamics(nn.Module, PyTorchModelHubMixin):
    """obs' = obs + change(obs, action), one control tick; a small perceptron, its normalisation inside.

    ```
    obs --[ a0 ]--> obs' --[ a1 ]--> obs'' ...      a rollout feeds on its own predictions
    ```

    Observations and actions are raw: the environment's numbers, without images or history. What is observed
    with noise is predicted from it: what it makes of the noise is learned, too.
    hidden: widths of its layers. format: of the checkpoint. Raises CheckpointError for a format from
    the future, InvalidArgument for sizes below 1.
    """

    def __init__(
        self,
        task: str,
        obs_dim: int,
        action_dim: int,
        hidden: Sequence[int] = (192, 192),
        format: int = FORMAT,
    ) -> None:
        super().__init__()
        if format > FORMAT:
            raise CheckpointError(
                f"format {format} was written by a newer version of rtc; "
                f"this one reads up to {FORMAT}: upgrade rtc"
            )
        if min(obs_dim, action_dim, *hidden) < 1:
            raise InvalidArgument(
                f"obs_dim={obs_dim}, action_dim={action_dim}, hidden={list(hidden)}; all are 1 or more"
            )
        self.task = task
        self.obs_dim = obs_dim
        self.action_dim = action_dim
        sizes = (obs_dim + action_dim, *hidden)
        layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.SiLU())]
        last = nn.Linear(sizes[-1], obs_dim)
        nn.init.zeros_(last.weight)  # an untrained world stands still
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(*layers, last)
        self.register_buffer("obs_mean", torch.zeros(obs_dim))
        self.register_buffer("obs_std", torch.ones(obs_dim))
        self.register_buffer("action_mean", torch.zeros(action_dim))
        self.register_buffer("action_std", torch.ones(action_dim))
        self.register_buffer("change_std", torch.ones(obs_dim))

    obs_mean: Tensor
    obs_std: Tensor
    action_mean: Tensor
    action_std: Tensor
    change_std: Tensor

    def fit_normalisation(
        self,
        obs: Float[Tensor, "n obs_dim"],
        actions: Float[Tensor, "n action_dim"],
        later: Float[Tensor, "n obs_dim"],
    ) -> None:
        """Take means and standard deviations from data. later: what was observed one tick after `obs`."""
        self.obs_mean.copy_(obs.mean(0))
        self.obs_std.copy_(obs.std(0).clamp_min(SMALLEST))
        self.action_mean.copy_(actions.mean(0))
        self.action_std.copy_(actions.std(0).clamp_min(SMALLEST))
        self.change_std.copy_((later - obs).std(0).clamp_min(SMALLEST))

    def step(
        self, obs: Float[Tensor, "batch obs_dim"], action: Float[Tensor, "batch action_dim"]
    ) -> Float[Tensor, "batch obs_dim"]:
        """What is observed one tick after `obs`, in which `action` runs."""
        known = ((obs - self.obs_mean) / self.obs_std, (action - self.action_mean) / self.action_std)
        return obs + self.change_std * self.network(torch.cat(known, -1))

    def rollout(
        self, obs: Float[Tensor, "batch obs_dim"], actions: Float[Tensor, "batch ticks action_dim"]
    ) -> Float[Tensor, "batch ticks obs_dim"]:
        """What is observed after each of the actions, which run one after the other from `obs` on."""
        seen = []
        for action in actions.unbind(1):
            obs = self.step(obs, action)
            seen.append(obs)
        return torch.stack(seen, 1)

    @torch.no_grad()
    def predict(
        self,
        obs: Float[Tensor, "batch obs_dim"],
        actions: Float[Tensor, "batch ticks action_dim"],
        rows: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch obs_dim"]:
        """What is observed after the first `rows` (0..ticks, each its own) actions; after none, `obs` itself.

        An answer does not depend on the others of its batch. Raises InvalidArgument for other sizes.
        """
        self._check(obs, actions, rows)
        if not actions.shape[1]:
            return obs
        precise = self.obs_mean.dtype
        later = self.rollout(obs.to(precise), actions.to(precise)).to(obs.dtype)
        seen = torch.cat([obs[:, None], later], 1)
        return seen[torch.arange(len(obs), device=obs.device), rows.to(obs.device)]

    def _check(self, obs: Tensor, actions: Tensor, rows: Tensor) -> None:
        if (obs.shape[-1], actions.shape[-1]) != (self.obs_dim, self.action_dim):
            raise InvalidArgument(
                f"observations have {obs.shape[-1]} numbers and actions {actions.shape[-1]}; these dynamics "
                f"of {self.task} take {self.obs_dim} and {self.action_dim}"
            )
        if len(rows) and not (int(rows.min()) >= 0 and int(rows.max()) <= actions.shape[1]):
            raise InvalidArgument(
                f"rows={rows.tolist()}; they must be 0..{actions.shape[1]}, as many as there are actions"
            )
