"""Importance sampling, bootstrap filter and twisted diffusion sampler: chains of the prior, weighted by y.

The three are one filter: with no twist and no resampling, with no guidance, and with both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from rtc.errors import InvalidArgument
from rtc.guidance.pullback import denoise_and_vjp, tweedie_gain
from rtc.inverse.particles.memory import in_slices
from rtc.inverse.particles.smc import Level, Options, Particles, run_filter, shaped_particles
from rtc.inverse.particles.twists import TWISTS, Twist, make_twist
from rtc.kernel import normal
from rtc.measurement import Likelihood
from rtc.prior import Prior
from rtc.sample import Callback


def tds(
    prior: Prior,
    measurement: Likelihood,
    num_particles: int,
    event: Sequence[int],
    num_steps: int,
    *,
    twist: str = "pigdm",
    data_std: float = 1.0,
    eta: float = 1.0,
    threshold: float = 0.5,
    particle_batch: int | None = None,
    generator: Generator | None = None,
    callback: Callback | None = None,
) -> Particles:
    """Twisted diffusion sampler: guided chains, weighted by how wrong the guide was; exact in num_particles.

    x_next ~ q^y = N(A (x1_hat + (sigma^2 / alpha) grad log psi) + B x, c^2 I) and
    log w += log q - log q^y + log psi(x_next) - log psi(x); the last twist is p(y | x1). Steps without noise
    (the last one to data) and without signal (alpha = 0) are the prior's own.

    measurement: of one observation, with noise. event: shape of one sample. num_steps: equal steps of tau
    on prior.path; another grid is another path (rtc.table.Table).
    twist: "tweedie" (the best guess; one more VJP for each value of y), "pigdm", "dps" (any likelihood).
    data_std: > 0, standard deviation of the prior's data, read by "pigdm": a wrong one is worse than none.
    eta: in (0, 1], noise of the chain; 1 is ancestral.
    threshold: resample where the effective sample size falls below this part of num_particles.
    particle_batch: particles in a network call, to bound memory; the result does not depend on it.

    Dtype and device are those of measurement.y. Calls: one forward and one VJP a step. Raises InvalidArgument
    for other values, and where the particles do not fit in memory. Source: Wu et al. 2023, algorithm 1.
    """
    if eta == 0.0:
        raise InvalidArgument("eta is 0, and steps without noise cannot be twisted; give 0 < eta <= 1.")
    like = shaped_particles(measurement, num_particles, event)
    method = TwistedFilter(
        prior, measurement, make_twist(twist, measurement, prior.path, data_std), True, particle_batch
    )
    options = Options(num_steps, eta, threshold, particle_batch, generator, callback)
    return run_filter(method, prior.path, like, options)


def bootstrap(
    prior: Prior,
    measurement: Likelihood,
    num_particles: int,
    event: Sequence[int],
    num_steps: int,
    *,
    twist: str = "none",
    data_std: float = 1.0,
    eta: float = 1.0,
    threshold: float = 0.5,
    particle_batch: int | None = None,
    generator: Generator | None = None,
    callback: Callback | None = None,
) -> Particles:
    """Bootstrap filter: chains of the prior, resampled as a twist tells them apart, weighted by p(y | x1).

    With "none" nothing tells them apart before the end. Calls: one forward a step; arguments as for `tds`.
    Source: Gordon, Salmond & Smith 1993.
    """
    if twist not in ("none", *TWISTS):
        raise InvalidArgument(f"twist is {twist!r}; choose one of none, {', '.join(TWISTS)}.")
    like = shaped_particles(measurement, num_particles, event)
    guess = None if twist == "none" else make_twist(twist, measurement, prior.path, data_std)
    method = TwistedFilter(prior, measurement, guess, False, particle_batch)
    options = Options(num_steps, eta, threshold, particle_batch, generator, callback)
    return run_filter(method, prior.path, like, options)


def importance_sampling(
    prior: Prior,
    measurement: Likelihood,
    num_particles: int,
    event: Sequence[int],
    num_steps: int,
    *,
    eta: float = 1.0,
    particle_batch: int | None = None,
    generator: Generator | None = None,
    callback: Callback | None = None,
) -> Particles:
    """Chains of the prior, each weighted by p(y | x1) at the end: exact, and hopeless where y is rare.

    Calls: one forward a step; arguments as for `tds`, except that eta may be 0.
    """
    like = shaped_particles(measurement, num_particles, event)
    method = TwistedFilter(prior, measurement, None, False, particle_batch)
    options = Options(num_steps, eta, 0.0, particle_batch, generator, callback)
    return run_filter(method, prior.path, like, options)


class Carried(NamedTuple):
    """Per particle: the point, its estimate, what guidance adds to the estimate, and log psi."""

    x: Tensor
    x1_hat: Tensor
    shift: Tensor
    log_psi: Tensor


@dataclass(frozen=True, eq=False)
class TwistedFilter:
    """The filter behind all three; `guided`: the twist bends the proposal, and not only the weights."""

    prior: Prior
    measurement: Likelihood
    twist: Twist | None
    guided: bool
    particle_batch: int | None

    def start(self, like: Tensor, generator: Generator | None) -> tuple[Tensor, float]:
        """x ~ N(0, sigma(0)^2 I)."""
        return float(self.prior.path.sigma(0.0)) * normal(like, generator), 0.0

    def weigh(self, x: Tensor, owed: Tensor | float, level: Level) -> tuple[Carried, Tensor]:
        """log psi at this level, and what the last move owes."""
        carried = Carried(*in_slices(lambda part: self._look(part, level), x, self.particle_batch))
        return carried, owed + carried.log_psi.double()

    def move(self, carried: Carried, level: Level, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """x_next ~ q^y; owed: log q - log q^y - log psi."""
        x, x1_hat, shift, log_psi = carried
        kernel, owed = level.kernel, -log_psi.double()
        if not kernel.noise:
            return kernel.apply(x1_hat, x), owed
        noise, turn = normal(x, generator), kernel.data * shift / kernel.noise
        x_next = kernel.data * (x1_hat + shift) + kernel.state * x + kernel.noise * noise
        return x_next, owed - (turn * (noise + 0.5 * turn)).flatten(1).double().sum(1)

    def finish(self, x: Tensor, owed: Tensor | float) -> Tensor:
        """The last twist is p(y | x1)."""
        return owed + self.measurement.log_likelihood(x).double()

    def _look(self, x: Tensor, level: Level) -> Carried:
        path, tau = self.prior.path, level.tau
        if self.twist is None or path.alpha(tau) == 0.0:
            x1_hat = self.prior.denoise(x, tau)
            return Carried(x, x1_hat, torch.zeros_like(x), x.new_zeros(len(x)))
        x1_hat, pullback = denoise_and_vjp(self.prior, x, tau)
        log_psi, cotangent = self.twist(x1_hat, pullback, tau)
        gain = float(tweedie_gain(path, tau))
        shift = gain * pullback(cotangent) if self.guided else torch.zeros_like(x)
        return Carried(x, x1_hat, shift, log_psi)
