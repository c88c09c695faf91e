"""Guidance with the covariance of x1 that the prior itself gives: Cov[x1 | x] = (sigma^2 / alpha) J.

x1_hat + G A^T Sigma^-1 (y - A x1_hat), Sigma = A G A^T + noise_variance I, G v = (sigma^2 / alpha) J^T v.
The three differ in how they meet Sigma: whole, by a few products, or by the sums of its rows. For a Gaussian
prior the first is the exact conditional. The first axis of x is the batch. A network's J is not symmetric,
nor need Sigma be positive: nothing here relies on either (GMRES in the place of conjugate gradients).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rtc.errors import InvalidArgument
from rtc.guidance.pullback import Pullback, through
from rtc.guidance.systems import gmres, pseudo_solve
from rtc.measurement import LinearMeasurement
from rtc.prior import DenoiserPrior, Prior


def tweedie(prior: Prior, measurement: LinearMeasurement) -> DenoiserPrior:
    """Sigma whole: 1 forward and m + 1 VJPs a call, for m values measured; exact for Gaussian priors.

    Memory: m^2 numbers for each element of the batch; `mmps` is for images. Where Sigma is singular (no
    noise, and values that repeat) its pseudo-inverse. Raises InvalidArgument for infinite noise.
    Sources: Boys et al. 2023 (TMPD, before its projection); Rozet et al. 2024 (MMPS, solved exactly).
    """
    _check_finite(measurement)

    def shift(x1_hat: Tensor, pullback: Pullback) -> Tensor:
        system = _system(measurement, x1_hat, pullback)
        residual = system.residual.flatten(1)
        units = torch.eye(residual.shape[1], dtype=residual.dtype, device=residual.device)
        columns = [
            system.covariance(unit.expand_as(residual).reshape(system.residual.shape)).flatten(1)
            for unit in units
        ]
        solution = pseudo_solve(torch.stack(columns, -1), residual)
        return pullback(system.adjoint(solution.reshape(system.residual.shape)))

    return through(prior, shift)


def mmps(prior: Prior, measurement: LinearMeasurement, *, iterations: int = 3) -> DenoiserPrior:
    """Sigma by its products with `iterations` vectors: 1 forward and iterations + 1 VJPs a call.

    Moment matching posterior sampling. iterations: 1 to 5 are usual; from m, the number of values measured,
    on it is `tweedie`. Solved by GMRES, whose residual never grows, where the paper has conjugate gradients,
    which need a symmetric J. Raises InvalidArgument for fewer than 1, or for infinite noise.
    Source: Rozet et al. 2024.
    """
    _check_finite(measurement)
    if iterations < 1:
        raise InvalidArgument(f"iterations is {iterations}; at least 1 is needed (3 is usual).")

    def shift(x1_hat: Tensor, pullback: Pullback) -> Tensor:
        system = _system(measurement, x1_hat, pullback)
        solution = gmres(system.covariance, system.residual, iterations=iterations)
        return pullback(system.adjoint(solution))

    return through(prior, shift)


def tmpd(prior: Prior, measurement: LinearMeasurement) -> DenoiserPrior:
    """Sigma by the sums of its rows, as a diagonal: 1 forward and 2 VJPs a call.

    Tweedie moment projected diffusion; exact where Sigma is diagonal (independent values, a mask). A sum
    below 0, which correlated values can have, counts as 0. Source: Boys et al. 2023.
    """

    def shift(x1_hat: Tensor, pullback: Pullback) -> Tensor:
        operator, residual = measurement.linear_operator(x1_hat), measurement.residual(x1_hat)
        sums = operator.forward(pullback(operator.adjoint(torch.ones_like(residual))))
        variance = sums.clamp(min=0.0) + measurement.noise_variance_like(residual)
        tiny = torch.finfo(variance.dtype).tiny
        weighted = torch.where(variance > tiny, residual / variance.clamp(min=tiny), 0.0)
        return pullback(operator.adjoint(weighted))

    return through(prior, shift)


class _System(NamedTuple):
    """Sigma u = residual: its right side, A^T, and v -> Sigma v (one VJP)."""

    residual: Tensor
    adjoint: Callable[[Tensor], Tensor]
    covariance: Callable[[Tensor], Tensor]


def _system(measurement: LinearMeasurement, x1_hat: Tensor, pullback: Pullback) -> _System:
    operator = measurement.linear_operator(x1_hat)
    noise = measurement.noise_variance_like(x1_hat)

    def covariance(v: Tensor) -> Tensor:
        return operator.forward(pullback(operator.adjoint(v))) + noise * v

    return _System(measurement.residual(x1_hat), operator.adjoint, covariance)


def _check_finite(measurement: LinearMeasurement) -> None:
    if not torch.as_tensor(measurement.noise_variance).isfinite().all():
        raise InvalidArgument(
            "noise_variance is infinite somewhere; leave what is not measured out of y (with a Mask, say)."
        )
