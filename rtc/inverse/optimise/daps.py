"""DAPS: at each noise level, guess the image, correct it with the data by Langevin steps, add noise anew."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from rtc.errors import InvalidArgument
from rtc.inverse.optimise.problem import check_problem, estimate, finite, misfit_gradient, squared_norm
from rtc.kernel import normal
from rtc.measurement import LinearMeasurement
from rtc.path import VE, noise_to_signal
from rtc.prior import Prior, on
from rtc.sample import Callback, integrate
from rtc.solvers import DDIM


@torch.no_grad()
def daps(
    prior: Prior,
    measurement: LinearMeasurement,
    shape: Sequence[int],
    num_steps: int,
    *,
    sigma_max: float = 100.0,
    sigma_min: float = 0.1,
    ode_steps: int = 5,
    ode_end: float = 0.01,
    langevin_steps: int = 100,
    likelihood_std: float = 0.01,
    first_length: float = 1e-4,
    last_length: float = 1e-6,
    generator: Generator | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "batch *event"]:
    """Draw u ~ exp(-norm(A u - y)^2 / likelihood_std^2 - norm(u - x0)^2 / (2 sigma^2)), then lower sigma.

    At num_steps levels (paper: 200) of VE noise from sigma_max to sigma_min (bent_levels): x0 is the end of
    the probability-flow ODE from (x, sigma) to ode_end in ode_steps Euler steps; langevin_steps steps from
    it make u, their lengths falling from first_length to last_length over the levels; u plus noise of the
    next level is the next x, and the last u the result.

    likelihood_std: as the first term has no 1/2, it is sqrt(2) times the standard deviation of the noise that
    it stands for; the paper's .01 believes the data, whatever sigma_y is. sigma_max is lowered to what the
    prior covers; it then starts at A^+ y, damped by sigma_y, plus noise. A length at which the chain would
    diverge, above 2 / L with L = 2 norm(A)^2 / likelihood_std^2 + 1 / sigma^2, is replaced by 1 / L.

    Not exact, even on a Gaussian prior: N(x0, sigma^2) stands for p(x1 | x). Steps long enough to reach it
    nearly double the variance of what is not observed; with the paper's it comes out small instead.

    shape: (batch, *event), the elements independent. Cost: num_steps * ode_steps denoiser calls, no gradient
    of the network; num_steps * langevin_steps of A and A^T. callback: tau is the time on
    VE(sigma_max, ode_end), x the noisy point, x1_hat is u. Raises InvalidArgument.
    Source: Zhang et al. 2025 (DAPS), algorithm 1; settings of the authors' code.
    """
    zeros = check_problem(
        measurement,
        shape,
        num_steps,
        ode_steps=ode_steps,
        langevin_steps=langevin_steps,
        likelihood_std=likelihood_std,
        first_length=first_length,
        last_length=last_length,
    )
    largest = _covered(prior, sigma_max, sigma_min, ode_end)
    noisy = on(prior, VE(largest, ode_end))
    curvature = 2.0 * squared_norm(measurement, zeros) / likelihood_std**2
    u = estimate(measurement, zeros) if largest < sigma_max else zeros
    for step, sigma in enumerate(bent_levels(largest, sigma_min, num_steps)):
        x = u + sigma * normal(u, generator)
        x0 = clean_estimate(noisy, x, sigma, ode_end, ode_steps)
        length = first_length + step / num_steps * (last_length - first_length)
        bound = curvature + 1.0 / sigma**2
        length = length if length * bound <= 2.0 else 1.0 / bound
        u = langevin(measurement, x0, sigma, likelihood_std, length, langevin_steps, generator)
        if callback is not None:
            callback(step, _time(noisy, sigma), x, u)
    return finite(u, "daps", "give a smaller first_length")


def bent_levels(first: float, last: float, count: int, power: float = 7.0) -> list[float]:
    """count levels from `first` down, evenly spaced in level^(1/power); `last` would be the next.

    Source: Karras et al. 2022, eq. 5; that the last one is left out is the authors' code.
    """
    root = first ** (1.0 / power)
    slope = last ** (1.0 / power) - root
    return [(root + step / count * slope) ** power for step in range(count)]


def clean_estimate(
    prior: Prior, x: Float[Tensor, "batch *event"], sigma: float, end: float, steps: int
) -> Float[Tensor, "batch *event"]:
    """The probability-flow ODE from (x, sigma) to `end`, on a VE path: Euler's step in sigma is DDIM's."""
    times = [_time(prior, level) for level in [*bent_levels(sigma, end, steps), end]]
    return integrate(prior, x, times, solver=DDIM())


def langevin(
    measurement: LinearMeasurement,
    x0: Float[Tensor, "batch *event"],
    sigma: float,
    likelihood_std: float,
    length: float,
    steps: int,
    generator: Generator | None = None,
) -> Float[Tensor, "batch *event"]:
    """u += length g + sqrt(2 length) n, from u = x0, where

    g = -2 A^T (A u - y) / likelihood_std^2 + (x0 - u) / sigma^2.
    """
    u = x0
    for _ in range(steps):
        slope = (x0 - u) / sigma**2 - 2.0 / likelihood_std**2 * misfit_gradient(measurement, u)
        u = u + length * slope + math.sqrt(2.0 * length) * normal(u, generator)
    return u


def _covered(prior: Prior, sigma_max: float, sigma_min: float, ode_end: float) -> float:
    """The largest noise level, once the levels are seen to fall."""
    covered = float(noise_to_signal(prior.path, 0.0))
    largest = min(sigma_max, covered)
    if not 0.0 < ode_end < sigma_min < largest < math.inf:
        raise InvalidArgument(
            f"sigma_max is {sigma_max}, sigma_min {sigma_min}, ode_end {ode_end}, and the prior covers noise "
            f"up to {covered:.3g}; it needs 0 < ode_end < sigma_min, and sigma_min below the other two."
        )
    return largest


def _time(prior: Prior, level: float) -> float:
    """The flow time of a noise level, within [0, 1] whatever the rounding."""
    return min(max(float(prior.path.tau_at(level)), 0.0), 1.0)
