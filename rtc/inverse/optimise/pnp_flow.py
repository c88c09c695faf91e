"""PnP-Flow: a gradient step on the data, noise, and the denoiser, in turn."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from rtc.errors import InvalidArgument
from rtc.inverse.optimise.problem import (
    check_problem,
    estimate,
    finite,
    misfit_gradient,
    on_path,
    squared_norm,
)
from rtc.kernel import normal
from rtc.measurement import LinearMeasurement
from rtc.path import STRAIGHT
from rtc.prior import Prior
from rtc.sample import Callback, uniform_times


@torch.no_grad()
def pnp_flow(
    prior: Prior,
    measurement: LinearMeasurement,
    shape: Sequence[int],
    num_steps: int,
    *,
    draws: int = 5,
    learning_rate: float = 1.0,
    decay: float = 1.0,
    generator: Generator | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "batch *event"]:
    """z = x - learning_rate (1 - tau)^decay A^T (A x - y); x = mean of x1_hat(tau z + (1 - tau) n) over n.

    At tau = 0, 1/n, ... (n = num_steps, paper: 100) of the OT path, from the earliest time that the prior
    covers. Where x starts has no effect at tau = 0; where the prior starts later, it is A^+ y, damped by
    sigma_y. learning_rate > 0 is the paper's in units of sigma_y^2, so that sigma_y is not used otherwise and
    may be 0; decay >= 0 (paper: .01 to 1). A point estimate.

    shape: (batch, *event), the elements independent. Cost: num_steps * draws denoiser calls, no gradient of
    the network. callback: x is z, x1_hat the mean of the draws. Raises InvalidArgument, also for a
    learning_rate at which the gradient step overshoots (above 2 / norm(A)^2).
    Source: Martin et al. 2025 (PnP-Flow), algorithm 3.
    """
    zeros = check_problem(measurement, shape, num_steps, draws=draws, learning_rate=learning_rate)
    if not 0.0 <= decay < math.inf:
        raise InvalidArgument(f"decay is {decay}; it must be at least 0.")
    curvature = squared_norm(measurement, zeros)
    if learning_rate * curvature > 2.0 * (1.0 + 1e-6):
        raise InvalidArgument(
            f"learning_rate is {learning_rate}; with an operator of norm {curvature**0.5:.3g} the gradient "
            f"step overshoots: give at most {2.0 / curvature:.3g}, or scale the operator and y."
        )
    flow, start = on_path(prior, STRAIGHT)
    x = estimate(measurement, zeros) if start > 0.0 else zeros
    for step, tau in enumerate(uniform_times(num_steps, start)[:-1]):
        z = x - learning_rate * (1.0 - tau) ** decay * misfit_gradient(measurement, x)
        x = torch.zeros_like(z)
        for _ in range(draws):  # one at a time: memory does not grow with them
            x = x + flow.denoise(tau * z + (1.0 - tau) * normal(z, generator), tau) / draws
        if callback is not None:
            callback(step, tau, z, x)
    return finite(x, "pnp_flow", "give a smaller learning_rate")
