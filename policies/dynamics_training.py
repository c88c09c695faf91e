"""How dynamics are trained: on what was observed over the next ticks, with the actions that ran then."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from policies.dynamics import Dynamics
from rtc.errors import InvalidArgument
from rtc.training import Recipe, Run


@dataclass(frozen=True)
class DynamicsRecipe(Recipe):
    """How dynamics are trained: a row is a window of ahead + 1 ticks; `validation` as a policy's.

    ahead: ticks that the loss rolls out through, on its own predictions. Raises InvalidArgument below 1.
    """

    ahead: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ahead < 1:
            raise InvalidArgument(f"ahead is {self.ahead}; it must be at least 1 tick")


def rollout_loss(
    dynamics: Dynamics,
    first: Int[Tensor, " batch"],
    *,
    states: Float[Tensor, "frames obs_dim"],
    actions: Float[Tensor, "frames action_dim"],
    ahead: int,
    generator: Generator | None = None,
) -> Float[Tensor, ""]:
    """Mean squared error, in standard deviations of the data, of every tick of the rollouts from `first` on.

    states, actions: frames of episodes, a row a tick. generator: not needed; nothing is drawn.
    """
    window = first[:, None] + torch.arange(ahead + 1, device=first.device)
    seen = states[window]
    predicted = dynamics.rollout(seen[:, 0], actions[window[:, :-1]])
    return ((predicted - seen[:, 1:]) / dynamics.obs_std).square().mean()


class DynamicsTraining(Run):
    """A run over the first frames [n] of windows of `recipe.ahead` + 1 frames of one episode each."""

    def __init__(
        self,
        dynamics: Dynamics,
        recipe: DynamicsRecipe,
        states: Float[Tensor, "frames obs_dim"],
        actions: Float[Tensor, "frames action_dim"],
        device: torch.device | str = "cpu",
    ) -> None:
        frames = {"states": states.to(device), "actions": actions.to(device)}
        loss = partial(rollout_loss, **frames, ahead=recipe.ahead)
        super().__init__(dynamics, recipe, loss, "dynamics", device)


@torch.no_grad()
def prediction_errors(
    dynamics: Dynamics,
    states: Float[Tensor, "frames obs_dim"],
    actions: Float[Tensor, "frames action_dim"],
    now: Int[Tensor, " n"],
    later: int,
) -> dict[str, float]:
    """RMS errors, in standard deviations of the data, of what is predicted for `later` >= 1 ticks on.

    Of the network ("learned"), of who expects the present observation again ("nothing changes"), and of who
    adds the last change once a tick ("last change goes on"). now: the frames to predict from; one before and
    `later` after them belong to the same episode.
    """
    present, last_change = states[now], states[now] - states[now - 1]
    coming = now[:, None] + torch.arange(later, device=now.device)
    guesses = {
        "learned": dynamics.rollout(present, actions[coming])[:, -1],
        "nothing changes": present,
        "last change goes on": present + later * last_change,
    }
    scaled = {name: (guess - states[now + later]) / dynamics.obs_std for name, guess in guesses.items()}
    return {name: float(error.square().mean().sqrt()) for name, error in scaled.items()}
