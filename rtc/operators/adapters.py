"""Operators from and for deepinv: `A, A_adjoint, A_dagger` on images [batch, channels, height, width]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rtc.errors import Unsupported
from rtc.operators.base import Operator
from rtc.operators.function import Linear, Nonlinear, batched


def from_deepinv(physics: Any, event: Sequence[int], *, like: Tensor | None = None) -> Operator | Nonlinear:
    """A deepinv physics as an operator; one without an adjoint as a Nonlinear. Its noise model is left out.

    event: [channels, height, width]. like: a tensor of its dtype and device (float32 on the CPU). Its masks
    give whole images, 0 where nothing is seen: leave those values without noise, or take our Mask.
    Raises Unsupported for measurements that are not one tensor.
    """
    like = torch.zeros((), dtype=torch.float32) if like is None else like
    if not isinstance(physics.A(like.new_zeros(1, *event)), Tensor):
        raise Unsupported(f"{type(physics).__name__} gives no single tensor; wrap its parts one by one.")
    if not hasattr(physics, "A_adjoint"):
        return Nonlinear(physics.A, event, like)
    return _Physics(physics, event, like)


class _Physics(Linear):
    def __init__(self, physics: Any, event: Sequence[int], like: Tensor) -> None:
        super().__init__(physics.A, event, like)
        self._physics = physics

    def __repr__(self) -> str:
        return f"{type(self._physics).__name__}({list(self.event_in)} -> {list(self.event_out)})"

    def _adjoint(self, y: Tensor) -> Tensor:
        return batched(self._physics.A_adjoint, y, self.event_out)

    def _pinv(self, y: Tensor) -> Tensor:
        return batched(self._physics.A_dagger, y, self.event_out)


def to_deepinv(operator: Operator) -> Any:
    """The operator as a deepinv LinearPhysics, without noise. Needs deepinv (the extra `rtc[peers]`)."""
    from deepinv.physics import LinearPhysics  # pyright: ignore[reportMissingImports]

    return LinearPhysics(
        A=lambda x, **_: operator.forward(x),
        A_adjoint=lambda y, **_: operator.adjoint(y),
        img_size=operator.event_in,
    )
