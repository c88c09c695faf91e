"""Operators that blur an image: deblurring."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from rtc.errors import InvalidArgument
from rtc.operators.masks import image_size
from rtc.operators.spectral import Spectral
from rtc.operators.svd import RANK_TOLERANCE, SVD, Constant, divide, significant
from rtc.path import Time


class Blur(Spectral):
    """Circular convolution of an image [*channels, height, width] with a kernel, channel by channel.

    kernel: [rows, columns], its centre at (rows // 2, columns // 2); see gaussian, anisotropic and motion. It
    is used as it is (not normalised), and wraps round if it is larger than the image.
    rank_tolerance: in [0, 1). Frequencies that the blur leaves at or below this part of the largest count as
    lost, in svd, pinv and solve; raise it where a method says that the singular values fall too low for it.

    A multiplies the discrete Fourier transform by that of the kernel, K: singular values |K|, the phases of K
    in U, and V the Hartley basis cos + sin, a real orthonormal form of Fourier's. Raises InvalidArgument for
    a kernel that is 0 or not finite.
    """

    def __init__(
        self,
        event: Sequence[int],
        kernel: Float[Tensor, "rows columns"],
        rank_tolerance: float = RANK_TOLERANCE,
    ) -> None:
        height, width = image_size(event)
        if not (torch.isfinite(kernel).all() and kernel.any()):
            raise InvalidArgument(
                "the kernel is 0 everywhere, or not finite: no image can be had through it."
            )
        if not 0.0 <= rank_tolerance < 1.0:
            raise InvalidArgument(f"rank_tolerance is {rank_tolerance}; it must be in [0, 1).")
        self.event_in = self.event_out = tuple(event)
        self.rank_tolerance = rank_tolerance
        spectrum = torch.fft.fft2(_wrapped(kernel.double().cpu(), height, width))
        self._singular = significant(spectrum.abs(), rank_tolerance)  # [height, width], like fft2
        half = width // 2 + 1  # what rfft2 keeps
        spectrum, seen = spectrum[:, :half], self._singular[:, :half]
        self._transfer = Constant(spectrum)
        self._phase = Constant(torch.where(seen > 0.0, spectrum / spectrum.abs().clamp(min=1e-300), 0.0))
        self._square = Constant(seen**2)

    def _forward(self, x: Tensor) -> Tensor:
        return _filter(x, self._transfer.like(x))

    def _adjoint(self, y: Tensor) -> Tensor:
        return _filter(y, self._transfer.like(y).conj())

    def _pinv(self, y: Tensor) -> Tensor:
        return _filter(y, divide(self._transfer.like(y).conj(), self._square.like(y)))

    def _solve_uniform(self, residual: Tensor, r2: Time, noise: Time) -> Tensor:
        square = self._square.like(residual)
        return _filter(residual, divide(torch.ones_like(square), r2 * square + noise))

    @cached_property
    def _svd(self) -> SVD:
        def v_t(x: Tensor) -> Tensor:
            return _hartley(x).flatten(-len(self.event_in))

        def v(coordinates: Tensor) -> Tensor:
            return _hartley(coordinates.unflatten(-1, self.event_in))

        def u_t(y: Tensor) -> Tensor:
            return v_t(_filter(y, self._phase.like(y).conj()))

        def u(coordinates: Tensor) -> Tensor:
            return _filter(v(coordinates), self._phase.like(coordinates))

        values = self._singular.expand(self.event_in).reshape(-1).clone()
        return SVD(values, v_t, v, u_t, u)


def _filter(x: Tensor, transfer: Tensor) -> Tensor:
    return torch.fft.irfft2(torch.fft.rfft2(x) * transfer, s=x.shape[-2:])


def _hartley(x: Tensor) -> Tensor:
    """Coordinates in the orthonormal basis cos + sin; its own inverse. Source: Bracewell 1983."""
    spectrum = torch.fft.fft2(x, norm="ortho")
    return spectrum.real - spectrum.imag


def _wrapped(kernel: Tensor, height: int, width: int) -> Tensor:
    """The kernel on a torus of height x width, its centre at (0, 0)."""
    rows = (torch.arange(kernel.shape[0]) - kernel.shape[0] // 2) % height
    columns = (torch.arange(kernel.shape[1]) - kernel.shape[1] // 2) % width
    grid = kernel.new_zeros(height, width)
    return grid.index_put((rows[:, None], columns[None, :]), kernel, accumulate=True)
