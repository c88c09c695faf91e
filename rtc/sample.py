"""Samplers: integrate any prior from noise to data. A step is three numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from rtc.errors import InvalidArgument
from rtc.path import Path
from rtc.prior import Prior

Callback = Callable[[int, float, Tensor, Tensor], None]
"""Called at each step as callback(step, tau, x, x1_hat), before x moves on; step counts from 0."""


class StepKernel(NamedTuple):
    """x_next = data * x1_hat + state * x + noise * N(0, I): the letters A, B, c of docs/math.md eq. 5.1."""

    data: float
    state: float
    noise: float


def step_kernel(path: Path, tau: float, tau_next: float, eta: float = 0.0) -> StepKernel:
    """The Gaussian step tau -> tau_next; eta in [0, 1]: 0 is deterministic (DDIM), 1 is ancestral (DDPM).

    On the OT path eta = 0 is Euler's: A = (tau_next - tau) / (1 - tau), B = (1 - tau_next) / (1 - tau).
    Raises InvalidArgument unless 0 <= tau < tau_next <= 1. Source: Song et al. 2021 (DDIM), eqs. 12 and 16.
    """
    if not 0.0 <= tau < tau_next <= 1.0:
        raise InvalidArgument(f"a step from tau = {tau} to {tau_next}; it needs 0 <= tau < tau_next <= 1.")
    if not 0.0 <= eta <= 1.0:
        raise InvalidArgument(f"eta is {eta}; it must lie in [0, 1] (0 is DDIM, 1 is DDPM).")
    alpha, sigma = path.alpha(tau), path.sigma(tau)
    alpha_next, sigma_next = path.alpha(tau_next), path.sigma(tau_next)
    noise = eta * sigma_next * math.sqrt(1.0 - (alpha * sigma_next / (alpha_next * sigma)) ** 2)
    state = math.sqrt(sigma_next**2 - noise**2) / sigma
    return StepKernel(float(alpha_next - alpha * state), float(state), float(noise))


# Solvers by name: the kernel of one step. On the OT path, the only one now, Euler is DDIM with eta = 0.
SOLVERS: dict[str, Callable[[Path, float, float], StepKernel]] = {"euler": step_kernel}


@torch.no_grad()
def sample(
    prior: Prior,
    noise: Float[Tensor, "*shape"],
    num_steps: int,
    *,
    solver: str = "euler",
    callback: Callback | None = None,
) -> Float[Tensor, "*shape"]:
    """Carry noise ~ N(0, I) to data in num_steps equal steps of tau: one `denoise` a step, no autograd graph.

    ```
    step     0     1     2           n-1
    tau      0 ── 1/n ── 2/n ── ... ──── 1        k/n exactly, never an accumulated sum
    ```

    solver: a name in SOLVERS. Dtype and device are those of `noise`; all randomness is in it.
    Raises InvalidArgument for an unknown solver or no steps. Source: Black et al. 2025, eq. 1.
    """
    if solver not in SOLVERS:
        raise InvalidArgument(f"solver is {solver!r}; choose one of {', '.join(SOLVERS)}.")
    if num_steps < 1:
        raise InvalidArgument(f"num_steps is {num_steps}; at least 1 step is needed.")
    x = prior.path.sigma(0.0) * noise
    for step in range(num_steps):
        tau, tau_next = step / num_steps, (step + 1) / num_steps
        kernel = SOLVERS[solver](prior.path, tau, tau_next)
        x1_hat = prior.denoise(x, tau)
        if callback is not None:
            callback(step, tau, x, x1_hat)
        x = kernel.data * x1_hat + kernel.state * x
    return x
