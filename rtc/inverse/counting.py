"""Counting what a method asks of the network."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rtc.path import Path, Time
from rtc.prior import Prior


class CountingPrior:
    """A prior that counts images: `forwards` denoised, `vjps` gone back through. It changes no value.

    event_dims: dimensions of one image; the others are batch.
    """

    def __init__(self, prior: Prior, event_dims: int) -> None:
        self._prior, self._event_dims = prior, event_dims
        self.forwards, self.vjps = 0, 0

    @property
    def path(self) -> Path:
        """The path of the prior that is counted."""
        return self._prior.path

    def denoise(self, x: Float[Tensor, "*shape"], tau: Time) -> Float[Tensor, "*shape"]:
        """The prior's own estimate."""
        images = math.prod(x.shape[: x.ndim - self._event_dims])
        self.forwards += images
        counted: Any = _Tap.apply(self._prior.denoise(x, tau), self, images)
        return counted


class _Tap(torch.autograd.Function):
    """The identity, which notes when a gradient passes."""

    @staticmethod
    def forward(x: Tensor, counter: CountingPrior, images: int) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.counter, ctx.images = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        ctx.counter.vjps += ctx.images
        return gradients[0], None, None
