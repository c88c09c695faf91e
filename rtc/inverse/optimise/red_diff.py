"""RED-diff: one image, pulled towards the data and towards what the prior makes of its noisy copies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from rtc.inverse.optimise.adam import Adam
from rtc.inverse.optimise.problem import check_problem, estimate, finite, misfit_gradient, on_path
from rtc.kernel import normal
from rtc.measurement import LinearMeasurement
from rtc.path import VP
from rtc.prior import Prior
from rtc.sample import Callback, uniform_times


@torch.no_grad()
def red_diff(
    prior: Prior,
    measurement: LinearMeasurement,
    shape: Sequence[int],
    num_steps: int,
    *,
    prior_weight: float = 0.25,
    learning_rate: float = 0.1,
    generator: Generator | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "batch *event"]:
    """Minimise mean((y - A mu)^2) / 2 + prior_weight rho mean(stopgrad(eps_hat - eps) mu) over an image mu.

    One step of Adam (betas .9, .99) at each of num_steps noise levels, from noisy to clean: uniform in the
    time of the paper's path, VP(0.1, 20), from the first level that the prior covers, whatever path it is on.
    mu starts at A^+ y, damped by sigma_y. A point estimate: sigma_y enters there only; prior_weight stands
    for it.

    shape: (batch, *event), the elements independent. Cost: num_steps denoiser calls, no gradient of the
    network. callback: x is mu, x1_hat the denoised copy of it. Raises InvalidArgument.
    Source: Mardani et al. 2024, algorithm 1; settings of the authors' code.
    """
    zeros = check_problem(
        measurement, shape, num_steps, prior_weight=prior_weight, learning_rate=learning_rate
    )
    noisy, start = on_path(prior, VP())
    mu = estimate(measurement, zeros)
    times = uniform_times(num_steps, start)[:-1]
    mu = descend(noisy, measurement, mu, times, prior_weight, learning_rate, generator, callback)
    return finite(mu, "red_diff", "give a smaller learning_rate")


def descend(
    prior: Prior,
    measurement: LinearMeasurement,
    start: Float[Tensor, "batch *event"],
    times: Sequence[float],
    prior_weight: float,
    learning_rate: float,
    generator: Generator | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "batch *event"]:
    """One step of Adam for each of `times`, at that noise level; all of them before the data."""
    mu, adam = start, Adam(learning_rate, betas=(0.9, 0.99))
    for step, tau in enumerate(times):
        slope, x1_hat = gradient(prior, measurement, mu, tau, normal(mu, generator), prior_weight)
        if callback is not None:
            callback(step, tau, mu, x1_hat)
        mu = mu + adam.step(slope)
    return mu


def gradient(
    prior: Prior,
    measurement: LinearMeasurement,
    mu: Float[Tensor, "batch *event"],
    tau: float,
    noise: Float[Tensor, "batch *event"],
    prior_weight: float,
) -> tuple[Float[Tensor, "batch *event"], Float[Tensor, "batch *event"]]:
    """A^T (A mu - y) / m + prior_weight rho (eps_hat - eps) / d for the noise given, and x1_hat.

    m and d are the numbers of values in one observation and in one image. With x = alpha mu + sigma eps,
    rho (eps_hat - eps) is mu - x1_hat, on every path.
    """
    x = prior.path.alpha(tau) * mu + prior.path.sigma(tau) * noise
    x1_hat = prior.denoise(x, tau)
    observed, event = measurement.residual(mu)[0].numel(), mu[0].numel()
    of_data = misfit_gradient(measurement, mu) / observed
    return of_data + prior_weight / event * (mu - x1_hat), x1_hat
