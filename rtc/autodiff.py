"""torch.func.vjp that also works under torch.inference_mode with every PyTorch that we support."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor


def vjp(function: Callable[..., Any], *primals: Tensor) -> tuple[Any, Callable[..., tuple[Tensor, ...]]]:
    """function(*primals), and cotangents -> J^T cotangents, one for each primal.

    PyTorch before 2.11 answers torch.func.vjp under inference_mode with zeros and without a word; there this
    steps out of that mode for as long as derivatives are wanted.
    """
    if not (torch.is_inference_mode_enabled() and _inference_mode_hides_derivatives()):
        value, pullback, *_ = torch.func.vjp(function, *primals)
        return value, pullback
    pullback: Any
    graph = torch.is_grad_enabled()  # leaving inference_mode would switch gradients on
    with torch.inference_mode(False), torch.set_grad_enabled(graph):
        value, pullback, *_ = torch.func.vjp(function, *(primal.clone() for primal in primals))

    def outside(*cotangents: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode(False), torch.set_grad_enabled(graph):
            return pullback(*(cotangent.clone() for cotangent in cotangents))

    return value, outside


@cache
def _inference_mode_hides_derivatives() -> bool:
    """Ask this PyTorch: the derivative of x^2 at 1 is 2."""
    with torch.inference_mode():
        one = torch.ones(())
        _, pullback, *_ = torch.func.vjp(torch.square, one)
        return pullback(one)[0].item() != 2.0
