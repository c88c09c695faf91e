"""Is an operator what it says? For those who write their own."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from rtc.operators.base import Operator


def dot_test(operator: Operator, generator: Generator | None = None, *, like: Tensor | None = None) -> float:
    """How far the adjoint is from A^T: |<A x, y> - <x, A^T y>| / (norm(A x) norm(y)) for random x and y.

    At the level of rounding for an operator that is right (about 1e-16 in float64); far above it for one
    that is not: compare with 1e-10, say. like: a tensor of the dtype and device to use; if not given the
    operator's own, or float64 on the CPU.
    """
    like = operator.like if like is None else like
    like = torch.zeros((), dtype=torch.float64) if like is None else like
    x, y = (
        torch.randn(event, generator=generator).to(like) for event in (operator.event_in, operator.event_out)
    )
    with torch.no_grad():
        seen, back = operator.forward(x), operator.adjoint(y)
    mismatch = (seen * y).sum() - (x * back).sum()
    return float(mismatch.abs() / (seen.norm() * y.norm()))
