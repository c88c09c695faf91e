"""Filtering posterior sampling: y is noised down the levels too, and each x is drawn given its y."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import Generator, Tensor

from rtc.errors import InvalidArgument, Unsupported
from rtc.inverse.particles.memory import in_slices
from rtc.inverse.particles.smc import Level, Options, Particles, run_filter, shaped_particles
from rtc.kernel import StepKernel, normal
from rtc.measurement import LinearMeasurement, LinearOperator, NonlinearOperator
from rtc.prior import Prior
from rtc.sample import Callback, uniform_times


def fps(
    prior: Prior,
    measurement: LinearMeasurement,
    num_particles: int,
    event: Sequence[int],
    num_steps: int,
    *,
    freshness: float = 0.95,
    threshold: float = 1.0,
    particle_batch: int | None = None,
    generator: Generator | None = None,
    callback: Callback | None = None,
) -> Particles:
    """Filtering posterior sampling: particles given one noised observation after another, no VJP.

    First a path of observations y_tau is drawn, then with c = freshness, v = c sigma_next^2 and
    m = alpha_next x1_hat + sqrt(1 - c) sigma_next eps

        log w += log N(y_next; A m, v A A^T + alpha_next^2 noise_variance I)
        x_next ~ N(m, v I) given y_next

    freshness: in (0, 1], the part of the noise that is new at each level (paper: .95; 5 to 20 particles).
    Other arguments as for `tds`; threshold 1 resamples at every level, as the paper does. Needs a linear
    operator with `solve`; draws by perturbing and solving.

    The noise of y_tau is that of x_tau, but the filter takes its levels as independent: the law depends on
    the observations drawn, and is not p(x1 | y) even with many particles. It has no log evidence of y.
    Source: Dou & Song 2024, algorithm 1, with y at the new level (eq. 10).
    """
    if not 0.0 < freshness <= 1.0:
        raise InvalidArgument(f"freshness is {freshness}; it must lie in (0, 1].")
    like = shaped_particles(measurement, num_particles, event)
    operator = linear(measurement)
    times = uniform_times(num_steps)
    noises = observed_noise(operator, like[0], num_steps, freshness, generator)
    observations = [
        float(prior.path.alpha(tau)) * measurement.y + float(prior.path.sigma(tau)) * noise
        for tau, noise in zip(times, noises, strict=True)
    ]
    method = ObservedFilter(prior, measurement, operator, observations, freshness, particle_batch)
    options = Options(num_steps, 0.0, threshold, particle_batch, generator, callback)
    return replace(run_filter(method, prior.path, like, options), log_evidence=None)


def linear(measurement: LinearMeasurement) -> LinearOperator:
    """Its operator. Raises Unsupported for a nonlinear one."""
    if isinstance(measurement.operator, NonlinearOperator):
        raise Unsupported(
            f"{type(measurement.operator).__name__} is not linear, which this method needs; tds, "
            "bootstrap and importance_sampling take any operator."
        )
    return measurement.operator


def observed_noise(
    operator: LinearOperator, like: Tensor, num_steps: int, freshness: float, generator: Generator | None
) -> list[Tensor]:
    """(y_tau - alpha y) / sigma at num_steps + 1 levels: A n, in part new at each. like: [*event]."""
    drawn = [operator.forward(normal(like, generator))]
    for _ in range(num_steps):
        drawn.append(renewed(drawn[-1], operator.forward(normal(like, generator)), freshness))
    return drawn


def renewed(noise: Tensor, fresh: Tensor, freshness: float) -> Tensor:
    """The noise of the next level: as strong as before, and new in part."""
    return math.sqrt(1.0 - freshness) * noise + math.sqrt(freshness) * fresh


class Carried(NamedTuple):
    """Per particle: the point, its estimate, and the mean of the next point before y is seen."""

    x: Tensor
    x1_hat: Tensor
    ahead: Tensor


@dataclass(frozen=True, eq=False)
class ObservedFilter:
    """The fully adapted filter of x_tau given y_tau at one level after another."""

    prior: Prior
    measurement: LinearMeasurement
    operator: LinearOperator
    observations: list[Tensor]
    freshness: float
    particle_batch: int | None

    def start(self, like: Tensor, generator: Generator | None) -> tuple[Tensor, float]:
        """x ~ N(0, sigma(0)^2 I)."""
        return float(self.prior.path.sigma(0.0)) * normal(like, generator), 0.0

    def weigh(self, x: Tensor, owed: Tensor | float, level: Level) -> tuple[Carried, Tensor]:
        """log p(y_next | x), without what is the same for every x."""
        (x1_hat,) = in_slices(lambda part: (self.prior.denoise(part, level.tau),), x, self.particle_batch)
        kernel, alpha2, y = self._next(level)
        carried = Carried(x, x1_hat, kernel.data * x1_hat + kernel.state * x)
        residual = y - self.operator.forward(carried.ahead)
        whitened = self.operator.solve(residual, kernel.noise**2, alpha2 * self.measurement.noise_variance)
        return carried, -0.5 * (residual * whitened).flatten(1).double().sum(1)

    def move(self, carried: Carried, level: Level, generator: Generator | None) -> tuple[Tensor, float]:
        """A draw from N(ahead, v I) given y_next: one from the unconditional law, moved as its y demands."""
        kernel, alpha2, y = self._next(level)
        v, noise_variance = kernel.noise**2, alpha2 * self.measurement.noise_variance_like(y)
        x = carried.ahead + kernel.noise * normal(carried.ahead, generator)
        observed = self.operator.forward(x)
        observed = observed + noise_variance.sqrt().to(x) * normal(observed, generator)
        return x + v * self.operator.adjoint(self.operator.solve(y - observed, v, noise_variance)), 0.0

    def finish(self, x: Tensor, owed: Tensor | float) -> float:
        """Nothing: the last weight was p(y | x1)."""
        return 0.0

    def _next(self, level: Level) -> tuple[StepKernel, float, Tensor]:
        """The prior's step to the next level, alpha^2 there, and y there."""
        path, tau, tau_next = self.prior.path, level.tau, level.tau_next
        alpha, sigma = float(path.alpha(tau_next)), float(path.sigma(tau_next))
        state = math.sqrt(1.0 - self.freshness) * sigma / float(path.sigma(tau))
        kernel = StepKernel(alpha - state * float(path.alpha(tau)), state, math.sqrt(self.freshness) * sigma)
        return kernel, alpha**2, self.observations[level.step + 1]
