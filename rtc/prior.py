"""A prior: the best guess of the clean data behind a noisy point, and everything that follows from it.

A policy, an image model and a closed form are all priors; guidance turns one prior into another. The house
speaks `denoise` only: velocities, scores, noise predictions and denoisers that are told a noise level are
converted here, at the border (docs/math.md section 2).
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
from rtc.path import STRAIGHT, Path, Time, noise_to_signal, ratio, spread, wronskian

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
class DenoiserPrior:
    """A prior made of a function (x, tau) -> x1_hat: what every `from_...` returns."""

    path: Path
    function: Field

    def denoise(self, x: Float[Tensor, "*shape"], tau: Time) -> Float[Tensor, "*shape"]:
        """The function's value."""
        return self.function(x, tau)

    def on(self, path: Path) -> DenoiserPrior:
        """The same prior on another path; see `rtc.prior.on`."""
        return on(self, path)


def from_denoiser(function: Field, path: Path = STRAIGHT) -> DenoiserPrior:
    """A prior from a function (x, tau) -> x1_hat, all shaped [*shape]."""
    return DenoiserPrior(path, function)


def from_gaussian_denoiser(function: Field, path: Path) -> DenoiserPrior:
    """A prior from a denoiser (z, rho) -> x1_hat of images z = x1 + rho n, n ~ N(0, I), put on any path.

    z = x / alpha and rho = sigma / alpha, so that VE(...) is the path on which nothing changes; needs
    alpha(tau) > 0. rho is a float or a tensor over the leading dimensions, as tau is.
    """

    def denoise(x: Tensor, tau: Time) -> Tensor:
        return function(x / spread(path.alpha(tau), x), noise_to_signal(path, tau))

    return DenoiserPrior(path, denoise)


def from_eps(function: Field, path: Path) -> DenoiserPrior:
    """A prior from a noise prediction (x, tau) -> E[x0 | x]: x1_hat = (x - sigma eps) / alpha.

    Needs alpha > 0. Source: Ho et al. 2020, eq. 15.
    """

    def denoise(x: Tensor, tau: Time) -> Tensor:
        return (x - spread(path.sigma(tau), x) * function(x, tau)) / spread(path.alpha(tau), x)

    return DenoiserPrior(path, denoise)


def from_score(function: Field, path: Path) -> DenoiserPrior:
    """A prior from a score (x, tau) -> grad log p_tau(x): x1_hat = (x + sigma^2 score) / alpha.

    Needs alpha > 0. Source: Tweedie's formula (Efron 2011).
    """

    def denoise(x: Tensor, tau: Time) -> Tensor:
        return (x + spread(path.sigma(tau) ** 2, x) * function(x, tau)) / spread(path.alpha(tau), x)

    return DenoiserPrior(path, denoise)


def from_velocity(function: Field, path: Path = STRAIGHT) -> DenoiserPrior:
    """A prior from a velocity field (x, tau) -> v = E[dx/dtau | x], all shaped [*shape].

    x1_hat = (sigma v - sigma_dot x) / w, with w = alpha_dot sigma - alpha sigma_dot positive at every time;
    on the OT path x1_hat = x + (1 - tau) v. A model whose time runs from data to noise must be turned round
    by its adapter before it comes here. Source: Lipman et al. 2023; docs/math.md eq. 2.3.
    """

    def denoise(x: Tensor, tau: Time) -> Tensor:
        speed = wronskian(path, tau)
        of_velocity, of_x = path.sigma(tau) / speed, _one_at_data(-path.sigma_dot(tau) / speed)
        return spread(of_velocity, x) * function(x, tau) + spread(of_x, x) * x

    return DenoiserPrior(path, denoise)


def _one_at_data(of_x: Time) -> Time:
    """infinity / infinity, as at tau = 1 on the VP path, where no noise is left: x1_hat is x."""
    if isinstance(of_x, Tensor):
        return of_x.nan_to_num(nan=1.0)
    return 1.0 if math.isnan(of_x) else of_x


def on(prior: Prior, path: Path) -> DenoiserPrior:
    """The same prior on another path: x1_hat depends on x / alpha and on rho = sigma / alpha only.

    At tau' on the new path it is evaluated where the old one is as noisy, at the point scaled accordingly.
    Below the least noise of the old path its last time is used. Raises InvalidArgument where the new path is
    noisier than the old one ever is: the sampler must then start later, at
    path.tau_at(noise_to_signal(prior.path, 0.0)). Source: Pokle et al. 2024, lemma 2 and eq. 9.
    """
    old = prior.path

    def denoise(x: Tensor, tau: Time) -> Tensor:
        rho = noise_to_signal(path, tau)
        old_tau = old.tau_at(rho)
        earliest = float(torch.as_tensor(old_tau).min())
        if not earliest >= -1e-9:
            limit = path.tau_at(noise_to_signal(old, 0.0))
            raise InvalidArgument(
                f"tau = {tau} on {path} is noisier than the prior's own path {old} ever is; "
                f"start at tau >= {limit}."
            )
        old_tau = old_tau.clamp(0.0, 1.0) if isinstance(old_tau, Tensor) else min(max(old_tau, 0.0), 1.0)
        return prior.denoise(spread(_scale(old, old_tau, path, tau), x) * x, old_tau)

    return DenoiserPrior(path, denoise)


def _scale(old: Path, old_tau: Time, new: Path, tau: Time) -> Time:
    """alpha_old / alpha_new = sigma_old / sigma_new, by whichever is larger: no end is divided by 0."""
    by_alpha = ratio(old.alpha(old_tau), new.alpha(tau))
    by_sigma = ratio(old.sigma(old_tau), new.sigma(tau))
    mostly_data = new.sigma(tau) <= new.alpha(tau)
    if isinstance(mostly_data, Tensor):
        return torch.where(mostly_data, by_alpha, by_sigma)
    return by_alpha if mostly_data else by_sigma


def classifier_free(unconditional: Prior, conditional: Prior, weight: float) -> DenoiserPrior:
    """x1_hat = unconditional + weight (conditional - unconditional): two calls.

    weight 0 is the unconditional prior, 1 the conditional one, above 1 exaggerates the condition (the paper's
    own weight is ours minus 1). Raises InvalidArgument if the two live on different paths.
    Source: Ho & Salimans 2022, eq. 6.
    """
    if unconditional.path != conditional.path:
        raise InvalidArgument(
            f"the unconditional prior is on {unconditional.path}, the conditional one on {conditional.path}; "
            "bring one to the other's path with on(prior, path)."
        )

    def denoise(x: Tensor, tau: Time) -> Tensor:
        without = unconditional.denoise(x, tau)
        return without + weight * (conditional.denoise(x, tau) - without)

    return DenoiserPrior(unconditional.path, denoise)


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
