"""Where a method begins: pure noise, or an estimate of the image carried forward to an intermediate time."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from rtc.errors import InvalidArgument, Unsupported
from rtc.kernel import StepKernel, normal
from rtc.measurement import LinearMeasurement, LinearOperator
from rtc.path import Path


def noise_free(measurement: LinearMeasurement) -> LinearMeasurement:
    """The same y taken as exact: its pull(x, 1) is A^+ (y - A x), the least change of x with A x = y.

    Raises Unsupported for an operator that is not linear, which has no A^+.
    """
    if not isinstance(measurement.operator, LinearOperator):
        raise Unsupported(
            f"{type(measurement.operator).__name__} is not linear and has no pseudo-inverse; "
            "use a method that needs forward only, such as dps."
        )
    return replace(measurement, noise_variance=0.0)


def check_fit(measurement: LinearMeasurement, shape: tuple[int, ...]) -> None:
    """Raise InvalidArgument now if y or the operator do not fit images of shape = (batch, *event)."""
    measurement.residual(_blank(measurement, shape))


def back_projection(measurement: LinearMeasurement, shape: tuple[int, ...]) -> Float[Tensor, "batch *event"]:
    """A^+ y, for each element of a batch: shape = (batch, *event). Errors: as check_fit and noise_free."""
    return noise_free(measurement).pull(_blank(measurement, shape), 1.0)


def pure_noise(
    path: Path, measurement: LinearMeasurement, shape: tuple[int, ...], generator: Generator | None = None
) -> Float[Tensor, "batch *event"]:
    """sigma(0) n, n ~ N(0, I), with the dtype and device of y. Errors: as check_fit."""
    check_fit(measurement, shape)
    return path.sigma(0.0) * normal(_blank(measurement, shape), generator)


def diffused(
    path: Path, estimate: Float[Tensor, "*shape"], tau0: float, generator: Generator | None = None
) -> Float[Tensor, "*shape"]:
    """alpha estimate + sigma n at tau0: the forward process run from an estimate of the data.

    Raises InvalidArgument unless 0 <= tau0 < 1. Source: Chung et al. 2022 (CCDF), algorithm 1; Pokle et al.
    2024, section 3.2.
    """
    if not 0.0 <= tau0 < 1.0:
        raise InvalidArgument(f"tau0 is {tau0}; a sampler starts at a flow time in [0, 1).")
    kernel = StepKernel(float(path.alpha(tau0)), 0.0, float(path.sigma(tau0)))
    return kernel.apply(estimate, estimate, generator)


def _blank(measurement: LinearMeasurement, shape: tuple[int, ...]) -> Tensor:
    return torch.zeros(shape, dtype=measurement.y.dtype, device=measurement.y.device)
