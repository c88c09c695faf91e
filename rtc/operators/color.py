"""Operators that mix channels: colourisation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from rtc.errors import InvalidArgument
from rtc.operators.spectral import Spectral
from rtc.operators.svd import SVD, Constant

LUMA = (0.299, 0.587, 0.114)
"""The weights of red, green and blue in grey. Source: ITU-R BT.601, section 2.5.1."""


class Grayscale(Spectral):
    """The weighted sum of the channels of an event [channels, ...]: y is [1, ...]; A A^T = norm(weights)^2 I.

    Raises InvalidArgument unless there is one weight per channel, not all 0.
    """

    def __init__(self, event: Sequence[int], weights: Sequence[float] = LUMA) -> None:
        if not event or len(weights) != event[0] or not any(weights):
            raise InvalidArgument(
                f"there are {len(weights)} weights for an event of shape {list(event)}; give one per channel "
                "[channels, ...], not all 0."
            )
        self.event_in, self.event_out = tuple(event), (1, *event[1:])
        row = torch.tensor([list(weights)], dtype=torch.float64)
        self.gram = float(row.square().sum())
        self._row = Constant(row)

    def _forward(self, x: Tensor) -> Tensor:
        return self._mix(self._row.like(x), x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._mix(self._row.like(y).T, y)

    def _mix(self, matrix: Tensor, x: Tensor) -> Tensor:
        """Matrix [out, in] applied to the channels of x."""
        axis = -len(self.event_in)
        return (x.movedim(axis, -1) @ matrix.T).movedim(-1, axis)

    @cached_property
    def _svd(self) -> SVD:
        left, singular, right_t = torch.linalg.svd(self._row.like(torch.zeros((), dtype=torch.float64)))
        sign, basis = float(left), Constant(right_t)
        channels = self.event_in[0]
        values = torch.zeros(self.event_in, dtype=torch.float64)
        values[0] = singular
        axis = -len(self.event_in)

        def v_t(x: Tensor) -> Tensor:
            return self._mix(basis.like(x), x).flatten(axis)

        def v(coordinates: Tensor) -> Tensor:
            spectrum = coordinates.unflatten(-1, self.event_in)
            return self._mix(basis.like(spectrum).T, spectrum)

        def u_t(y: Tensor) -> Tensor:
            unseen = torch.zeros_like(y).expand(*y.shape[: y.ndim + axis], channels - 1, *self.event_in[1:])
            return torch.cat((sign * y, unseen), dim=axis).flatten(axis)

        def u(coordinates: Tensor) -> Tensor:
            return sign * coordinates.unflatten(-1, self.event_in).narrow(axis, 0, 1)

        return SVD(values.reshape(-1), v_t, v, u_t, u)
