"""Spectral methods: DDRM and DDNM+, which treat each singular direction of A by how noisy it was measured.

With A = U diag(s) V^T and the coordinates of V, y_i / s_i is x1_i with noise of standard deviation

    nsr_i = sigma_y / s_i,        to be compared with rho = sigma / alpha at the level that a step arrives at

```
rho    inf ─────────────────── nsr_i ─────────────────── 0
       y_i / s_i is the better guess    x1_hat_i is
```

Neither samples the posterior, even of a Gaussian (the law of DDRM there is a closed recursion: the tests).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from rtc.errors import InvalidArgument, Unsupported
from rtc.inverse.schedule import jump_times, travel
from rtc.inverse.start import check_fit, pure_noise
from rtc.kernel import normal
from rtc.measurement import LinearMeasurement
from rtc.operators.svd import SVD, divide
from rtc.path import Path
from rtc.prior import Prior
from rtc.sample import Callback, integrate, uniform_times
from rtc.solvers import Move


@runtime_checkable
class Decomposed(Protocol):
    """An operator that knows its singular values."""

    def svd(self) -> SVD:
        """A = U diag(values) V^T."""
        ...


class Spectrum(NamedTuple):
    """A measurement in the coordinates of V, n of them."""

    svd: SVD
    data: Float[Tensor, "*batch n"]
    """y_i / s_i; 0 where nothing is observed."""
    nsr: Float[Tensor, " n"]
    """sigma_y / s_i: the standard deviation of `data`; 0 where nothing is observed."""
    observed: Bool[Tensor, " n"]
    """Whether s_i > 0."""


class Coordinates(NamedTuple):
    """What a step is made of, each [*batch, n]."""

    x1_hat: Tensor
    eps: Tensor
    noise: Tensor


def spectrum(measurement: LinearMeasurement) -> Spectrum:
    """The measurement in the coordinates of V, with the dtype and device of y.

    Raises Unsupported for an operator without an SVD, InvalidArgument if the noise is not one number.
    """
    operator, variance = measurement.operator, measurement.noise_variance_like(measurement.y)
    if not isinstance(operator, Decomposed):
        raise Unsupported(
            f"{type(operator).__name__} has no svd(), and this method works on singular values; "
            "use pigdm or another method that needs no SVD."
        )
    if variance.numel() != 1:
        raise InvalidArgument(
            f"noise_variance has shape {tuple(variance.shape)}; a method on singular values needs one number "
            "for all of y. pigdm takes one for each value."
        )
    svd = operator.svd()
    values = svd.values.to(measurement.y)
    data = divide(svd.u_t(measurement.y), values)
    return Spectrum(svd, data, divide(variance.reshape(()).sqrt().expand_as(values), values), values > 0.0)


@dataclass(frozen=True, eq=False)
class DDRM:
    """A step of denoising diffusion restoration: one call; no Jacobian.

    eta in [0, 1]: how fresh the noise is where y says nothing, or less than x1_hat does. eta_b in [0, 1]: how
    far y overrides x1_hat where it says more. Raises InvalidArgument for others; see `spectrum`.
    Source: Kawar et al. 2022 (DDRM), eqs. 7 and 8.
    """

    measurement: LinearMeasurement
    eta: float = 0.85
    eta_b: float = 1.0
    spectrum: Spectrum = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_fraction("eta", self.eta)
        _check_fraction("eta_b", self.eta_b)
        object.__setattr__(self, "spectrum", spectrum(self.measurement))

    def __call__(
        self, prior: Prior, x: Tensor, tau: float, tau_next: float, generator: Generator | None = None
    ) -> Move:
        """One step."""
        svd, data, nsr, observed = self.spectrum
        x1_hat = prior.denoise(x, tau)
        now = _coordinates(svd, prior.path, tau, x, x1_hat, generator)
        alpha, sigma = prior.path.alpha(tau_next), prior.path.sigma(tau_next)
        kept = sigma * math.sqrt(1.0 - self.eta**2)
        fresh = self.eta * sigma * now.noise
        free = alpha * now.x1_hat + kept * now.eps + fresh
        vague = alpha * now.x1_hat + kept * divide(data - now.x1_hat, nsr) + fresh
        mixed = (1.0 - self.eta_b) * now.x1_hat + self.eta_b * data
        left = (sigma**2 - (alpha * self.eta_b * nsr) ** 2).clamp(min=0.0).sqrt()
        sharp = alpha * mixed + left * now.noise
        measured = torch.where(sigma < alpha * nsr, vague, sharp)
        return Move(svd.v(torch.where(observed, measured, free).to(x)), x1_hat)


@dataclass(frozen=True, eq=False)
class DDNMPlus:
    """A step of the denoising null-space model with noise: DDRM's with eta_b = 1, in its own words. One call.

    x1_hat moves to y_i / s_i by a fraction that falls once y is the noisier of the two. eta in [0, 1].
    The move carries the estimate before that, from which time travel draws. Raises InvalidArgument for
    another eta; see `spectrum`. Source: Wang et al. 2023 (DDNM), eqs. 17 and 51.
    """

    measurement: LinearMeasurement
    eta: float = 0.85
    spectrum: Spectrum = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_fraction("eta", self.eta)
        object.__setattr__(self, "spectrum", spectrum(self.measurement))

    def __call__(
        self, prior: Prior, x: Tensor, tau: float, tau_next: float, generator: Generator | None = None
    ) -> Move:
        """One step."""
        svd, data, nsr, observed = self.spectrum
        x1_hat = prior.denoise(x, tau)
        now = _coordinates(svd, prior.path, tau, x, x1_hat, generator)
        alpha, sigma = prior.path.alpha(tau_next), prior.path.sigma(tau_next)
        scaled, kept = alpha * nsr, math.sqrt(1.0 - self.eta**2)
        is_sharp = sigma >= scaled
        fraction = torch.where(is_sharp, 1.0, sigma * kept * divide(torch.ones_like(scaled), scaled))
        corrected = now.x1_hat + torch.where(observed, fraction * (data - now.x1_hat), 0.0)
        deviation = torch.where(is_sharp, (sigma**2 - scaled**2).clamp(min=0.0).sqrt(), self.eta * sigma)
        free = sigma * (self.eta * now.noise + kept * now.eps)
        noise = torch.where(observed, deviation * now.noise, free)
        return Move(svd.v((alpha * corrected + noise).to(x)), x1_hat)


def ddrm_start(
    step: DDRM, path: Path, shape: tuple[int, ...], generator: Generator | None = None
) -> Float[Tensor, "batch *event"]:
    """DDRM's first point, y_i / s_i with the noise that is missing to the path's first level.

    Raises InvalidArgument where y is noisier than that level, rho(0) < sigma_y / s_i: no such point exists.
    Source: Kawar et al. 2022 (DDRM), eq. 6.
    """
    svd, data, nsr, observed = step.spectrum
    alpha, sigma = float(path.alpha(0.0)), float(path.sigma(0.0))
    worst = float(nsr.max())
    if sigma < alpha * worst:
        rho, level = sigma / alpha, math.sqrt(step.measurement.noise_variance)
        raise InvalidArgument(
            f"DDRM starts where sigma / alpha = {rho:.3g}, below sigma_y / s = {worst:.3g} of the smallest "
            f"singular value s = {level / worst:.3g}; give an operator with s >= {level / rho:.3g}, less "
            "noise, a path that starts noisier, or use ddnm_plus, which starts from noise."
        )
    noise = normal(data.expand(shape[0], -1), generator)
    sharp = alpha * data + (sigma**2 - (alpha * nsr) ** 2).sqrt() * noise
    return svd.v(torch.where(observed, sharp, sigma * noise)).reshape(shape)


def ddrm(
    prior: Prior,
    measurement: LinearMeasurement,
    shape: tuple[int, ...],
    num_steps: int,
    *,
    eta: float = 0.85,
    eta_b: float = 1.0,
    generator: Generator | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "batch *event"]:
    """Denoising diffusion restoration in num_steps calls (paper: 20), shaped shape = (batch, *event).

    sigma_y = 0 is allowed; A x = y then at the end. Errors: see DDRM and ddrm_start.
    Source: Kawar et al. 2022 (DDRM).
    """
    step = DDRM(measurement, eta, eta_b)
    times = uniform_times(num_steps)
    check_fit(measurement, shape)
    start = ddrm_start(step, prior.path, shape, generator)
    return integrate(prior, start, times, solver=step, generator=generator, callback=callback)


def ddnm_plus(
    prior: Prior,
    measurement: LinearMeasurement,
    shape: tuple[int, ...],
    num_steps: int,
    *,
    eta: float = 0.85,
    jump: int = 1,
    repeats: int = 1,
    generator: Generator | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "batch *event"]:
    """DDNM+ from pure noise, with time travel (`jump`, `repeats` as in jump_times; 1 and 1 is without).

    Errors: see DDNMPlus and jump_times. Source: Wang et al. 2023 (DDNM), section 3.3 and algorithm 2.
    """
    step = DDNMPlus(measurement, eta)
    times = jump_times(num_steps, jump, repeats)
    start = pure_noise(prior.path, measurement, shape, generator)
    return travel(prior, start, times, solver=step, generator=generator, callback=callback)


def _coordinates(
    svd: SVD, path: Path, tau: float, x: Tensor, x1_hat: Tensor, generator: Generator | None
) -> Coordinates:
    """x1_hat, eps and fresh noise along V; the noise is drawn there, where its law is the same."""
    of_x1_hat = svd.v_t(x1_hat)
    eps = (svd.v_t(x) - path.alpha(tau) * of_x1_hat) / path.sigma(tau)
    return Coordinates(of_x1_hat, eps, normal(eps, generator))


def _check_fraction(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise InvalidArgument(f"{name} is {value}; it must lie in [0, 1].")
