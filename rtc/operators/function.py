"""Operators made of any differentiable function: adjoints are vector-Jacobian products."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, overload

import torch
from jaxtyping import Float
from torch import Tensor

from rtc.autodiff import vjp
from rtc.errors import InvalidArgument
from rtc.operators.base import Operator

Function = Callable[[Tensor], Tensor]


@overload
def from_function(
    function: Function, event: Sequence[int], linear: Literal[True] = True, *, like: Tensor | None = None
) -> Operator: ...


@overload
def from_function(
    function: Function, event: Sequence[int], linear: Literal[False], *, like: Tensor | None = None
) -> Nonlinear: ...


def from_function(
    function: Function, event: Sequence[int], linear: bool = True, *, like: Tensor | None = None
) -> Operator | Nonlinear:
    """The operator that a function is: linear, its adjoint by VJP, its solves by conjugate gradients.

    function: [batch, *event] -> [batch, *event_out], each element on its own, of torch operations.
    linear: False for a function that is not; it is linearised where a method needs an adjoint.
    like: a tensor whose dtype and device the function takes when it is tried out here (float32 on the CPU).
    Raises InvalidArgument if linear and, tried on random data, the function is not.
    """
    like = torch.zeros((), dtype=torch.float32) if like is None else like
    operator = Linear(function, event, like) if linear else Nonlinear(function, event, like)
    if isinstance(operator, Linear):
        _check_linear(operator, like)
    return operator


class Linear(Operator):
    """A linear function, adjoint by VJP; see from_function, which makes them and checks that it is linear."""

    def __init__(self, function: Function, event: Sequence[int], like: Tensor) -> None:
        self.event_in = tuple(event)
        self.event_out = _event_out(function, self.event_in, like)
        self._function, self.like = function, like

    def _forward(self, x: Tensor) -> Tensor:
        return batched(self._function, x, self.event_in)

    def _adjoint(self, y: Tensor) -> Tensor:
        x = y.new_zeros(y.shape[: y.ndim - len(self.event_out)] + self.event_in)
        _, pullback = vjp(self._forward, x)
        return pullback(y)[0]


class Nonlinear:
    """A function that is not linear; see from_function. For methods that differentiate, or linearise."""

    def __init__(self, function: Function, event: Sequence[int], like: Tensor) -> None:
        self.event_in = tuple(event)
        self.event_out = _event_out(function, self.event_in, like)
        self._function = function

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """A(x), for x [*batch, *event]. Raises InvalidArgument for another shape."""
        if tuple(x.shape[x.ndim - len(self.event_in) :]) != self.event_in or x.ndim < len(self.event_in):
            raise InvalidArgument(f"x has shape {tuple(x.shape)}, but {self!r} takes [*batch, *event].")
        return batched(self._function, x, self.event_in)

    def linearised(self, x: Float[Tensor, "..."]) -> Operator:
        """Its derivative at x, for directions of the shape of x or that x broadcasts to."""
        return Derivative(self.forward, x, self.event_in, self.event_out)

    def __repr__(self) -> str:
        return f"Nonlinear({list(self.event_in)} -> {list(self.event_out)})"


class Derivative(Operator):
    """The derivative of a function at a point [*batch, *event]: forward by JVP, adjoint by VJP."""

    def __init__(
        self, function: Function, point: Tensor, event_in: tuple[int, ...], event_out: tuple[int, ...]
    ) -> None:
        self.event_in, self.event_out = event_in, event_out
        self._function, self._point, self.like = function, point, point.new_zeros(())
        self._batch = point.shape[: point.ndim - len(event_in)]
        self._pullback = vjp(function, point)[1]

    def _forward(self, x: Tensor) -> Tensor:
        point = self._point.to(x).expand_as(x).clone()  # forward mode takes no expanded tensor
        return torch.func.jvp(self._function, (point,), (x,))[1]

    def _adjoint(self, y: Tensor) -> Tensor:
        batch = y.shape[: y.ndim - len(self.event_out)]
        if batch == self._batch and y.dtype == self._point.dtype:
            return self._pullback(y)[0]
        _, pullback = vjp(self._function, self._point.to(y).expand(batch + self.event_in))
        return pullback(y)[0]


def batched(function: Function, x: Tensor, event: tuple[int, ...]) -> Tensor:
    """function, which takes one batch dimension, for any number of them."""
    batch = x.shape[: x.ndim - len(event)]
    y = function(x.reshape(math.prod(batch), *event))
    return y.reshape(batch + y.shape[1:])


def _event_out(function: Function, event: tuple[int, ...], like: Tensor) -> tuple[int, ...]:
    with torch.no_grad():
        y = function(like.new_zeros(2, *event))
    if y.ndim < 2 or y.shape[0] != 2:
        raise InvalidArgument(
            f"the function maps {(2, *event)} to {tuple(y.shape)}; it must keep the batch dimension and "
            "give at least one more: [batch, *event_out]."
        )
    return tuple(y.shape[1:])


def _check_linear(operator: Operator, like: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 1, *operator.event_in, generator=generator, dtype=torch.float64).to(like)
    with torch.no_grad():
        whole = operator.forward(2.0 * a - 3.0 * b)
        parts = 2.0 * operator.forward(a) - 3.0 * operator.forward(b)
    if not (whole - parts).abs().max() <= 1e-3 * parts.abs().max():
        raise InvalidArgument("the function is not linear, tried on random data; give linear=False.")
