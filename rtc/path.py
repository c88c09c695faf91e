"""Gaussian probability paths: how much data and how much noise a point holds at flow time `tau`.

```
tau:    0 ───────────────────────────── 1
x:      noise   x = alpha x1 + sigma x0   data         x1 data, x0 ~ N(0, I)
```

A path is four functions of `tau`; what else the library needs of it is derived from them, here and once.
What divides by alpha or sigma is infinite where that is zero (the two ends of the OT path).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from torch import Tensor

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


STRAIGHT = OT()
"""The path that every function takes when none is named."""


def wronskian(path: Path, tau: Time) -> Time:
    """alpha_dot sigma - alpha sigma_dot: the speed of the path, finite everywhere; 1 on the OT path."""
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
