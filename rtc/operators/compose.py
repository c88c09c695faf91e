"""One operator after another."""

from __future__ import annotations

from torch import Tensor

from rtc.errors import InvalidArgument
from rtc.operators.base import Operator


class Compose(Operator):
    """A = outer inner: inner first, as in `outer.forward(inner.forward(x))`.

    Solved by conjugate gradients, unless both have a gram, as it then has. Its SVD is a dense one. Raises
    InvalidArgument if outer does not take what inner gives.
    """

    def __init__(self, outer: Operator, inner: Operator) -> None:
        if outer.event_in != inner.event_out:
            raise InvalidArgument(
                f"{outer!r} does not take what {inner!r} gives; the two shapes must be equal."
            )
        self.outer, self.inner = outer, inner
        self.event_in, self.event_out = inner.event_in, outer.event_out
        self.like = inner.like if outer.like is None else outer.like
        if outer.gram is not None and inner.gram is not None:
            self.gram = outer.gram * inner.gram

    def __repr__(self) -> str:
        return f"Compose({self.outer!r}, {self.inner!r})"

    def _forward(self, x: Tensor) -> Tensor:
        return self.outer.forward(self.inner.forward(x))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.inner.adjoint(self.outer.adjoint(y))
