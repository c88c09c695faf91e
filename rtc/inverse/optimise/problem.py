"""What the methods of this folder share: the data term norm(A x - y)^2 / 2, where to begin, and checks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rtc.errors import InvalidArgument
from rtc.measurement import LinearMeasurement
from rtc.path import Path, noise_to_signal
from rtc.prior import Prior, on


def check_problem(
    measurement: LinearMeasurement, shape: Sequence[int], num_steps: int, **positive: float
) -> Float[Tensor, "batch *event"]:
    """Zeros of that shape, in the dtype and on the device of y, once everything is seen to fit.

    Raises InvalidArgument for a shape without a batch dimension, for one that the operator and y do not fit,
    for no steps, and for a knob in `positive` that is not a positive, finite number.
    """
    if len(shape) < 2 or min(shape) < 1:
        raise InvalidArgument(f"shape is {tuple(shape)}; it must be (batch, *event), each at least 1.")
    if num_steps < 1:
        raise InvalidArgument(f"num_steps is {num_steps}; at least 1 step is needed.")
    for name, value in positive.items():
        if not 0.0 < value < math.inf:
            raise InvalidArgument(f"{name} is {value}; it must be a positive number.")
    zeros = torch.zeros(tuple(shape), dtype=measurement.y.dtype, device=measurement.y.device)
    measurement.residual(zeros)
    return zeros


def on_path(prior: Prior, path: Path) -> tuple[Prior, float]:
    """The prior on `path`, and the earliest time there that is not noisier than the prior ever is."""
    if prior.path == path:
        return prior, 0.0
    noisiest = float(noise_to_signal(prior.path, 0.0))
    start = 0.0 if math.isinf(noisiest) else max(0.0, float(path.tau_at(noisiest)))
    return on(prior, path), start


def estimate(
    measurement: LinearMeasurement, zeros: Float[Tensor, "batch *event"]
) -> Float[Tensor, "batch *event"]:
    """A^T (A A^T + sigma_y^2 I)^-1 y: A^+ y, with the small singular values damped by the noise."""
    return measurement.pull(zeros, 1.0)


def signal_at(
    path: Path, start: float, measurement: LinearMeasurement, zeros: Float[Tensor, "batch *event"]
) -> Float[Tensor, "batch *event"]:
    """alpha times the estimate: the part of a point at `start` that is not noise; nothing at tau = 0.

    A prior that covers little noise makes a method start late, where noise alone is no point of its path.
    """
    return path.alpha(start) * estimate(measurement, zeros) if start > 0.0 else zeros


def misfit_gradient(
    measurement: LinearMeasurement, x: Float[Tensor, "batch *event"]
) -> Float[Tensor, "batch *event"]:
    """A^T (A x - y), the gradient of norm(A x - y)^2 / 2; a nonlinear operator is linearised at x."""
    return -measurement.linear_operator(x).adjoint(measurement.residual(x))


def squared_norm(
    measurement: LinearMeasurement, zeros: Float[Tensor, "batch *event"], iterations: int = 20
) -> float:
    """The square of the largest singular value of A, from below, by power iterations; calls no network."""
    operator = measurement.linear_operator(zeros[:1])
    x = torch.randn(zeros[:1].shape, generator=torch.Generator().manual_seed(0)).to(zeros)
    square = 0.0
    for _ in range(iterations):
        x = operator.adjoint(operator.forward(x / x.norm()))
        square = float(x.norm())
        if square == 0.0:
            break
    return square


def finite(x: Float[Tensor, "*shape"], method: str, remedy: str) -> Float[Tensor, "*shape"]:
    """x, or InvalidArgument if it is not finite: a procedure that diverged has no result."""
    if not torch.isfinite(x).all():
        raise InvalidArgument(f"{method} diverged: its result is not finite; {remedy}.")
    return x
