"""Singular value decompositions as functions, and the two small tools that operators share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

RANK_TOLERANCE = 1e-6
"""Singular values at or below this part of the largest count as 0: float32 cannot tell them from rounding."""


@dataclass(frozen=True, eq=False)
class SVD:
    """A = U diag(values) V^T, with U and V as functions; one coordinate for each of the n data values.

    values: [n] >= 0, float64 on the CPU (`values.to(x)` brings them to x); 0 where nothing is observed.
    v_t: x -> V^T x [*batch, n], and v back: V is orthogonal.
    u_t: y -> U^T y [*batch, n], laid at the coordinate that it measures, 0 where values are 0; u back.

    A x = u(values * v_t(x)), A^+ y = v(u_t(y) / values) where values > 0.
    """

    values: Float[Tensor, " n"]
    v_t: Callable[[Tensor], Tensor]
    v: Callable[[Tensor], Tensor]
    u_t: Callable[[Tensor], Tensor]
    u: Callable[[Tensor], Tensor]


class Constant:
    """A tensor that follows the device of others, and their precision unless it is a mask or an index."""

    def __init__(self, value: Tensor) -> None:
        with torch.inference_mode(False):  # and so is this, or the tensor could not be used with autograd
            self._value = self._copy = value.clone().detach()

    def like(self, x: Tensor) -> Tensor:
        """The tensor beside x. The last copy is kept."""
        dtype = self._value.dtype
        if dtype.is_floating_point:
            dtype = x.dtype
        elif dtype.is_complex:
            dtype = x.dtype.to_complex()
        if (self._copy.dtype, self._copy.device) != (dtype, x.device):
            with torch.inference_mode(False):
                self._copy = self._value.to(device=x.device, dtype=dtype)
        return self._copy


def divide(numerator: Tensor, denominator: float | Tensor) -> Tensor:
    """numerator / denominator, and 0 where the denominator is 0: the pseudo-inverse of a diagonal."""
    if not isinstance(denominator, Tensor):
        return torch.zeros_like(numerator) if denominator == 0.0 else numerator / denominator
    zero = denominator == 0.0
    return torch.where(zero, 0.0, numerator / torch.where(zero, 1.0, denominator))


def significant(values: Tensor, tolerance: float = RANK_TOLERANCE) -> Tensor:
    """Singular values with those at or below tolerance times the largest set to 0."""
    return torch.where(values > tolerance * values.max(), values, 0.0)


def dense_svd(
    matrix: Float[Tensor, "m n"],
    event_in: tuple[int, ...],
    event_out: tuple[int, ...],
    tolerance: float = RANK_TOLERANCE,
) -> SVD:
    """The decomposition of a dense matrix, in float64: of order m n (m + n) operations, n^2 + m^2 memory."""
    left, diagonal, right_t = torch.linalg.svd(matrix.detach().double().cpu())
    size, count = matrix.shape[1], len(diagonal)
    values = torch.zeros(size, dtype=torch.float64)
    values[:count] = significant(diagonal, tolerance)
    rank = int((values > 0.0).sum())  # they fall: the first `rank` are positive
    right_t, left = Constant(right_t), Constant(left[:, :rank])

    def v_t(x: Tensor) -> Tensor:
        return flatten(x, event_in) @ right_t.like(x).T

    def v(coordinates: Tensor) -> Tensor:
        return unflatten(coordinates @ right_t.like(coordinates), event_in)

    def u_t(y: Tensor) -> Tensor:
        return torch.nn.functional.pad(flatten(y, event_out) @ left.like(y), (0, size - rank))

    def u(coordinates: Tensor) -> Tensor:
        return unflatten(coordinates[..., :rank] @ left.like(coordinates).T, event_out)

    return SVD(values, v_t, v, u_t, u)


def flatten(x: Tensor, event: tuple[int, ...]) -> Tensor:
    """[*batch, *event] -> [*batch, size]."""
    return x.flatten(x.ndim - len(event))


def unflatten(x: Tensor, event: tuple[int, ...]) -> Tensor:
    """[*batch, size] -> [*batch, *event]."""
    return x.unflatten(-1, event)
