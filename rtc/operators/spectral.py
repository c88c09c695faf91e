"""Operators that know their singular values: every inverse is a division of coordinates."""

from __future__ import annotations

import math
from functools import cached_property

from torch import Tensor

from rtc.operators.base import Operator
from rtc.operators.svd import RANK_TOLERANCE, Constant, divide
from rtc.path import Time


class Spectral(Operator):
    """An operator whose subclass gives `_svd`.

    rank_tolerance: singular values at or below this part of the largest count as 0, in svd, pinv and solve.
    """

    rank_tolerance: float = RANK_TOLERANCE

    def _pinv(self, y: Tensor) -> Tensor:
        if self.gram is not None:
            return super()._pinv(y)
        svd = self.svd()
        return svd.v(divide(svd.u_t(y), self._values.like(y)))

    def _solve_uniform(self, residual: Tensor, r2: Time, noise: Time) -> Tensor:
        svd, batch_dims = self.svd(), residual.ndim - len(self.event_out)
        variance = _on_coordinates(r2, batch_dims) * self._values.like(residual) ** 2
        coordinates = divide(svd.u_t(residual), variance + _on_coordinates(noise, batch_dims))
        if self._full_rank:
            return svd.u(coordinates)
        outside = residual - svd.u(svd.u_t(residual))
        outside = outside - svd.u(svd.u_t(outside))  # twice: else rounding is divided by a small noise
        return svd.u(coordinates) + divide(outside, noise)

    @cached_property
    def _values(self) -> Constant:
        return Constant(self.svd().values)

    @cached_property
    def _full_rank(self) -> bool:
        return int((self.svd().values > 0.0).sum()) == math.prod(self.event_out)


def _on_coordinates(value: Time, batch_dims: int) -> Time:
    """[*batch, 1, ...] -> [*batch, 1]."""
    return value.flatten(batch_dims) if isinstance(value, Tensor) else value
