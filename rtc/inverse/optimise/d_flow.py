"""D-Flow: the noise whose flow explains the data, found by differentiating through the sampler."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from rtc.autodiff import vjp
from rtc.errors import InvalidArgument
from rtc.inverse.optimise.lbfgs import lbfgs
from rtc.inverse.optimise.problem import check_problem, finite, misfit_gradient, on_path, signal_at
from rtc.kernel import normal
from rtc.measurement import LinearMeasurement
from rtc.path import STRAIGHT
from rtc.prior import Prior, velocity
from rtc.sample import Callback, uniform_times
from rtc.solvers import Midpoint


@torch.no_grad()
def d_flow(
    prior: Prior,
    measurement: LinearMeasurement,
    shape: Sequence[int],
    num_steps: int,
    *,
    iterations: int = 20,
    flow_steps: int = 5,
    noise_weight: float = 0.01,
    blend: float = 0.1,
    generator: Generator | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "batch *event"]:
    """Minimise norm(A Phi(z) - y)^2 + noise_weight (norm(z)^2 / 2 - (d - 1) log norm(z)) over the noise z.

    Phi is the midpoint rule on the OT path in flow_steps steps, from the earliest time the prior covers.
    num_steps rounds (paper: 20) of `iterations` of L-BFGS, batched, with a line search for each element.
    z starts at sqrt(blend) times the noise of A^T y (the flow run backwards) plus sqrt(1 - blend) n; blend in
    [0, 1]. noise_weight >= 0 weighs -log of the law of norm(z). A point estimate: sigma_y is not used.

    shape: (batch, *event), the elements independent. Cost: 2 flow_steps forwards and their VJPs for an
    evaluation, somewhat more than num_steps * iterations evaluations unless nothing improves any more. The
    gradient goes through the whole flow: memory is that of 2 flow_steps training passes. callback: once a
    round, x = z, x1_hat = Phi(z), tau = the start; it costs one flow. Raises InvalidArgument.
    Source: Ben-Hamu et al. 2024, eqs. 4 and 8; settings of Martin et al. 2025 (the PnP-Flow benchmark).
    """
    zeros = check_problem(measurement, shape, num_steps, iterations=iterations, flow_steps=flow_steps)
    if not 0.0 <= noise_weight < math.inf:
        raise InvalidArgument(f"noise_weight is {noise_weight}; it must be at least 0.")
    if not 0.0 <= blend <= 1.0:
        raise InvalidArgument(f"blend is {blend}; it must lie in [0, 1].")
    flow, start = on_path(prior, STRAIGHT)
    times = uniform_times(flow_steps, start)
    signal, sigma = signal_at(flow.path, start, measurement, zeros), float(flow.path.sigma(start))

    def push(noise: Tensor) -> Tensor:
        return push_forward(flow, signal + sigma * noise, times)

    def objective(flat: Tensor) -> tuple[Tensor, Tensor]:
        return value_and_gradient(push, measurement, flat.reshape(zeros.shape), noise_weight)

    z = math.sqrt(1.0 - blend) * normal(zeros, generator)
    if blend > 0.0:
        x = pull_back(flow, -misfit_gradient(measurement, zeros), times)  # A^T y
        z = z + math.sqrt(blend) / sigma * (x - signal)
    for step in range(num_steps):
        if callback is not None:
            callback(step, start, z, push(z))
        z = lbfgs(objective, z.flatten(1), iterations).reshape(zeros.shape)
    return finite(push(z), "d_flow", "the flow of this prior is not finite where it starts")


def push_forward(
    prior: Prior, x: Float[Tensor, "batch *event"], times: Sequence[float]
) -> Float[Tensor, "batch *event"]:
    """The midpoint rule from times[0] to times[-1]; differentiable, which `rtc.sample` is not."""
    for tau, tau_next in pairwise(times):
        x = Midpoint()(prior, x, tau, tau_next).x
    return x


def pull_back(
    prior: Prior, x: Float[Tensor, "batch *event"], times: Sequence[float]
) -> Float[Tensor, "batch *event"]:
    """Roughly the way back, from times[-1] to times[0]: Euler with the slope of the middle of each step.

    At tau = 1 no noise is left and a denoiser has no slope.
    """
    for later, tau in pairwise(reversed(times)):
        x = x - (later - tau) * velocity(prior, x, 0.5 * (tau + later))
    return x


def value_and_gradient(
    push: Callable[[Tensor], Tensor],
    measurement: LinearMeasurement,
    z: Float[Tensor, "batch *event"],
    noise_weight: float,
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch n"]]:
    """The objective of `d_flow` for each element, and its gradient, flat."""
    x1, pullback = vjp(push, z)
    (of_data,) = pullback(2.0 * misfit_gradient(measurement, x1))
    value, flat = measurement.residual(x1).flatten(1).square().sum(1), z.flatten(1)
    if noise_weight == 0.0:
        return value, of_data.flatten(1)
    square, others = flat.square().sum(1), flat.shape[1] - 1
    value = value + 0.5 * noise_weight * (square - others * square.log())
    return value, of_data.flatten(1) + noise_weight * (1.0 - others / square)[:, None] * flat
