"""Gaussian probability paths: how much data and how much noise a point holds at flow time `tau`.

```
tau:    0 ───────────────────────────── 1
x:      noise   x = alpha x1 + sigma x0   data         x1 data, x0 ~ N(0, I)
```

A path is four functions of `tau` and one way back, `tau_at`; what else the library needs of it is derived
from them, here and once. What divides by alpha or sigma is infinite where that is zero (the OT path's ends).
Paths that are tables of levels (discrete DDPM) are in rtc/table.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from rtc.errors import InvalidArgument

Time: TypeAlias = float | Tensor
"""A flow time in [0, 1], or a function of one: a float, or a tensor with one value per batch index."""


@runtime_checkable
class Path(Protocol):
    """The law x = alpha x1 + sigma x0 of a noisy point, with alpha rising and sigma falling in tau."""

    def alpha(self, tau: Time) -> Time:
        """Scale of the data."""
        ...

    def sigma(self, tau: Time) -> Time:
        """Scale (standard deviation) of the noise."""
        ...

    def alpha_dot(self, tau: Time) -> Time:
        """d alpha / d tau."""
        ...

    def sigma_dot(self, tau: Time) -> Time:
        """d sigma / d tau."""
        ...

    def tau_at(self, rho: Time) -> Time:
        """The time at which sigma / alpha = rho; outside [0, 1] where the path never is."""
        ...


@dataclass(frozen=True)
class OT:
    """The straight (optimal transport, linear, rectified) path: alpha = tau, sigma = 1 - tau.

    Source: Lipman et al. 2023, eq. 22 with sigma_min = 0; Liu et al. 2023.
    """

    def alpha(self, tau: Time) -> Time:
        """tau."""
        return tau

    def sigma(self, tau: Time) -> Time:
        """1 - tau."""
        return 1.0 - tau

    def alpha_dot(self, tau: Time) -> Time:
        """1."""
        return 1.0

    def sigma_dot(self, tau: Time) -> Time:
        """-1."""
        return -1.0

    def tau_at(self, rho: Time) -> Time:
        """1 / (1 + rho)."""
        return 1.0 / (1.0 + rho)


STRAIGHT = OT()
"""The path that every function takes when none is named."""


@dataclass(frozen=True)
class VP:
    """Variance preserving with linear beta: alpha^2 + sigma^2 = 1.

    log alpha = -u^2 (beta1 - beta0) / 4 - u beta0 / 2 with u = 1 - tau. With the default values alpha(0) is
    .0066: noise, nearly. Raises InvalidArgument unless 0 < beta0 <= beta1.
    Source: Song et al. 2021 (score SDE), appendix C.
    """

    beta0: float = 0.1
    beta1: float = 20.0

    def __post_init__(self) -> None:
        if not 0.0 < self.beta0 <= self.beta1 < math.inf:
            raise InvalidArgument(f"beta0 = {self.beta0}, beta1 = {self.beta1}; it needs 0 < beta0 <= beta1.")

    def _log_alpha(self, tau: Time) -> Time:
        u = 1.0 - tau
        return -0.25 * u**2 * (self.beta1 - self.beta0) - 0.5 * u * self.beta0

    def _log_alpha_dot(self, tau: Time) -> Time:
        return 0.5 * ((1.0 - tau) * (self.beta1 - self.beta0) + self.beta0)

    def alpha(self, tau: Time) -> Time:
        """exp(log alpha), from .0066 to 1."""
        return _pointwise("exp", self._log_alpha(tau))

    def sigma(self, tau: Time) -> Time:
        """sqrt(1 - alpha^2), without cancellation near the data."""
        return (-_pointwise("expm1", 2.0 * self._log_alpha(tau))) ** 0.5

    def alpha_dot(self, tau: Time) -> Time:
        """alpha (d log alpha / d tau)."""
        return self.alpha(tau) * self._log_alpha_dot(tau)

    def sigma_dot(self, tau: Time) -> Time:
        """-alpha alpha_dot / sigma; minus infinity at tau = 1."""
        return -ratio(self.alpha(tau) * self.alpha_dot(tau), self.sigma(tau))

    def tau_at(self, rho: Time) -> Time:
        """The root u of the quadratic log(1 + rho^2) = u^2 (beta1 - beta0) / 2 + u beta0."""
        target, slope = _pointwise("log1p", rho * rho), self.beta1 - self.beta0
        return 1.0 - 2.0 * target / (self.beta0 + (self.beta0**2 + 2.0 * slope * target) ** 0.5)


@dataclass(frozen=True)
class Cosine:
    """alpha = sin(pi tau / 2), sigma = cos(pi tau / 2).

    Source: Nichol & Dhariwal 2021, eq. 17, without its offset.
    """

    def alpha(self, tau: Time) -> Time:
        """sin(pi tau / 2)."""
        return _pointwise("sin", 0.5 * math.pi * tau)

    def sigma(self, tau: Time) -> Time:
        """cos(pi tau / 2), written as a sine so that it is exactly 0 at tau = 1."""
        return _pointwise("sin", 0.5 * math.pi * (1.0 - tau))

    def alpha_dot(self, tau: Time) -> Time:
        """(pi / 2) sigma."""
        return 0.5 * math.pi * self.sigma(tau)

    def sigma_dot(self, tau: Time) -> Time:
        """-(pi / 2) alpha."""
        return -0.5 * math.pi * self.alpha(tau)

    def tau_at(self, rho: Time) -> Time:
        """1 - (2 / pi) arctan rho."""
        return 1.0 - _pointwise("atan", rho) * (2.0 / math.pi)


@dataclass(frozen=True)
class VE:
    """Variance exploding: alpha = 1, sigma = sigma_max^(1 - tau) sigma_min^tau.

    It stops at sigma_min, not at data. Raises InvalidArgument unless 0 < sigma_min < sigma_max.
    Source: Song et al. 2021 (score SDE), appendix C.
    """

    sigma_max: float = 50.0
    sigma_min: float = 0.01

    def __post_init__(self) -> None:
        if not 0.0 < self.sigma_min < self.sigma_max < math.inf:
            raise InvalidArgument(
                f"sigma_min = {self.sigma_min}, sigma_max = {self.sigma_max}; "
                "it needs 0 < sigma_min < sigma_max."
            )

    def alpha(self, tau: Time) -> Time:
        """1."""
        return 1.0

    def sigma(self, tau: Time) -> Time:
        """sigma_max^(1 - tau) sigma_min^tau."""
        return _pointwise("exp", math.log(self.sigma_max) + tau * self._rate)

    def alpha_dot(self, tau: Time) -> Time:
        """0."""
        return 0.0

    def sigma_dot(self, tau: Time) -> Time:
        """sigma log(sigma_min / sigma_max)."""
        return self.sigma(tau) * self._rate

    def tau_at(self, rho: Time) -> Time:
        """log(sigma_max / rho) / log(sigma_max / sigma_min)."""
        if not isinstance(rho, Tensor) and rho == 0.0:
            return math.inf
        return (_pointwise("log", rho) - math.log(self.sigma_max)) / self._rate

    @property
    def _rate(self) -> float:
        return math.log(self.sigma_min / self.sigma_max)


def wronskian(path: Path, tau: Time) -> Time:
    """alpha_dot sigma - alpha sigma_dot: the speed of the path; 1 on the OT path.

    Positive everywhere; infinite only where sigma_dot is (VP at tau = 1).
    """
    return path.alpha_dot(tau) * path.sigma(tau) - path.alpha(tau) * path.sigma_dot(tau)


def log_snr_rate(path: Path, tau: Time) -> Time:
    """lambda_dot = d log(alpha / sigma) / d tau; 1 / (tau (1 - tau)) on the OT path, infinite at its ends."""
    return ratio(wronskian(path, tau), path.alpha(tau) * path.sigma(tau))


def ratio(numerator: Time, denominator: Time) -> Time:
    """numerator / denominator, where positive / 0 is infinity for floats as it is for tensors."""
    if isinstance(denominator, Tensor) or denominator != 0.0:
        return numerator / denominator
    return math.inf


def spread(coefficient: Time, x: Tensor) -> Time:
    """Lay a coefficient over a batch: a tensor [*batch] becomes [*batch, 1, ...] like `x`; a float stays.

    Coefficients are computed in the precision of `tau` and meet the dtype of `x` only here.
    """
    if not isinstance(coefficient, Tensor):
        return coefficient
    return coefficient.to(dtype=x.dtype, device=x.device).reshape(
        coefficient.shape + (1,) * (x.ndim - coefficient.ndim)
    )


def noise_to_signal(path: Path, tau: Time) -> Time:
    """rho = sigma / alpha: how noisy a point is, whatever the path; infinite where alpha is 0."""
    return ratio(path.sigma(tau), path.alpha(tau))


def _pointwise(name: str, value: Time) -> Time:
    return getattr(torch, name)(value) if isinstance(value, Tensor) else getattr(math, name)(value)
