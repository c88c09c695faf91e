"""Operators that keep some values and drop the others: inpainting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Shaped
from torch import Generator, Tensor

from rtc.errors import InvalidArgument
from rtc.operators.spectral import Spectral
from rtc.operators.svd import SVD, Constant, flatten, unflatten

HALVES = ("left", "right", "top", "bottom")


class Identity(Spectral):
    """A = I: everything is observed (denoising). event: the shape of one data element."""

    gram = 1.0

    def __init__(self, event: Sequence[int]) -> None:
        self.event_in = self.event_out = tuple(event)

    def _forward(self, x: Tensor) -> Tensor:
        return x

    def _adjoint(self, y: Tensor) -> Tensor:
        return y

    @cached_property
    def _svd(self) -> SVD:
        def to_vector(x: Tensor) -> Tensor:
            return flatten(x, self.event_in)

        def to_data(coordinates: Tensor) -> Tensor:
            return unflatten(coordinates, self.event_in)

        ones = torch.ones(math.prod(self.event_in), dtype=torch.float64)
        return SVD(ones, to_vector, to_data, to_vector, to_data)


class Mask(Spectral):
    """Keeps the values of x [*batch, *event] where mask is 1: y [*batch, m] is the vector of those values.

    Only what was seen is in y, so noise and likelihood count m values; `picture(y)` puts them back in their
    places, 0 elsewhere, and pinv and adjoint do the same.

    mask: bool, or numbers that are 0 or 1; shaped like the event, or `event` is given and mask broadcasts to
    it ([height, width] for every channel). Raises InvalidArgument for other values, and if all are 0.
    """

    gram = 1.0

    def __init__(self, mask: Shaped[Tensor, "..."], event: Sequence[int] | None = None) -> None:
        self.event_in = tuple(mask.shape) if event is None else tuple(event)
        if not torch.all((mask == 0) | (mask == 1)):
            raise InvalidArgument("a mask has values other than 0 and 1; give 1 where the data is seen.")
        try:
            seen = mask.bool().broadcast_to(self.event_in)
        except RuntimeError as error:
            raise InvalidArgument(
                f"the mask has shape {tuple(mask.shape)}, which does not broadcast to {self.event_in}."
            ) from error
        if not seen.any():
            raise InvalidArgument("the mask is 0 everywhere: nothing is seen; give 1 where the data is seen.")
        index = seen.reshape(-1).nonzero()[:, 0]
        self._index, self.event_out = Constant(index), (len(index),)

    @classmethod
    def box(
        cls, event: Sequence[int], height: int, width: int, top: int | None = None, left: int | None = None
    ) -> Mask:
        """All but a box of height x width pixels, its corner at (top, left), in the middle if not given.

        Raises InvalidArgument unless the box lies within the image.
        """
        rows, columns = image_size(event)
        top = (rows - height) // 2 if top is None else top
        left = (columns - width) // 2 if left is None else left
        if not (0 <= top < top + height <= rows and 0 <= left < left + width <= columns):
            raise InvalidArgument(
                f"a box of {height} x {width} at ({top}, {left}) leaves an image of {rows} x {columns}."
            )
        mask = torch.ones(rows, columns, dtype=torch.bool)
        mask[top : top + height, left : left + width] = False
        return cls(mask, event)

    @classmethod
    def random(
        cls,
        event: Sequence[int],
        fraction: float,
        generator: Generator | None = None,
        *,
        per_channel: bool = False,
    ) -> Mask:
        """That fraction, in (0, 1], of the pixels, drawn without replacement; rounded, and at least one.

        The same pixels in every channel, or with per_channel the fraction of all values of the event.
        """
        if not 0.0 < fraction <= 1.0:
            raise InvalidArgument(f"fraction is {fraction}; the part of the pixels seen is in (0, 1].")
        shape = tuple(event) if per_channel else image_size(event)
        size = math.prod(shape)
        mask = torch.zeros(size, dtype=torch.bool)
        mask[torch.randperm(size, generator=generator)[: max(1, round(fraction * size))]] = True
        return cls(mask.reshape(shape), event)

    @classmethod
    def half(cls, event: Sequence[int], seen: str = "left") -> Mask:
        """One half of the image: "left", "right", "top" or "bottom"; with the middle line of an odd size."""
        if seen not in HALVES:
            raise InvalidArgument(f"seen is {seen!r}; choose one of {', '.join(HALVES)}.")
        rows, columns = image_size(event)
        mask = torch.zeros(rows, columns, dtype=torch.bool)
        lines = mask if seen in ("top", "bottom") else mask.T
        lines[: (len(lines) + 1) // 2] = True
        return cls(mask.flip((0, 1)) if seen in ("right", "bottom") else mask, event)

    @classmethod
    def channels(cls, event: Sequence[int], seen: Sequence[int]) -> Mask:
        """The channels in `seen`, of an event [channels, ...]."""
        if not all(0 <= channel < event[0] for channel in seen):
            raise InvalidArgument(f"seen is {list(seen)}; there are channels 0 to {event[0] - 1}.")
        mask = torch.zeros(tuple(event), dtype=torch.bool)
        mask[list(seen)] = True
        return cls(mask)

    def _forward(self, x: Tensor) -> Tensor:
        return self._select(flatten(x, self.event_in))

    def _adjoint(self, y: Tensor) -> Tensor:
        return unflatten(self._place(y), self.event_in)

    def _select(self, values: Tensor) -> Tensor:
        return values.index_select(-1, self._index.like(values))

    def _place(self, y: Tensor) -> Tensor:
        zeros = y.new_zeros((*y.shape[:-1], math.prod(self.event_in)))
        return zeros.index_copy(-1, self._index.like(y), y)

    @cached_property
    def _svd(self) -> SVD:
        values = self._place(torch.ones(self.event_out, dtype=torch.float64))
        return SVD(
            values,
            lambda x: flatten(x, self.event_in),
            lambda coordinates: unflatten(coordinates, self.event_in),
            self._place,
            self._select,
        )


def image_size(event: Sequence[int]) -> tuple[int, int]:
    """Height and width of an event [*channels, height, width]. Raises InvalidArgument for fewer axes."""
    if len(event) < 2:
        raise InvalidArgument(f"the event has shape {list(event)}; an image is [*channels, height, width].")
    return int(event[-2]), int(event[-1])
