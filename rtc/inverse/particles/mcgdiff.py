"""MCGdiff: each singular coordinate is pinned to its observation at the level that is as noisy as it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from rtc.errors import InvalidArgument
from rtc.inverse.particles.memory import in_slices
from rtc.inverse.particles.smc import Level, Options, Particles, run_filter, shaped_particles
from rtc.inverse.particles.twists import log_normal
from rtc.inverse.spectral import Spectrum, spectrum
from rtc.kernel import normal
from rtc.measurement import LinearMeasurement
from rtc.operators.svd import SVD
from rtc.path import Path
from rtc.prior import Prior
from rtc.sample import Callback, uniform_times


def mcgdiff(
    prior: Prior,
    measurement: LinearMeasurement,
    num_particles: int,
    event: Sequence[int],
    num_steps: int,
    *,
    width: float = 1e-4,
    eta: float = 1.0,
    threshold: float = 0.5,
    particle_batch: int | None = None,
    generator: Generator | None = None,
    callback: Callback | None = None,
) -> Particles:
    """Monte Carlo guided diffusion: a filter in the coordinates of A = U diag(s) V^T, no VJP.

    Coordinate i is observed as yb_i = (U^T y)_i / s_i, as noisy as x is at tau_i, where sigma / alpha =
    sigma_y / s_i. Up to there it is held by the potential N(x_i; alpha yb_i, V), V = 1 - (1 - width)
    (alpha / alpha_i)^2, which closes to a pin; each step is drawn, and weighed, given the next potential.
    After the last tau_i the chain is the prior's own, and its end is weighed by p(y | x1) / (last potential).

    width: in (0, 1], variance of the pin (the paper's kappa). Weights that divide by a potential have no
    variance: log_evidence comes out low, by more the narrower the pin and the more coordinates there are.
    Other arguments as for `tds`. Needs an operator with an SVD, one noise variance, and a path with alpha^2 +
    sigma^2 = 1. Source: Cardoso et al. 2024, algorithm 2.
    """
    if not 0.0 < width <= 1.0:
        raise InvalidArgument(f"width is {width}; it is a variance in (0, 1] (paper: 1e-4).")
    if eta == 0.0:
        raise InvalidArgument("eta is 0, and steps without noise cannot be filtered; give 0 < eta <= 1.")
    like = shaped_particles(measurement, num_particles, event)
    given = spectrum(measurement)
    potential = pinned(given, prior.path, uniform_times(num_steps), width)
    method = PinnedFilter(prior, measurement, given.svd, potential, particle_batch)
    options = Options(num_steps, eta, threshold, particle_batch, generator, callback)
    return run_filter(method, prior.path, like, options)


@dataclass(frozen=True, eq=False)
class Potential:
    """N(x_i; alpha target_i, V) at each level for the coordinates that are still held; float64.

    target: [n], yb where observed. alpha2_at_pin: [n], alpha^2 at tau_i, 0 where nothing is observed.
    """

    target: Tensor
    alpha2_at_pin: Tensor
    width: float

    def at(self, alpha: float) -> tuple[Tensor, Tensor, Tensor]:
        """Which coordinates are held at a level, [n] bool; the centre and the variance V there, [n]."""
        held = (alpha**2 <= self.alpha2_at_pin) & (self.alpha2_at_pin > 0.0)
        part = (alpha**2 / self.alpha2_at_pin).where(held, 0.0)
        return held, alpha * self.target, 1.0 - (1.0 - self.width) * part

    def holds(self, alpha: float) -> bool:
        """Whether any coordinate is held."""
        return bool(self.at(alpha)[0].any())

    def log_value(self, coordinates: Tensor, alpha: float, extra: float = 0.0) -> Tensor:
        """sum over held i of log N(coordinates_i; alpha target_i, V + extra), [*batch]."""
        held, centre, variance = self.at(alpha)
        return log_normal(coordinates.double(), centre, variance + extra).where(held, 0.0).sum(-1)

    def draw(self, mean: Tensor, alpha: float, noise_variance: float, noise: Tensor) -> Tensor:
        """A draw from N(mean, noise_variance I) times the potential, made of noise ~ N(0, I)."""
        held, centre, variance = self.at(alpha)
        gain = (noise_variance / (noise_variance + variance)).where(held, 0.0)
        deviation = (gain * variance).where(held, noise_variance).sqrt()
        return (mean + gain * (centre - mean) + deviation * noise).to(mean)


def pinned(given: Spectrum, path: Path, times: Sequence[float], width: float) -> Potential:
    """The potential of a measurement on a grid of times; tau_i is the one nearest in alpha^2, before data.

    Raises InvalidArgument off variance-preserving paths.
    """
    squares = [(float(path.alpha(tau)) ** 2, float(path.sigma(tau)) ** 2) for tau in times]
    if any(abs(alpha2 + sigma2 - 1.0) > 1e-6 for alpha2, sigma2 in squares):
        raise InvalidArgument(f"mcgdiff needs alpha^2 + sigma^2 = 1, unlike {path}; give on(prior, VP()).")
    exact = 1.0 / (1.0 + given.nsr.double() ** 2)
    noisy = [alpha2 for alpha2, _ in squares[:-1]]
    levels = torch.tensor(noisy, dtype=exact.dtype, device=exact.device)
    nearest = levels[(exact[:, None] - levels).abs().argmin(1)]
    return Potential(given.data.double().flatten(), nearest.where(given.observed, 0.0), width)


class Carried(NamedTuple):
    """Per particle: the point, its estimate, the mean of the next point in V's coordinates, what is owed."""

    x: Tensor
    x1_hat: Tensor
    ahead: Tensor
    owed: Tensor


@dataclass(frozen=True, eq=False)
class PinnedFilter:
    """The filter whose target at a level is the prior's law there times the potential."""

    prior: Prior
    measurement: LinearMeasurement
    svd: SVD
    potential: Potential
    particle_batch: int | None

    def start(self, like: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """N(0, sigma(0)^2 I) times the first potential; owed: its mass, less the potential."""
        path = self.prior.path
        alpha, variance = float(path.alpha(0.0)), float(path.sigma(0.0)) ** 2
        noise = self.svd.v_t(normal(like, generator))
        coordinates = self.potential.draw(torch.zeros_like(noise), alpha, variance, noise)
        mass = self.potential.log_value(torch.zeros_like(noise), alpha, variance)
        return self.svd.v(coordinates), mass - self.potential.log_value(coordinates, alpha)

    def weigh(self, x: Tensor, owed: Tensor | float, level: Level) -> tuple[Carried, Tensor | float]:
        """The mass of the next potential, less this one; once nothing is held, all is owed until the end."""
        (x1_hat,) = in_slices(lambda part: (self.prior.denoise(part, level.tau),), x, self.particle_batch)
        kernel, alpha = level.kernel, float(self.prior.path.alpha(level.tau_next))
        ahead = self.svd.v_t(kernel.data * x1_hat + kernel.state * x)
        owed = torch.as_tensor(owed, dtype=torch.float64, device=x.device).expand(len(x))
        if not self.potential.holds(alpha):
            return Carried(x, x1_hat, ahead, owed), 0.0
        mass = self.potential.log_value(ahead, alpha, kernel.noise**2)
        return Carried(x, x1_hat, ahead, torch.zeros_like(owed)), owed + mass

    def move(self, carried: Carried, level: Level, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """A step of the prior times the next potential; owed: that potential."""
        alpha = float(self.prior.path.alpha(level.tau_next))
        noise = normal(carried.ahead, generator)
        coordinates = self.potential.draw(carried.ahead, alpha, level.kernel.noise**2, noise)
        return self.svd.v(coordinates), carried.owed - self.potential.log_value(coordinates, alpha)

    def finish(self, x: Tensor, owed: Tensor | float) -> Tensor:
        """p(y | x1), in place of the last potential."""
        return owed + self.measurement.log_likelihood(x).double()
