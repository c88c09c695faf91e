"""A prior: the best guess of the clean data behind a noisy point, and everything that follows from it.

A policy, an image model and a closed form are all priors; guidance turns one prior into another. The house
speaks `denoise` only: velocities and scores are converted here, at the border (docs/math.md section 2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from rtc.errors import InvalidArgument
from rtc.path import STRAIGHT, Path, Time, spread, wronskian

Field = Callable[[Tensor, Time], Tensor]
"""A function of a noisy point and a flow time, with values shaped like the point: (x, tau) -> [*shape]."""


@runtime_checkable
class Prior(Protocol):
    """A denoiser on a path; batched, and indifferent to dtype and device."""

    @property
    def path(self) -> Path:
        """The path on which `denoise` was learnt."""
        ...

    def denoise(self, x: Float[Tensor, "*shape"], tau: Time) -> Float[Tensor, "*shape"]:
        """x1_hat = E[x1 | x at tau]; tau in [0, 1], a float or a tensor over the leading dimensions of x."""
        ...


@dataclass(frozen=True)
class _Denoiser:
    path: Path
    function: Field

    def denoise(self, x: Float[Tensor, "*shape"], tau: Time) -> Float[Tensor, "*shape"]:
        return self.function(x, tau)


def from_denoiser(function: Field, path: Path = STRAIGHT) -> Prior:
    """A prior from a function (x, tau) -> x1_hat, all shaped [*shape]."""
    return _Denoiser(path, function)


def from_velocity(function: Field, path: Path = STRAIGHT) -> Prior:
    """A prior from a velocity field (x, tau) -> v = E[dx/dtau | x], all shaped [*shape].

    x1_hat = (sigma v - sigma_dot x) / w, with w = alpha_dot sigma - alpha sigma_dot positive at every time;
    on the OT path x1_hat = x + (1 - tau) v. A model whose time runs from data to noise must be turned round
    by its adapter before it comes here. Source: Lipman et al. 2023; docs/math.md eq. 2.3.
    """

    def denoise(x: Tensor, tau: Time) -> Tensor:
        speed = wronskian(path, tau)
        of_velocity, of_x = path.sigma(tau) / speed, -path.sigma_dot(tau) / speed
        return spread(of_velocity, x) * function(x, tau) + spread(of_x, x) * x

    return _Denoiser(path, denoise)


def velocity(prior: Prior, x: Float[Tensor, "*shape"], tau: Time) -> Float[Tensor, "*shape"]:
    """v = (w x1_hat + sigma_dot x) / sigma; on the OT path (x1_hat - x) / (1 - tau). Needs sigma(tau) > 0."""
    sigma = _positive_sigma(prior.path, tau)
    of_data, of_x = wronskian(prior.path, tau) / sigma, prior.path.sigma_dot(tau) / sigma
    return spread(of_data, x) * prior.denoise(x, tau) + spread(of_x, x) * x


def score(prior: Prior, x: Float[Tensor, "*shape"], tau: Time) -> Float[Tensor, "*shape"]:
    """grad log p_tau(x) = (alpha x1_hat - x) / sigma^2 (Tweedie; Efron 2011). Needs sigma(tau) > 0."""
    variance = _positive_sigma(prior.path, tau) ** 2
    return (spread(prior.path.alpha(tau), x) * prior.denoise(x, tau) - x) / spread(variance, x)


def eps(prior: Prior, x: Float[Tensor, "*shape"], tau: Time) -> Float[Tensor, "*shape"]:
    """E[x0 | x] = (x - alpha x1_hat) / sigma: the noise prediction. Needs sigma(tau) > 0."""
    sigma = _positive_sigma(prior.path, tau)
    return (x - spread(prior.path.alpha(tau), x) * prior.denoise(x, tau)) / spread(sigma, x)


def _positive_sigma(path: Path, tau: Time) -> Time:
    sigma = path.sigma(tau)
    if not torch.all(torch.as_tensor(sigma) > 0.0):
        raise InvalidArgument(
            f"tau = {tau} leaves no noise (sigma = {sigma}), where a denoiser says nothing about velocity, "
            "score or eps; ask at an earlier tau."
        )
    return sigma
