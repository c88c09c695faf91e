"""Gaussians given a linear measurement y = a x1 + N(0, noise_variance I).

With K = C a^T (a C a^T + noise_variance I)^-1, x1 | y ~ N(m + K (y - a m), C - K a C). Components that share
a covariance are a group: means [g, j, d] (g groups of j members), covs [g, d, d].
Source: Bishop 2006, eqs. 2.115-2.117.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rtc.errors import InvalidArgument
from rtc.path import Time


@dataclass(frozen=True, eq=False)
class Conditioning:
    """The groups, the measurement, and what both of posterior and evidence need of them.

    residuals: y - a m. gain: K^T. factor: the Cholesky factor of Cov[y].
    """

    means: Float[Tensor, "g j d"]
    covs: Float[Tensor, "g d d"]
    a: Float[Tensor, "m d"]
    noise_variance: Float[Tensor, " m"]
    residuals: Float[Tensor, "g j m"]
    gain: Float[Tensor, "g m d"]
    factor: Float[Tensor, "g m m"]

    def log_densities(self) -> Float[Tensor, "g j"]:
        """log p(y | component)."""
        whitened = torch.linalg.solve_triangular(self.factor, self.residuals.mT, upper=False)
        log_volume = (2.0 * math.pi * self.factor.diagonal(dim1=-2, dim2=-1) ** 2).log().sum(-1)
        return -0.5 * (whitened.square().sum(-2) + log_volume[:, None])

    def posterior_means(self) -> Float[Tensor, "g j d"]:
        """m + K (y - a m)."""
        return self.means + self.residuals @ self.gain

    def posterior_covs(self) -> Float[Tensor, "g d d"]:
        """C - K a C, in Joseph's form: as a difference it would lose its sign to rounding."""
        keep = torch.eye(self.a.shape[1]).to(self.a) - self.gain.mT @ self.a
        covs = keep @ self.covs @ keep.mT + (self.gain.mT * self.noise_variance) @ self.gain
        return 0.5 * (covs + covs.mT)


def condition(
    means: Float[Tensor, "g j d"],
    covs: Float[Tensor, "g d d"],
    a: Float[Tensor, "..."],
    y: Float[Tensor, "..."],
    noise_variance: Time,
) -> Conditioning:
    """Take in the measurement: a [m, d], y [m], noise_variance >= 0, a number or [m].

    Raises InvalidArgument for other shapes and values, and where a C a^T + noise_variance I is singular.
    """
    size = means.shape[-1]
    if a.ndim != 2 or a.shape[1] != size or y.shape != a.shape[:1]:
        raise InvalidArgument(
            f"a has shape {tuple(a.shape)} and y {tuple(y.shape)}; they must be [m, {size}] and [m]."
        )
    a, noise = a.to(means), torch.as_tensor(noise_variance, dtype=means.dtype, device=means.device)
    if not (noise >= 0.0).all():
        raise InvalidArgument(f"noise_variance is {noise_variance}; a variance is at least 0.")
    noise, observed = noise.expand(len(a)), a @ covs
    factor, failed = torch.linalg.cholesky_ex(observed @ a.T + noise.diag())
    if failed.any():
        raise InvalidArgument(
            "a cov a^T + noise_variance I is singular; give a positive noise_variance, "
            "or independent rows of a."
        )
    gain = torch.cholesky_solve(observed, factor)
    return Conditioning(means, covs, a, noise, y.to(a) - means @ a.T, gain, factor)
