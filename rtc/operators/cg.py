"""Conjugate gradients for a batch of systems, each on its own."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from rtc.errors import InvalidArgument


def conjugate_gradients(
    apply: Callable[[Tensor], Tensor],
    b: Float[Tensor, "..."],
    *,
    iterations: int,
    tolerance: float = 1e-6,
    batch_dims: int = 1,
) -> Float[Tensor, "..."]:
    """The solution x of apply(x) = b, from x = 0, for a symmetric positive semidefinite map.

    The first `batch_dims` dimensions of b [*batch, *event] number independent systems. Each takes at most
    `iterations` >= 1 steps and stops once norm(b - apply(x)) <= tolerance norm(b), or where apply is flat
    along its direction (b outside the range of a singular map); all share the calls of apply, which end when
    every system has stopped. With b in its range a singular map gives the solution of least norm.
    It does not say whether it converged: a few steps may be all that is wanted. NaN in a system stays in it.

    Raises InvalidArgument for other values. Source: Hestenes & Stiefel 1952, section 3.
    """
    if iterations < 1 or not tolerance >= 0.0 or not 0 <= batch_dims <= b.ndim:
        raise InvalidArgument(
            f"iterations = {iterations}, tolerance = {tolerance}, batch_dims = {batch_dims} for b of shape "
            f"{tuple(b.shape)}; it needs iterations >= 1, tolerance >= 0, batch_dims from 0 to {b.ndim}."
        )
    x, residual, direction = torch.zeros_like(b), b, b
    square = inner(b, b, batch_dims)
    target = tolerance**2 * square
    active = torch.ones_like(square, dtype=torch.bool)
    for _ in range(iterations):
        active = active & ~(square <= target)  # so written, NaN stays active and shows in x
        if not active.any():
            break
        image = apply(direction)
        curvature = inner(direction, image, batch_dims)
        active = active & ~(curvature <= 0.0)
        step = torch.where(active, square / torch.where(active, curvature, 1.0), 0.0)
        x = x + step * direction
        residual = residual - step * image
        last, square = square, inner(residual, residual, batch_dims)
        momentum = torch.where(active, square / torch.where(active, last, 1.0), 0.0)
        direction = residual + momentum * direction
    return x


def inner(a: Tensor, b: Tensor, batch_dims: int) -> Tensor:
    """The inner product of each batch element, shaped [*batch, 1, ...] so that it meets a again."""
    batch, event = a.shape[:batch_dims], a.shape[batch_dims:]
    total = (a * b).reshape(*batch, math.prod(event)).sum(-1)
    return total.reshape(*batch, *(1 for _ in event))
