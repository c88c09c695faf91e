"""What all guidance through a network shares: one forward, and VJPs back through it.

G v = (sigma^2 / alpha) J^T v turns a gradient in x1_hat into a shift of x1_hat, with J = d x1_hat / d x. For
an exact prior (sigma^2 / alpha) J is the covariance of x1 given x (Tweedie), and so symmetric.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from rtc.autodiff import vjp
from rtc.path import Path, Time, ratio, spread
from rtc.prior import DenoiserPrior, Prior, from_denoiser

Pullback: TypeAlias = Callable[[Tensor], Tensor]
"""A linear map of cotangents of x1_hat, shaped like x; each call is one VJP through the prior."""

Shift: TypeAlias = Callable[[Tensor, Pullback], Tensor]
"""(x1_hat, G) -> what to add to x1_hat, shaped like it."""


def through(prior: Prior, shift: Shift) -> DenoiserPrior:
    """The prior with denoise = x1_hat + shift(x1_hat, G): one forward, and a VJP for each use of G.

    Where G is infinite (alpha = 0: tau = 0 on OT, where an exact prior has J = 0) it counts as 0, and nothing
    is added. Leaves no autograd graph, unless x itself requires a gradient.
    """

    def denoise(x: Float[Tensor, "*shape"], tau: Time) -> Float[Tensor, "*shape"]:
        with graph_only_for(x):
            gain = spread(tweedie_gain(prior.path, tau), x)
            x1_hat, pullback = denoise_and_vjp(prior, x, tau)
            return x1_hat + shift(x1_hat, lambda cotangent: gain * pullback(cotangent))

    return from_denoiser(denoise, prior.path)


def denoise_and_vjp(prior: Prior, x: Float[Tensor, "*shape"], tau: Time) -> tuple[Tensor, Pullback]:
    """x1_hat, and v -> J^T v."""
    x1_hat, pull = vjp(lambda point: prior.denoise(point, tau), x)
    return x1_hat, lambda cotangent: pull(cotangent)[0]


def gradient(function: Callable[[Tensor], Tensor], x: Float[Tensor, "batch *event"]) -> Tensor:
    """The gradient of function(x) [batch] at x, each element's own, as long as it depends on no other."""
    values, pull = vjp(function, x)
    return pull(torch.ones_like(values))[0]


def tweedie_gain(path: Path, tau: Time) -> Time:
    """sigma^2 / alpha; 0 where alpha is 0."""
    gain = ratio(path.sigma(tau) ** 2, path.alpha(tau))
    if isinstance(gain, Tensor):
        return torch.where(gain.isinf(), 0.0, gain)
    return 0.0 if math.isinf(gain) else gain


def graph_only_for(x: Tensor) -> AbstractContextManager[object]:
    """Keep a graph only if x asks for one, as it does inside another vjp: guided priors can be guided."""
    return torch.set_grad_enabled(torch.is_grad_enabled() and x.requires_grad)
