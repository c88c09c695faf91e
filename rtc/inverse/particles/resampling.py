"""Resampling: which particles go on, and how many are worth keeping."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def systematic(weights: Float[Tensor, " n"], u: float, count: int | None = None) -> Int[Tensor, " count"]:
    """Indices of `count` (default n) particles: position i is (i + u) / count, and takes the first particle
    whose cumulative weight reaches it.

    weights: >= 0, in any scale. u: in (0, 1]; one uniform draw serves all positions, so that a particle of
    weight w is taken floor(count w) or ceil(count w) times. Source: Carpenter, Clifford & Fearnhead 1999.
    """
    count = len(weights) if count is None else count
    cumulative = weights.double().cumsum(0)
    positions = (torch.arange(count, dtype=torch.float64, device=weights.device) + u) / count
    return torch.searchsorted(cumulative / cumulative[-1], positions).clamp(max=len(weights) - 1)


def effective_sample_size(log_weights: Float[Tensor, " n"]) -> float:
    """1 / sum w^2 with the weights normalised: n for equal weights, 1 when one particle has all."""
    return math.exp(2.0 * log_weights.logsumexp(0).item() - (2.0 * log_weights).logsumexp(0).item())
