"""Measurements: what is known about the clean data, how well, and which way an estimate should move.

With x1 | x ~ N(x1_hat, r2 I) and y = A x1 + noise, the mean of x1 given y as well is x1_hat plus

    pull = r2 A^T (r2 A A^T + noise_variance I)^-1 (y - A x1_hat)

(Song et al. 2023; Pokle et al. 2024, alg. 3; docs/math.md eq. 3.3). Robots and images differ only here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from rtc.errors import InvalidArgument
from rtc.path import Time


@runtime_checkable
class Measurement(Protocol):
    """Something known about the clean data."""

    def pull(self, x1_hat: Float[Tensor, "*shape"], r2: Time) -> Float[Tensor, "*shape"]:
        """The shift of x1_hat asked for; r2 > 0, broadcastable to x1_hat, is the variance of x1 about it."""
        ...


@runtime_checkable
class Likelihood(Protocol):
    """Something known about the clean data, said as a density: for gradients, particles, energies."""

    def log_likelihood(self, x1: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """log p(y | x1), up to a constant, for each element of the batch; differentiable in x1."""
        ...


@runtime_checkable
class LinearOperator(Protocol):
    """A linear map A from data [*batch, *event] to observations, and the one inverse that guidance needs.

    The operators that the library offers are in rtc/operators. A nonlinear one stands in by `linearised`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """A x."""
        ...

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y."""
        ...

    def solve(self, residual: Tensor, r2: Time, noise_variance: Time) -> Tensor:
        """(r2 A A^T + noise_variance I)^-1 residual; the pseudo-inverse where it is singular."""
        ...


@runtime_checkable
class NonlinearOperator(Protocol):
    """A differentiable map from data to observations."""

    def forward(self, x: Tensor) -> Tensor:
        """A(x)."""
        ...

    def linearised(self, x: Tensor) -> LinearOperator:
        """Its derivative at x, as a linear operator."""
        ...


@dataclass(frozen=True, eq=False)
class LinearMeasurement:
    """y = A x1 + N(0, noise_variance I), for any operator A; a nonlinear one is linearised at each estimate.

    y: like A x1, or with fewer or single batch dimensions that broadcast to it.
    noise_variance: sigma_y^2 >= 0, one number or one for each value of y. Raises InvalidArgument for a
    negative one.
    """

    operator: LinearOperator | NonlinearOperator
    y: Float[Tensor, "..."]
    noise_variance: Time = 0.0

    def __post_init__(self) -> None:
        if not torch.all(torch.as_tensor(self.noise_variance) >= 0.0):
            raise InvalidArgument(f"noise_variance is {self.noise_variance}; a variance is at least 0.")

    def residual(self, x1_hat: Float[Tensor, "*shape"]) -> Tensor:
        """y - A x1_hat. Raises InvalidArgument if the two do not fit."""
        observed = self.operator.forward(x1_hat)
        if not _broadcasts(self.y.shape, observed.shape):
            raise InvalidArgument(
                f"y has shape {tuple(self.y.shape)}, but the operator maps {tuple(x1_hat.shape)} to "
                f"{tuple(observed.shape)}; measure an image of that shape with that operator."
            )
        return self.y.to(x1_hat) - observed

    def noise_variance_like(self, values: Tensor) -> Tensor:
        """noise_variance as a tensor of the dtype and device of `values`."""
        return torch.as_tensor(self.noise_variance, dtype=values.dtype, device=values.device)

    def linear_operator(self, x1_hat: Float[Tensor, "*shape"]) -> LinearOperator:
        """A, or its derivative at x1_hat."""
        operator = self.operator
        return operator.linearised(x1_hat) if isinstance(operator, NonlinearOperator) else operator

    def pull(self, x1_hat: Float[Tensor, "*shape"], r2: Time) -> Float[Tensor, "*shape"]:
        """r2 A^T (r2 A A^T + noise_variance I)^-1 (y - A x1_hat)."""
        operator = self.linear_operator(x1_hat)
        return r2 * operator.adjoint(operator.solve(self.residual(x1_hat), r2, self.noise_variance))

    def log_likelihood(self, x1: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """log N(y; A x1, noise_variance I). Raises InvalidArgument without noise, where it has no density."""
        variance = self.noise_variance_like(x1)
        if not torch.all(variance > 0.0):
            raise InvalidArgument("noise_variance is 0, so that y has no density; give a positive one.")
        square = self.residual(x1).square() / variance + (2.0 * math.pi * variance).log()
        return -0.5 * square.flatten(1).sum(1)


@dataclass(frozen=True, eq=False)
class Energy:
    """A likelihood exp(-energy(x1)), for whatever can be said as a differentiable number per element.

    energy: [batch, *event] -> [batch]. For a nonlinear measurement norm(y - A(x1))^2 / (2 sigma_y^2), say.
    """

    energy: Callable[[Tensor], Tensor]

    def log_likelihood(self, x1: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """-energy(x1)."""
        return -self.energy(x1)


def _broadcasts(small: torch.Size, large: torch.Size) -> bool:
    if len(small) > len(large):
        return False
    return all(a in (1, b) for a, b in zip(reversed(small), reversed(large), strict=False))


@dataclass(frozen=True, eq=False)
class SoftMask:
    """The chunk is known to be `target`, action by action, as firmly as `weights` says.

    ```
    weights   1  1  .49 .19 .04  0  0  0        1 frozen, between blended, 0 free
    target    a2 a3 a4  a5  a6  a7  -  -        the previous chunk, shifted; `-` is padding and never read
    ```

    target: [*batch, horizon, action_dim]. weights: [horizon], or [*batch, horizon], each in [0, 1].
    Raises InvalidArgument for other shapes or weights.

    It is LinearMeasurement with A = I and the noise variance r2 (1/W - 1) for each action, since
    r2 / (r2 + r2 (1/W - 1)) = W; written out, because W = 0 (infinite noise) and W = 1 (none) are then exact.
    Source: Black et al. 2025, eq. 2; docs/math.md eq. 3.5.
    """

    target: Float[Tensor, "..."]
    weights: Float[Tensor, "..."]

    def __post_init__(self) -> None:
        target, weights = tuple(self.target.shape), tuple(self.weights.shape)
        if len(target) < 2:
            raise InvalidArgument(f"target has shape {target}; it must be [*batch, horizon, action_dim].")
        if weights not in (target[-2:-1], target[:-1]):
            raise InvalidArgument(
                f"weights have shape {weights}; a target of shape {target} needs one weight per action: "
                f"{target[-2:-1]} or {target[:-1]}."
            )
        if not torch.all((self.weights >= 0.0) & (self.weights <= 1.0)):
            low, high = self.weights.min(), self.weights.max()
            raise InvalidArgument(f"weights range from {low:g} to {high:g}; they must lie in [0, 1].")

    def pull(self, x1_hat: Float[Tensor, "*shape"], r2: Time) -> Float[Tensor, "*shape"]:
        """W (target - x1_hat) for x1_hat [*batch, horizon, action_dim]; r2 cancels."""
        if x1_hat.shape[-2:] != self.target.shape[-2:]:
            raise InvalidArgument(
                f"the chunk has shape {tuple(x1_hat.shape)} but the target {tuple(self.target.shape)}; "
                "horizon and action_dim must be equal."
            )
        weights = self.weights.to(x1_hat).unsqueeze(-1)
        return torch.where(weights > 0.0, weights * (self.target.to(x1_hat) - x1_hat), 0.0)
