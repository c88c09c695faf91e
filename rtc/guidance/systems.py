"""Linear systems that need be neither symmetric nor regular, one for each element of a batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def gmres(
    apply: Callable[[Tensor], Tensor], b: Float[Tensor, "batch *event"], *, iterations: int
) -> Float[Tensor, "batch *event"]:
    """The u with the least norm(b - apply(u)) in the span of b, apply(b), ..., for each element of the batch.

    iterations: calls of `apply`, and the size of that span; from the number of values on, u is the solution.
    Of a singular system that is consistent it finds a solution too. Memory: 2 iterations copies of b.
    Source: Saad & Schultz 1986 (GMRES), the least squares being solved on the images apply(direction).
    """
    directions: list[Tensor] = []
    images: list[Tensor] = []
    candidate = b.flatten(1)
    for _ in range(iterations):
        directions.append(_fresh(candidate, directions))
        images.append(apply(directions[-1].reshape(b.shape)).flatten(1))
        candidate = images[-1]
    coefficients = pseudo_solve(torch.stack(images, -1), b.flatten(1))
    return (torch.stack(directions, -1) @ coefficients[..., None]).reshape(b.shape)


def pseudo_solve(matrix: Float[Tensor, "batch m k"], b: Float[Tensor, "batch m"]) -> Float[Tensor, "batch k"]:
    """The least-squares solution of least norm; NaN for an element of the batch that is not finite."""
    precise = torch.promote_types(matrix.dtype, torch.float32)  # there is no singular value below float32
    finite = matrix.isfinite().flatten(1).all(1)[:, None]
    inverse = torch.linalg.pinv(torch.where(finite[..., None], matrix, 0.0).to(precise))
    solution = (inverse @ b.to(precise)[..., None])[..., 0]
    return torch.where(finite, solution, torch.nan).to(b.dtype)


def _fresh(candidate: Tensor, directions: list[Tensor]) -> Tensor:
    """The unit vector of what `directions` leave of the candidate; 0 where that is rounding errors only."""
    least = 100.0 * torch.finfo(candidate.dtype).eps * torch.linalg.vector_norm(candidate, dim=1)
    for direction in directions:
        candidate = candidate - (candidate * direction).sum(1, keepdim=True) * direction
    length = torch.linalg.vector_norm(candidate, dim=1)
    scale = torch.where(length > least, 1.0 / length.clamp(min=torch.finfo(length.dtype).tiny), 0.0)
    return candidate * scale[:, None]
