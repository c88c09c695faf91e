"""Flow Priors (ICTM): the most probable image, as one small problem for each step of the flow."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from rtc.autodiff import vjp
from rtc.inverse.optimise.adam import Adam
from rtc.inverse.optimise.problem import check_problem, finite, misfit_gradient, on_path, signal_at
from rtc.kernel import normal
from rtc.measurement import LinearMeasurement
from rtc.path import STRAIGHT
from rtc.prior import Prior, velocity
from rtc.sample import Callback, uniform_times


@torch.no_grad()
def flow_priors(
    prior: Prior,
    measurement: LinearMeasurement,
    shape: Sequence[int],
    num_steps: int,
    *,
    iterations: int = 1,
    data_weight: float = 1e3,
    learning_rate: float = 0.01,
    generator: Generator | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "batch *event"]:
    """At each time, Adam steps on x towards the data one step ahead, then the flow's step x += v dtau.

    The OT path in num_steps steps (paper: 100) from the earliest time that the prior covers. `iterations`
    steps of Adam, begun anew at each time, on data_weight norm(A (x + v dtau) - y_next)^2 + dtau tr(dv/dx)
    - log p_tau(x), where y_next = tau_next y + (1 - tau_next) A n and n is the noise that x started from; one
    probe of random signs estimates the trace. The first step of Adam has the length learning_rate in every
    value, so that with one iteration x can be moved by num_steps * learning_rate about, however far the data
    are. A point estimate: sigma_y is not used, data_weight stands for it.

    shape: (batch, *event), the elements independent. Cost per step: 1 forward, and for each iteration 1
    forward, its VJP and the VJP of that (second order). callback: x1_hat is x + (1 - tau) v. Raises
    InvalidArgument. Source: Zhang et al. 2024 (Flow Priors, iterative corrupted trajectory matching),
    algorithm 1; settings of Martin et al. 2025 (the PnP-Flow benchmark).
    """
    zeros = check_problem(
        measurement,
        shape,
        num_steps,
        iterations=iterations,
        data_weight=data_weight,
        learning_rate=learning_rate,
    )
    flow, start = on_path(prior, STRAIGHT)
    noise = normal(zeros, generator)
    y, y_noise = measurement.y, measurement.operator.forward(noise)
    x = signal_at(flow.path, start, measurement, zeros) + flow.path.sigma(start) * noise
    for step, (tau, tau_next) in enumerate(pairwise(uniform_times(num_steps, start))):
        ahead = LinearMeasurement(measurement.operator, tau_next * y + (1.0 - tau_next) * y_noise)
        adam = Adam(learning_rate)
        for _ in range(iterations):
            probe = random_signs(x, generator)
            x = x + adam.step(gradient(flow, ahead, x, tau, tau_next, probe, data_weight))
        v = velocity(flow, x, tau)
        if callback is not None:
            callback(step, tau, x, x + (1.0 - tau) * v)
        x = x + (tau_next - tau) * v
    return finite(x, "flow_priors", "give a smaller learning_rate")


def gradient(
    prior: Prior,
    ahead: LinearMeasurement,
    x: Float[Tensor, "batch *event"],
    tau: float,
    tau_next: float,
    probe: Float[Tensor, "batch *event"],
    data_weight: float,
) -> Float[Tensor, "batch *event"]:
    """Of data_weight norm(A (x + v dtau) - y_next)^2 + dtau probe^T (dv/dx) probe - log p_tau(x), OT path."""
    length = tau_next - tau

    def look(point: Tensor) -> tuple[Tensor, Tensor]:
        v, pullback = vjp(lambda inner: velocity(prior, inner, tau), point)
        return v, (probe * pullback(probe)[0]).flatten(1).sum(1)

    (v, trace), pullback = vjp(look, x)
    of_end = 2.0 * data_weight * misfit_gradient(ahead, x + length * v)
    (through_v,) = pullback((length * of_end, torch.full_like(trace, length)))
    minus_score = (x - tau * v) / (1.0 - tau)
    return of_end + through_v + minus_score


def random_signs(like: Tensor, generator: Generator | None) -> Tensor:
    """-1 or 1, shaped and placed like `like`."""
    return 2.0 * torch.randint(0, 2, like.shape, generator=generator, device=like.device).to(like) - 1.0
