"""A residual head: a small network that corrects single actions of a policy's chunks, tick by tick."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from huggingface_hub import PyTorchModelHubMixin
from jaxtyping import Float, Int
from torch import Tensor, nn

from policies.checkpoint import bare_task
from policies.flow import FlowPolicy
from rtc.checkpoint import CONFIG, WEIGHTS, misfit, parameters_of, read_config, read_weights
from rtc.errors import CheckpointError, InvalidArgument, Unsupported
from rtc.training import Recipe

FORMAT = 1  # of checkpoints; a head that an older rtc cannot read gets a new number
FOLDER = "residual"  # inside the checkpoint of the policy that it corrects
WAVES = 4  # sines and cosines of a row's place in its chunk


class ResidualHead(nn.Module, PyTorchModelHubMixin):
    """(observation now, action of the plan, its row) -> what to add to it.

    ```
    (obs - mean) / std, (action - mean) / std, sin and cos of the row  ->  hidden layers  ->  bound * tanh
    ```

    A new head adds nothing. channels, layers: of the hidden layers. bound: the largest correction of a number
    of an action, above 0, in the policy's units (standard deviations). format: of the checkpoint. Raises
    InvalidArgument for sizes below 1 or a bound that is not positive, CheckpointError for a format from the
    future. Source: Sendai et al. 2025 (A2C2, arXiv 2509.23224), whose head sees the policy's features too.
    """

    def __init__(
        self,
        task: str,
        obs_dim: int,
        action_dim: int,
        horizon: int = 16,
        channels: int = 256,
        layers: int = 2,
        bound: float = 2.0,
        action_low: Sequence[float] | float = -1.0,
        action_high: Sequence[float] | float = 1.0,
        format: int = FORMAT,
    ) -> None:
        super().__init__()
        if format > FORMAT:
            raise CheckpointError(
                f"format {format} was written by a newer version of rtc; "
                f"this one reads up to {FORMAT}: upgrade rtc"
            )
        if min(obs_dim, action_dim, horizon, channels, layers) < 1 or not 0.0 < bound < math.inf:
            raise InvalidArgument(
                f"sizes {(obs_dim, action_dim, horizon, channels, layers)} and bound {bound}: "
                "sizes are 1 or more, the bound is above 0"
            )
        self.task, self.horizon, self.bound = task, horizon, bound
        self.obs_dim, self.action_dim = obs_dim, action_dim
        widths = [obs_dim + action_dim + 2 * WAVES, *[channels] * layers]
        hidden = [part for into, out in pairwise(widths) for part in (nn.Linear(into, out), nn.SiLU())]
        last = nn.Linear(channels, action_dim)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(*hidden, last)
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

    @classmethod
    def of(cls, policy: FlowPolicy, obs: Float[Tensor, "n obs_dim"]) -> ResidualHead:
        """A new head in the sizes and the action units of `policy`; obs: what it will be trained on."""
        low, high = policy.action_low.tolist(), policy.action_high.tolist()
        sizes = (policy.obs_dim, policy.action_dim, policy.horizon)
        head = cls(policy.task, *sizes, action_low=low, action_high=high)
        head.obs_mean.copy_(obs.mean(0))
        head.obs_std.copy_(obs.std(0).clamp_min(1e-3))
        head.action_mean.copy_(policy.action_mean)
        head.action_std.copy_(policy.action_std)
        return head

    def forward(
        self,
        obs: Float[Tensor, "batch obs_dim"],
        actions: Float[Tensor, "batch action_dim"],
        rows: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch action_dim"]:
        """What to add, in the policy's units; obs and actions as the environment has them, rows 0..H-1."""
        angles = math.pi * rows[:, None] / self.horizon * 2.0 ** torch.arange(WAVES, device=rows.device)
        known = [
            (obs - self.obs_mean) / self.obs_std,
            (actions - self.action_mean) / self.action_std,
            angles.sin(),
            angles.cos(),
        ]
        return self.bound * torch.tanh(self.network(torch.cat(known, 1)))

    def correct(
        self,
        obs: Float[Tensor, "batch obs_dim"],
        actions: Float[Tensor, "batch action_dim"],
        rows: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch action_dim"]:
        """`actions` with what is added, env units, clipped to the action space.

        Raises InvalidArgument for observations or actions of another size.
        """
        if (obs.shape[1], actions.shape[1]) != (self.obs_dim, self.action_dim):
            raise InvalidArgument(
                f"observations of {obs.shape[1]} and actions of {actions.shape[1]} numbers; "
                f"this residual head of {self.task} takes {self.obs_dim} and {self.action_dim}"
            )
        precise = self.obs_mean.dtype
        added = self(obs.to(precise), actions.to(precise), rows) * self.action_std
        return (actions + added).clamp(self.action_low, self.action_high).to(actions.dtype)


def residual_loss(
    head: ResidualHead,
    obs: Float[Tensor, "batch obs_dim"],
    actions: Float[Tensor, "batch action_dim"],
    rows: Int[Tensor, " batch"],
    residual: Float[Tensor, "batch action_dim"],
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """Mean squared error of what the head adds, in the policy's units; it draws nothing from `generator`."""
    return (head(obs, actions, rows) - residual).square().mean()


@dataclass(frozen=True)
class ResidualRecipe(Recipe):
    """How a head is trained, and on what; each episode whose seed `validation` divides is held out.

    frames: of the demonstrations, for each of which chunks are drawn. draws: chunks a frame, of which the
    one nearest to the demonstration counts. Raises InvalidArgument for counts below 1.
    """

    steps: int = 4000
    learning_rate: float = 1e-3
    frames: int = 20_000
    draws: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames < 1 or self.draws < 1:
            raise InvalidArgument(f"frames={self.frames}, draws={self.draws}; both must be at least 1")


def residual_folder(policy: Path) -> Path:
    """Where the head of the policy in this folder is, or would be: within it.

    Without its own, X-prefix, the policy that is told its prefix, has the head of X: both act alike.
    """
    own, plain = policy / FOLDER, policy.with_name(policy.name.removesuffix("-prefix")) / FOLDER
    return own if own.is_dir() or not plain.is_dir() else plain


def load_residual(folder: Path, policy: FlowPolicy) -> ResidualHead:
    """The head in `folder`, for inference, on the CPU; it must fit `policy`.

    It computes in float64: among many robots a product of float32 is rounded otherwise than alone, and an
    episode must not depend on how many others are simulated with it.
    Raises Unsupported where there is no such folder, CheckpointError for files that are missing, damaged,
    from a newer version, or of another task or size.
    """
    if not folder.is_dir():
        raise Unsupported(
            f"this policy of {policy.task} has no residual head; train one with "
            f"`rtc train-residual --policy {folder.parent} --data DIR --out {folder}`"
        )
    required = parameters_of(ResidualHead, required=True)
    config = read_config(folder / CONFIG, ResidualHead, required, "train a head with `rtc train-residual`")
    weights = read_weights(folder / WEIGHTS)
    try:
        head = ResidualHead(**config)
        head.load_state_dict(weights)
    except CheckpointError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from None
    except (TypeError, ValueError, RuntimeError, InvalidArgument) as error:
        raise misfit(folder, "residual head", error) from error
    ours, theirs = ((each.obs_dim, each.action_dim, each.horizon) for each in (head, policy))
    if bare_task(head.task) != bare_task(policy.task) or ours != theirs:
        raise CheckpointError(
            f"the residual head in {folder} is of {head.task} (observations, actions, rows: {ours}), the "
            f"policy of {policy.task} {theirs}; train one for it with `rtc train-residual`"
        )
    return head.double().eval().requires_grad_(False)
