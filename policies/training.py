"""Conditional flow matching on chunks: the loss, and a training run that resumes to the bit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Generator, Tensor

from policies.flow import FlowPolicy
from rtc import losses
from rtc.errors import InvalidArgument
from rtc.prefix import first_rows
from rtc.training import STATE, Recipe, Run

__all__ = ["STATE", "Training", "TrainingRecipe", "flow_matching_loss"]


@dataclass(frozen=True)
class TrainingRecipe(Recipe):
    """How a policy is trained: a row is a chunk; each episode whose seed `validation` divides is held out.

    times: how flow times are drawn, a name in rtc.losses.TIMES. evaluate_every: steps between two rollouts of
    `evaluate_episodes` without delay, of which the best weights are kept; 0: never. dagger: rounds, spread
    evenly over the steps, in which the expert labels `dagger_episodes` that the policy drives.
    Raises InvalidArgument for other times.
    """

    times: str = "uniform"
    evaluate_every: int = 0
    evaluate_episodes: int = 128
    dagger: int = 0
    dagger_episodes: int = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.times not in losses.TIMES:
            raise InvalidArgument(f"times is {self.times!r}; choose from {', '.join(losses.TIMES)}")


def flow_matching_loss(
    policy: FlowPolicy,
    obs: Float[Tensor, "batch *state"],
    chunks: Float[Tensor, "batch horizon action_dim"],
    valid: Bool[Tensor, "batch horizon"] | None = None,
    committed: Int[Tensor, " batch"] | None = None,
    *images: UInt8[Tensor, "batch height width 3"],
    times: str = "uniform",
    generator: Generator | None = None,
) -> Float[Tensor, ""]:
    """`rtc.losses.flow_matching_loss` of v(x_tau, tau | obs) on the straight path, for normalised chunks.

    A policy with a max_delay is given the first 0..max_delay rows of each chunk, and asked for the others. Of
    rows that were `committed` before the expert had a say it is never asked, since no observation explains
    them: they are given, and in half of the draws nothing else. One with an obs_dropout loses so many of its
    observations. valid: rows that hold data. images: one a camera of the policy.
    """
    batch, horizon, _ = chunks.shape
    everything = {"state": obs} | dict(zip(policy.cameras, images, strict=True))
    context = policy.encode(everything)
    draws = {"generator": generator, "device": chunks.device}
    if policy.nothing is not None:
        left_out = torch.rand(batch, **draws) < policy.obs_dropout
        context = torch.where(left_out[:, None, None], policy.nothing, context)
    clean = None
    if policy.max_delay:
        delay = torch.randint(policy.max_delay + 1, (batch,), **draws)
        if committed is not None:
            delay = torch.where(torch.rand(batch, **draws) < 0.5, delay, 0)
            delay = delay.maximum(committed.clamp(max=policy.max_delay))
        clean = first_rows(delay, horizon)
    return losses.flow_matching_loss(
        lambda x, tau: policy.velocity(x, tau, context),
        chunks,
        generator=generator,
        times=times,
        clean=clean,
        valid=valid,
    )


class Training(Run):
    """A run over observations [n, obs_dim], normalised chunks [n, horizon, action_dim] and, if given, valid
    rows [n, horizon], committed rows [n] and images."""

    def __init__(
        self, policy: FlowPolicy, recipe: TrainingRecipe, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(policy, recipe, partial(flow_matching_loss, times=recipe.times), "policy", device)
        self.policy = policy
