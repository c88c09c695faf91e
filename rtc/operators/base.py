"""What every operator is: a linear map A from data to observations, its adjoint and its inverses.

```
x [*batch, *event_in]  ── forward ──►  y = A x [*batch, *event_out]
       A^T y  ◄── adjoint ──  y                         A^+ y  ◄── pinv ──  y
```

A subclass sets event_in and event_out and gives `_forward` and `_adjoint`; everything else has a default that
needs no more: solves by conjugate gradients, an SVD of the dense matrix where that is small.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from rtc.errors import InvalidArgument, Unsupported
from rtc.operators.cg import conjugate_gradients, inner
from rtc.operators.svd import SVD, dense_svd, divide
from rtc.path import Time

DENSE_LIMIT = 1024
"""The largest number of data values for which an operator without an SVD of its own gets a dense one."""

ITERATIONS = 2000
"""Steps after which conjugate gradients are given up."""


class Operator:
    """A linear map from data [*batch, *event_in] to observations [*batch, *event_out].

    It follows the dtype and device of what it is given and is differentiable in it. Each method raises
    InvalidArgument for a tensor of another shape.

    gram: the number c where A A^T = c I, which makes every inverse a division; else None.
    like: a tensor of the only dtype and device that the operator takes; None where it follows its argument.
    """

    event_in: tuple[int, ...]
    event_out: tuple[int, ...]
    gram: float | None = None
    like: Tensor | None = None

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """A x."""
        return self._forward(self._checked(x, self.event_in, "x", "takes"))

    def adjoint(self, y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """A^T y."""
        return self._adjoint(self._checked(y, self.event_out, "y", "gives"))

    def pinv(self, y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """A^+ y: of all x that fit y best, the one of least norm.

        Raises Unsupported where it is found by conjugate gradients and they do not converge.
        """
        return self._pinv(self._checked(y, self.event_out, "y", "gives"))

    def solve(self, residual: Float[Tensor, "..."], r2: Time, noise_variance: Time) -> Float[Tensor, "..."]:
        """(r2 A A^T + noise_variance I)^-1 residual; the pseudo-inverse where it is singular.

        r2: >= 0, one number, or one for each batch element: [*batch], or [*batch, 1, ...] as it meets x.
        noise_variance: >= 0, one number, or a tensor that broadcasts to residual: one for each observation,
        infinite where nothing was seen. Raises Unsupported as pinv does.
        """
        residual = self._checked(residual, self.event_out, "residual", "gives")
        r2, noise = self._r2(r2, residual), self._noise(noise_variance, residual)
        if self.gram is not None:
            return divide(residual, r2 * self.gram + noise)
        if isinstance(noise, Tensor) and any(size > 1 for size in noise.shape[-len(self.event_out) :]):
            return self._solve_iteratively(residual, r2, noise)
        return self._solve_uniform(residual, r2, noise)

    def svd(self) -> SVD:
        """The singular value decomposition. Raises Unsupported where none is known and A is too large."""
        with torch.inference_mode(False):  # it is kept, and may be used with autograd later
            return self._svd

    def dense(self, like: Tensor | None = None) -> Float[Tensor, "m n"]:
        """A as a matrix: m rows for the flattened observations, n columns for the flattened data.

        like: a tensor of its dtype and device; if not given the operator's own, or float64 on the CPU.
        """
        like = self.like if like is None else like
        size = math.prod(self.event_in)
        unit_vectors = torch.eye(size, dtype=torch.float64) if like is None else torch.eye(size).to(like)
        with torch.no_grad():
            return self.forward(unit_vectors.reshape(size, *self.event_in)).reshape(size, -1).T

    def picture(self, y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Something to look at: y where it is laid out like an image, else A^T y."""
        is_image = len(self.event_out) == len(self.event_in) > 1
        return self._checked(y, self.event_out, "y", "gives") if is_image else self.adjoint(y)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self.event_in)} -> {list(self.event_out)})"

    # What a subclass gives or may do better. Shapes have been checked; r2 and noise are floats, or tensors
    # with as many dimensions as y.

    def _forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _adjoint(self, y: Tensor) -> Tensor:
        raise NotImplementedError

    def _pinv(self, y: Tensor) -> Tensor:
        """A^T y / gram, or by A^T A x = A^T y, which always has a solution."""
        if self.gram is not None:
            return self._adjoint(y) / self.gram
        return self._iterate(lambda x: self._adjoint(self._forward(x)), self._adjoint(y), self.event_in)

    def _solve_uniform(self, residual: Tensor, r2: Time, noise: Time) -> Tensor:
        """`solve` where no two observations of a batch element differ in noise."""
        return self._solve_iteratively(residual, r2, noise)

    @cached_property
    def _svd(self) -> SVD:
        size = math.prod(self.event_in)
        if size > DENSE_LIMIT:
            raise Unsupported(
                f"{self!r} knows no singular value decomposition, and {size} data values are more than the "
                f"{DENSE_LIMIT} of a dense one; take a method without an SVD, or Matrix(operator.dense())."
            )
        return dense_svd(self.dense(), self.event_in, self.event_out)

    def _solve_iteratively(self, residual: Tensor, r2: Time, noise: Time) -> Tensor:
        """Scaled from both sides by 1 / sqrt(r2 + noise), where infinite noise is a number like others."""
        if not torch.as_tensor(noise).any():
            # Only what A can reach has a solution; the pseudo-inverse drops the rest.
            residual = self._forward(self._pinv(residual))
        scale = divide(torch.ones_like(residual), (r2 + noise) ** 0.5)
        diagonal = torch.where(scale == 0.0, 1.0, noise * scale**2)

        def apply(z: Tensor) -> Tensor:
            return scale * r2 * self._forward(self._adjoint(scale * z)) + diagonal * z

        return scale * self._iterate(apply, scale * residual, self.event_out)

    def _iterate(self, apply: Callable[[Tensor], Tensor], b: Tensor, event: tuple[int, ...]) -> Tensor:
        batch_dims = b.ndim - len(event)
        tolerance = torch.finfo(b.dtype).eps ** 0.75
        x = conjugate_gradients(apply, b, iterations=ITERATIONS, tolerance=tolerance, batch_dims=batch_dims)
        error = b.detach() - apply(x.detach())
        left, size = inner(error, error, batch_dims).sqrt(), inner(b, b, batch_dims).sqrt()
        if (left > 100.0 * tolerance * size).any():
            raise Unsupported(
                f"{self!r}: conjugate gradients left {float((left / size).max()):.1e} of a system unsolved, "
                f"more than {100.0 * tolerance:.1e}; A is badly conditioned: add noise, or use float64."
            )
        return x

    def _checked(self, value: Tensor, event: tuple[int, ...], name: str, verb: str) -> Tensor:
        if value.ndim < len(event) or tuple(value.shape[value.ndim - len(event) :]) != event:
            raise InvalidArgument(
                f"{name} has shape {tuple(value.shape)}, but {self!r} {verb} [*batch, "
                f"{', '.join(map(str, event))}]; give that shape, or make the operator for the other one."
            )
        return value

    def _r2(self, r2: Time, residual: Tensor) -> Time:
        """r2, laid out for x, laid out for y."""
        if not isinstance(r2, Tensor):
            return r2
        batch, shape = tuple(residual.shape[: residual.ndim - len(self.event_out)]), tuple(r2.shape)
        if len(shape) == len(batch) + len(self.event_in) and all(size == 1 for size in shape[len(batch) :]):
            shape = shape[: len(batch)]
        if len(shape) > len(batch) or any(a not in (1, b) for a, b in zip(shape, batch, strict=False)):
            raise InvalidArgument(
                f"r2 has shape {tuple(r2.shape)}; give one number, or one for each batch element {batch}."
            )
        return r2.to(residual).reshape(shape + (1,) * (residual.ndim - len(shape)))

    def _noise(self, noise_variance: Time, residual: Tensor) -> Time:
        if not isinstance(noise_variance, Tensor):
            return noise_variance
        shape = (1,) * (residual.ndim - noise_variance.ndim) + tuple(noise_variance.shape)
        if len(shape) > residual.ndim or any(
            a not in (1, b) for a, b in zip(shape, residual.shape, strict=True)
        ):
            raise InvalidArgument(
                f"noise_variance has shape {tuple(noise_variance.shape)}, which does not broadcast to the "
                f"observations {tuple(residual.shape)}; give one number, or one for each observation."
            )
        return noise_variance.to(residual).reshape(shape)
