"""Samplers: fold the steps of a solver from noise to data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from rtc.errors import InvalidArgument
from rtc.kernel import renoise_kernel
from rtc.prior import Prior
from rtc.solvers import Solver, named_solver

Callback = Callable[[int, float, Tensor, Tensor], None]
"""Called at each step as callback(step, tau, x, x1_hat), before x moves on; step counts from 0."""


@torch.no_grad()
def integrate(
    prior: Prior,
    x: Float[Tensor, "*shape"],
    times: Sequence[float],
    *,
    solver: Solver,
    generator: Generator | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "*shape"]:
    """Carry the point x, which is at times[0], through `times` to times[-1]; no autograd graph.

    Where a time is less than the one before it, noise is added back (no call; `step` does not count it).
    """
    step = 0
    for tau, tau_next in pairwise(times):
        if tau_next < tau:
            x = renoise_kernel(prior.path, tau, tau_next).apply(x, x, generator)
            continue
        move = solver(prior, x, tau, tau_next, generator)
        if callback is not None:
            callback(step, tau, x, move.x1_hat)
        x, step = move.x, step + 1
    return x


def uniform_times(num_steps: int, start: float = 0.0) -> list[float]:
    """start, ..., 1 in equal steps: k/n exactly from 0, never an accumulated sum.

    Raises InvalidArgument for no steps, and for a start outside [0, 1).
    """
    if num_steps < 1:
        raise InvalidArgument(f"num_steps is {num_steps}; at least 1 step is needed.")
    if not 0.0 <= start < 1.0:
        raise InvalidArgument(f"start is {start}; a sampler starts at a flow time in [0, 1).")
    return [start + (1.0 - start) * (step / num_steps) for step in range(num_steps)] + [1.0]


def sample(
    prior: Prior,
    noise: Float[Tensor, "*shape"],
    num_steps: int,
    *,
    solver: str | Solver = "euler",
    generator: Generator | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "*shape"]:
    """Carry noise ~ N(0, I) to data in num_steps equal steps of tau, with no autograd graph.

    ```
    step     0     1     2           n-1
    tau      0 ── 1/n ── 2/n ── ... ──── 1        k/n exactly, never an accumulated sum
    ```

    solver: a name in rtc.solvers.SOLVERS ("euler": one `denoise` a step), or any Solver. Dtype and device are
    those of `noise`. Raises InvalidArgument for an unknown solver or no steps.
    Source: Black et al. 2025, eq. 1.
    """
    times = uniform_times(num_steps)
    return integrate(
        prior,
        prior.path.sigma(0.0) * noise,
        times,
        solver=named_solver(solver),
        generator=generator,
        callback=callback,
    )
