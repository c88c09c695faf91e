"""A linear operator given as a matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from rtc.errors import InvalidArgument
from rtc.operators.spectral import Spectral
from rtc.operators.svd import RANK_TOLERANCE, SVD, Constant, dense_svd, flatten, unflatten


class Matrix(Spectral):
    """y = A x for a matrix A [m, n] and data [*batch, *event] of n values; y is [*batch, m].

    event: the shape of one data element, (n,) if not given. rank_tolerance: in [0, 1), singular values at or
    below this part of the largest count as 0. The decomposition is made once, at the first use.
    Raises InvalidArgument for an event of another size, or a matrix that is not finite.
    """

    def __init__(
        self,
        matrix: Float[Tensor, "m n"],
        event: Sequence[int] | None = None,
        rank_tolerance: float = RANK_TOLERANCE,
    ) -> None:
        rows, columns = matrix.shape
        self.event_in, self.event_out = (columns,) if event is None else tuple(event), (rows,)
        if math.prod(self.event_in) != columns:
            raise InvalidArgument(
                f"the matrix has {columns} columns, but an event of shape {list(self.event_in)} has "
                f"{math.prod(self.event_in)} values; they must be equal."
            )
        if not torch.isfinite(matrix).all():
            raise InvalidArgument("the matrix has entries that are not finite; give numbers.")
        if not 0.0 <= rank_tolerance < 1.0:
            raise InvalidArgument(f"rank_tolerance is {rank_tolerance}; it must be in [0, 1).")
        self.rank_tolerance = rank_tolerance
        self._matrix, self._original = Constant(matrix), matrix

    def _forward(self, x: Tensor) -> Tensor:
        return flatten(x, self.event_in) @ self._matrix.like(x).T

    def _adjoint(self, y: Tensor) -> Tensor:
        return unflatten(y @ self._matrix.like(y), self.event_in)

    @cached_property
    def _svd(self) -> SVD:
        return dense_svd(self._original, self.event_in, self.event_out, self.rank_tolerance)
