"""L-BFGS for a batch of independent problems: every element has its own memory and its own step length.

An optimiser that takes the batch for one long vector couples its elements through the line search.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Evaluation(NamedTuple):
    """A point [batch, n], the objective there [batch], and its gradient [batch, n]."""

    x: Tensor
    value: Tensor
    gradient: Tensor


Objective = Callable[[Tensor], tuple[Tensor, Tensor]]
"""[batch, n] -> values [batch] and gradients [batch, n]."""

SUFFICIENT_DECREASE, CURVATURE, TRIALS = 1e-4, 0.9, 25


def lbfgs(objective: Objective, start: Float[Tensor, "batch n"], iterations: int) -> Float[Tensor, "batch n"]:
    """Minimise each element of `objective` for `iterations` iterations, with the memory of all of them.

    An element stops where it cannot be improved, and all stop when all have; none gets worse, but for
    rounding. Source: Liu & Nocedal 1989; Nocedal & Wright 2006, algorithm 7.4.
    """
    here = Evaluation(start, *objective(start))
    memory: list[tuple[Tensor, Tensor]] = []
    scale = 1.0 / here.gradient.abs().sum(-1).clamp(min=1.0)
    stopped = torch.zeros_like(here.value, dtype=torch.bool)
    for _ in range(iterations):
        direction = -_times_inverse_hessian(here.gradient, memory, scale)
        stopped = stopped | _promises_nothing(here, direction)
        if stopped.all():
            break
        there, stopped = _line_search(objective, here, direction, stopped)
        moved, bent = there.x - here.x, there.gradient - here.gradient
        curvature = _dot(moved, bent)
        scale = torch.where(curvature > 0.0, curvature / _dot(bent, bent), scale)
        memory.append((moved, bent))
        here = there
    return here.x


def _times_inverse_hessian(gradient: Tensor, memory: list[tuple[Tensor, Tensor]], scale: Tensor) -> Tensor:
    """The two-loop recursion; a pair without positive curvature (an element that stood still) is left out."""
    direction, parts = gradient, []
    for moved, bent in reversed(memory):
        curvature = _dot(moved, bent)
        inverse = torch.where(curvature > 0.0, 1.0 / curvature, 0.0)
        part = inverse * _dot(moved, direction)
        direction = direction - part[:, None] * bent
        parts.append((part, inverse))
    direction = scale[:, None] * direction
    for (moved, bent), (part, inverse) in zip(memory, reversed(parts), strict=True):
        direction = direction + (part - inverse * _dot(bent, direction))[:, None] * moved
    return direction


def _promises_nothing(here: Evaluation, direction: Tensor) -> Bool[Tensor, " batch"]:
    """Where a whole step would change the value, or the point, by no more than rounding."""
    no_descent = -_dot(here.gradient, direction) <= _rounding(here.value)
    return no_descent | (direction.abs().amax(-1) <= _rounding(here.x.abs().amax(-1)))


def _line_search(
    objective: Objective, here: Evaluation, direction: Tensor, stopped: Bool[Tensor, " batch"]
) -> tuple[Evaluation, Bool[Tensor, " batch"]]:
    """A point that meets the weak Wolfe conditions, by bisection and doubling, element by element.

    Elements that have stopped stay, and so do those for which no such point is found: they stop.
    Source: Lewis & Overton 2013, algorithm 2.6.
    """
    slope, rounding = _dot(here.gradient, direction), _rounding(here.value)
    step = torch.where(stopped, 0.0, torch.ones_like(slope))
    low, high = torch.zeros_like(step), torch.full_like(step, torch.inf)
    done, there = stopped, here
    for _ in range(TRIALS):
        x = here.x + step[:, None] * direction
        there = Evaluation(x, *objective(x))
        # written so that a value that is not a number is too high
        lower = there.value <= here.value + SUFFICIENT_DECREASE * step * slope + rounding
        done = done | (lower & (_dot(there.gradient, direction) >= CURVATURE * slope))
        if done.all():
            break
        low, high = torch.where(lower, step, low), torch.where(lower, high, step)
        step = torch.where(done, step, torch.where(high.isinf(), 2.0 * low, 0.5 * (low + high)))
    moved = done & ~stopped
    return _choose(moved, there, here), ~moved


def _choose(first: Tensor, yes: Evaluation, no: Evaluation) -> Evaluation:
    rows = first[:, None]
    return Evaluation(
        torch.where(rows, yes.x, no.x),
        torch.where(first, yes.value, no.value),
        torch.where(rows, yes.gradient, no.gradient),
    )


def _rounding(values: Tensor) -> Tensor:
    return 4.0 * torch.finfo(values.dtype).eps * values.abs()


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)
