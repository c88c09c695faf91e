"""Twists: guesses psi(x) of p(y | x at tau), and the direction in which they rise.

Any positive psi leaves a filter exact as particles are added; a good one needs few. With S a model of
Cov[x1 | x], psi = N(y; A x1_hat, A S A^T + noise_variance I):

| name      | S                   | operator access     | calls         |
|-----------|---------------------|---------------------|---------------|
| "dps"     | 0                   | any likelihood      | 1 VJP         |
| "pigdm"   | r2 I                | A, A^T, solve       | 1 VJP         |
| "tweedie" | (sigma^2 / alpha) J | A, A^T              | 1 + m VJPs    |

Source: Wu et al. 2023 (TDS), section 3; docs/math.md section 3 for S.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from rtc.autodiff import vjp
from rtc.errors import InvalidArgument
from rtc.guidance.pigdm import check_data_std, r2
from rtc.guidance.pullback import Pullback, tweedie_gain
from rtc.measurement import Likelihood, LinearMeasurement
from rtc.path import Path

TWISTS = ("tweedie", "pigdm", "dps")
MOST_VALUES = 256
"""Values of y for which the Tweedie twist is affordable: it takes one VJP for each."""


class Twisted(NamedTuple):
    """log psi [n], without what is the same for every x; and its gradient in x1_hat, S held constant."""

    log_psi: Tensor
    cotangent: Tensor


Twist: TypeAlias = Callable[[Tensor, Pullback, float], Twisted]
"""(x1_hat, pullback, tau) -> Twisted."""


def make_twist(name: str, measurement: Likelihood, path: Path, data_std: float) -> Twist:
    """The twist of that name; data_std > 0 is read by "pigdm". Raises InvalidArgument for other values."""
    if name not in TWISTS:
        raise InvalidArgument(f"twist is {name!r}; choose one of {', '.join(TWISTS)}.")
    if name == "dps":
        return likelihood_twist(measurement)
    if not isinstance(measurement, LinearMeasurement):
        raise InvalidArgument(
            f"the {name} twist needs a LinearMeasurement, and got a {type(measurement).__name__}; "
            'twist="dps" takes any likelihood.'
        )
    if name == "pigdm":
        return isotropic_twist(measurement, path, data_std)
    return tweedie_twist(measurement, path)


def likelihood_twist(measurement: Likelihood) -> Twist:
    """psi = p(y | x1 = x1_hat): S = 0."""

    def twist(x1_hat: Tensor, pullback: Pullback, tau: float) -> Twisted:
        log_psi, gradient = vjp(measurement.log_likelihood, x1_hat)
        return Twisted(log_psi, gradient(torch.ones_like(log_psi))[0])

    return twist


def isotropic_twist(measurement: LinearMeasurement, path: Path, data_std: float) -> Twist:
    """psi = N(y; A x1_hat, r2 A A^T + noise_variance I).

    Its log determinant is left out, and may be: it is one number for all particles of a level, leaves the
    normalised weights alone, and what it adds to the evidence at one level it takes off at the next.
    """
    check_data_std(data_std)

    def twist(x1_hat: Tensor, pullback: Pullback, tau: float) -> Twisted:
        operator, residual = measurement.linear_operator(x1_hat), measurement.residual(x1_hat)
        whitened = operator.solve(residual, r2(tau, data_std, path), measurement.noise_variance)
        square = (residual * whitened).flatten(1).sum(1)
        return Twisted(-0.5 * square, operator.adjoint(whitened))

    return twist


def tweedie_twist(measurement: LinearMeasurement, path: Path) -> Twist:
    """psi = N(y; A x1_hat, (sigma^2 / alpha) A J A^T + noise_variance I), log determinant included: J turns
    with x. The exact p(y | x) of a Gaussian prior. Needs alpha(tau) > 0.

    The covariance is symmetric and at least noise_variance where J is a Jacobian of an exact prior; a
    network's is made so.
    """
    count = measurement.y.numel()
    if count > MOST_VALUES:
        raise InvalidArgument(
            f"the tweedie twist takes one VJP for each of the {count} values of y; at most {MOST_VALUES}: "
            'use twist="pigdm".'
        )

    def twist(x1_hat: Tensor, pullback: Pullback, tau: float) -> Twisted:
        operator, residual = measurement.linear_operator(x1_hat), measurement.residual(x1_hat)
        flat = residual.flatten(1)
        units = torch.eye(flat.shape[1]).to(flat).reshape(-1, 1, *residual.shape[1:])
        rows = [
            operator.forward(pullback(operator.adjoint(unit.expand_as(residual)))).flatten(1)
            for unit in units
        ]
        scale = measurement.noise_variance_like(flat).expand(residual.shape[1:]).flatten().sqrt()
        covariance = torch.stack(rows, 1) * float(tweedie_gain(path, tau))
        covariance = covariance / (scale * scale[:, None])  # in units of the noise
        values, axes = torch.linalg.eigh(0.5 * (covariance + covariance.mT))
        values = values.clamp(min=0.0) + 1.0
        turned = ((flat / scale)[:, None] @ axes)[:, 0]
        log_psi = (
            -0.5 * (turned.square() / values + (2.0 * math.pi * values).log()).sum(1) - scale.log().sum()
        )
        whitened = (axes @ (turned / values)[..., None])[..., 0] / scale
        return Twisted(log_psi, operator.adjoint(whitened.reshape(residual.shape)))

    return twist


def log_normal(x: Float[Tensor, "*shape"], mean: Tensor, variance: Tensor) -> Float[Tensor, "*shape"]:
    """log N(x; mean, variance), value by value."""
    return -0.5 * ((x - mean).square() / variance + (2.0 * math.pi * variance).log())
