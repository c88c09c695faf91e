"""Operators that make an image smaller: super-resolution."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from rtc.errors import InvalidArgument
from rtc.operators.masks import image_size
from rtc.operators.spectral import Spectral
from rtc.operators.svd import SVD, Constant, significant

FILTERS = ("average", "bicubic")


class Downsample(Spectral):
    """An image [*channels, height, width] made smaller by a whole factor, channel by channel.

    filter: "average" is the mean of each factor x factor block, where A A^T = I / factor^2; "bicubic" is
    antialiased as imaging programs do it. Both are one matrix along each axis, y = H x W^T, and so is the
    SVD. Raises InvalidArgument for another filter, or if the factor does not divide height and width.
    """

    def __init__(self, event: Sequence[int], factor: int, filter: str = "average") -> None:
        if filter not in FILTERS:
            raise InvalidArgument(f"filter is {filter!r}; choose one of {', '.join(FILTERS)}.")
        size = image_size(event)
        if factor < 1 or any(length % factor for length in size):
            raise InvalidArgument(
                f"factor is {factor}, which does not divide an image of {size[0]} x {size[1]}; crop it first."
            )
        self.event_in = tuple(event)
        self.event_out = (*event[:-2], *(length // factor for length in size))
        matrix = average_matrix if filter == "average" else bicubic_matrix
        self._matrices = [matrix(length, factor) for length in size]
        self._rows, self._columns = map(Constant, self._matrices)
        if filter == "average":
            self.gram = 1.0 / factor**2

    def _forward(self, x: Tensor) -> Tensor:
        return self._rows.like(x) @ x @ self._columns.like(x).T

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._rows.like(y).T @ y @ self._columns.like(y)

    @cached_property
    def _svd(self) -> SVD:
        (left_h, values_h, right_h), (left_w, values_w, right_w) = map(torch.linalg.svd, self._matrices)
        seen = significant(torch.outer(values_h, values_w), self.rank_tolerance)
        (height, width), (small_h, small_w) = self.event_in[-2:], self.event_out[-2:]

        def enlarge(y: Tensor) -> Tensor:
            return pad(y, (0, width - small_w, 0, height - small_h))

        left_h, left_w, right_h, right_w = map(Constant, (left_h, left_w, right_h, right_w))
        seen_mask = Constant((seen > 0.0).double())

        def v_t(x: Tensor) -> Tensor:
            return (right_h.like(x) @ x @ right_w.like(x).T).flatten(-len(self.event_in))

        def v(coordinates: Tensor) -> Tensor:
            spectrum = coordinates.unflatten(-1, self.event_in)
            return right_h.like(spectrum).T @ spectrum @ right_w.like(spectrum)

        def u_t(y: Tensor) -> Tensor:
            spectrum = left_h.like(y).T @ y @ left_w.like(y)
            return enlarge(spectrum * seen_mask.like(y)).flatten(-len(self.event_in))

        def u(coordinates: Tensor) -> Tensor:
            spectrum = coordinates.unflatten(-1, self.event_in)[..., :small_h, :small_w]
            return left_h.like(spectrum) @ (spectrum * seen_mask.like(spectrum)) @ left_w.like(spectrum).T

        values = enlarge(seen).expand(self.event_in).reshape(-1)
        return SVD(values, v_t, v, u_t, u)


def average_matrix(size: int, factor: int) -> Float[Tensor, "small size"]:
    """The means of `factor` neighbours along one axis."""
    return torch.eye(size // factor, dtype=torch.float64).repeat_interleave(factor, dim=1) / factor


def bicubic_matrix(size: int, factor: int) -> Float[Tensor, "small size"]:
    """The cubic kernel with a = -1/2, widened by the factor; each row sums to 1, at the borders as well.

    Source: Keys 1981, eq. 15; widened and renormalised, as is usual, against aliasing.
    """
    centres = (torch.arange(size // factor, dtype=torch.float64) + 0.5) * factor - 0.5
    distance = (torch.arange(size, dtype=torch.float64) - centres[:, None]).abs() / factor
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1.0
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4.0 * distance + 2.0
    weights = torch.where(distance <= 1.0, near, torch.where(distance < 2.0, far, 0.0))
    return weights / weights.sum(1, keepdim=True)
