"""Conditional flow matching on chunks: the loss, and a training run that resumes to the bit."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Generator, Tensor

from policies.flow import FlowPolicy
from rtc import losses
from rtc.training import STATE, Recipe, Run

__all__ = ["STATE", "Training", "TrainingRecipe", "flow_matching_loss"]


@dataclass(frozen=True)
class TrainingRecipe(Recipe):
    """How a policy is trained: a row is a chunk; each episode whose seed `validation` divides is held out."""


def flow_matching_loss(
    policy: FlowPolicy,
    obs: Float[Tensor, "batch obs_dim"],
    chunks: Float[Tensor, "batch horizon action_dim"],
    generator: Generator | None = None,
) -> Float[Tensor, ""]:
    """`rtc.losses.flow_matching_loss` of v(x_tau, tau | obs) on the straight path, for normalised chunks."""
    context = policy.encode(obs)
    return losses.flow_matching_loss(
        lambda x, tau: policy.velocity(x, tau, context), chunks, generator=generator
    )


class Training(Run):
    """A run over observations [n, obs_dim] and normalised chunks [n, horizon, action_dim]."""

    def __init__(self, policy: FlowPolicy, recipe: TrainingRecipe) -> None:
        super().__init__(policy, recipe, flow_matching_loss, kind="policy")
        self.policy = policy
