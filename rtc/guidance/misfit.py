"""The gradient of the data misfit, as the heuristics that descend it use it (DPS, MPGD)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from rtc.errors import InvalidArgument
from rtc.measurement import LinearMeasurement

MISFITS = ("norm", "squared")


def misfit_gradient(
    measurement: LinearMeasurement, x1_hat: Float[Tensor, "batch *event"], misfit: str
) -> Float[Tensor, "batch *event"]:
    """The gradient in x1_hat of norm(y - A x1_hat), or of its square; A may be nonlinear.

    "norm": -A^T (y - A x1_hat) / norm(y - A x1_hat), with the norm of each element of the batch for itself,
    and 0 where it is met exactly. "squared": -2 A^T (y - A x1_hat).
    """
    residual = measurement.residual(x1_hat)
    ascent = measurement.linear_operator(x1_hat).adjoint(residual)
    if misfit == "squared":
        return -2.0 * ascent
    length = torch.linalg.vector_norm(residual.flatten(1), dim=1)
    scale = torch.where(length > 0.0, 1.0 / length.clamp(min=torch.finfo(length.dtype).tiny), 0.0)
    return -scale.reshape(-1, *(1,) * (ascent.ndim - 1)) * ascent


def check_descent(name: str, length: float, misfit: str) -> None:
    """Raise InvalidArgument for a negative step length, or for another misfit."""
    if not 0.0 <= length < float("inf"):
        raise InvalidArgument(f"{name} is {length}; a step length is at least 0.")
    if misfit not in MISFITS:
        raise InvalidArgument(f"misfit is {misfit!r}; choose one of {', '.join(MISFITS)}.")
