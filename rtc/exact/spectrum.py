"""Covariances by their eigenvalues (variances) and eigenvectors (axes)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from rtc.errors import InvalidArgument


def spectrum(
    covs: Float[Tensor, "..."] | float, means: Float[Tensor, "k d"]
) -> tuple[Float[Tensor, "g d"], Float[Tensor, "g d d"] | None]:
    """Variances and axes (None: the coordinates themselves) of v, [d, d] or [k, d, d]; g is 1, 1 or k.

    Eigenvalues that are zero to rounding are zero. Raises InvalidArgument for other shapes, asymmetric
    matrices and negative eigenvalues.
    """
    covs = torch.as_tensor(covs, dtype=means.dtype, device=means.device)
    count, size = means.shape
    if covs.ndim == 0:
        variances, axes, error = covs.expand(1, size), None, 0.0
    elif covs.shape in ((size, size), (count, size, size)):
        error = float((covs - covs.mT).abs().max())
        variances, axes = torch.linalg.eigh(covs.reshape(-1, size, size))
    else:
        raise InvalidArgument(
            f"covs have shape {tuple(covs.shape)}; they must be a number, [{size}, {size}] or "
            f"[{count}, {size}, {size}]."
        )
    largest, smallest = float(variances.abs().max()), float(variances.min())
    rounding = 30.0 * math.sqrt(size) * torch.finfo(covs.dtype).eps * largest
    if not (error <= 1e-4 * largest and smallest >= -rounding and largest < math.inf):
        raise InvalidArgument(
            f"covs are asymmetric by {error:g} and have variances down to {smallest:g}; a covariance is "
            "symmetric, with no negative eigenvalue."
        )
    return torch.where(variances > rounding, variances, 0.0), axes
