"""Operators that measure a few sums of all values: compressed sensing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Generator, Tensor

from rtc.errors import InvalidArgument
from rtc.operators.masks import Mask
from rtc.operators.spectral import Spectral
from rtc.operators.svd import SVD, Constant, flatten, unflatten


class Hadamard(Spectral):
    """Random rows of the Hadamard transform of randomly signed data: y [*batch, m], A A^T = I.

    fraction: m as a part of the n data values, in (0, 1]; rounded, and at least one.

    Where n = 2^k q with q odd > 1 there is no fast Hadamard matrix: it is then the Kronecker product of that
    of order 2^k with the Hartley matrix (cos + sin, a real form of Fourier's) of order q, so that every n is
    served without padding. Takes n log n operations. Raises InvalidArgument for another fraction.
    """

    gram = 1.0

    def __init__(self, event: Sequence[int], fraction: float, generator: Generator | None = None) -> None:
        if not 0.0 < fraction <= 1.0:
            raise InvalidArgument(f"fraction is {fraction}; the number of sums as a part of n is in (0, 1].")
        size = math.prod(event)
        self._rows = Mask.random((1, size), fraction, generator)
        self.event_in, self.event_out = tuple(event), self._rows.event_out
        self._signs = Constant(2.0 * torch.randint(2, (size,), generator=generator).double() - 1.0)

    def _forward(self, x: Tensor) -> Tensor:
        return self._select(self._v_t(x))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._v(self._place(y))

    def _v_t(self, x: Tensor) -> Tensor:
        return transform(flatten(x, self.event_in) * self._signs.like(x))

    def _v(self, coordinates: Tensor) -> Tensor:
        return unflatten(transform(coordinates) * self._signs.like(coordinates), self.event_in)

    def _select(self, coordinates: Tensor) -> Tensor:
        return self._rows.forward(coordinates.unsqueeze(-2))

    def _place(self, y: Tensor) -> Tensor:
        return self._rows.adjoint(y).squeeze(-2)

    @cached_property
    def _svd(self) -> SVD:
        values = self._place(torch.ones(self.event_out, dtype=torch.float64))
        return SVD(values, self._v_t, self._v, self._place, self._select)


def transform(x: Tensor) -> Tensor:
    """The orthonormal transform of the last axis, of length 2^k q: Hadamard of order 2^k times Hartley of q.

    Symmetric, and its own inverse.
    """
    size = x.shape[-1]
    power = size & -size  # the lowest bit that is set
    x = x.unflatten(-1, (power, size // power))
    if size > power:
        spectrum = torch.fft.fft(x, norm="ortho")
        x = spectrum.real - spectrum.imag
    step = 1
    while step < power:
        even, odd = x.unflatten(-2, (-1, 2, step)).unbind(-3)
        x = torch.stack((even + odd, even - odd), dim=-3).flatten(-4, -2)
        step *= 2
    return x.flatten(-2) / math.sqrt(power)
