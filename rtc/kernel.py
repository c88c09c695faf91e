"""Gaussian steps: x_next = A x1_hat + B x + c n, three numbers (docs/math.md section 5)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from rtc.errors import InvalidArgument
from rtc.path import Path


class StepKernel(NamedTuple):
    """x_next = data * x1_hat + state * x + noise * N(0, I): the letters A, B, c of docs/math.md eq. 5.1."""

    data: float
    state: float
    noise: float

    def apply(self, x1_hat: Tensor, x: Tensor, generator: Generator | None = None) -> Tensor:
        """x_next, drawn."""
        mean = self.data * x1_hat + self.state * x
        return mean + self.noise * normal(x, generator) if self.noise else mean


def normal(like: Tensor, generator: Generator | None = None) -> Tensor:
    """n ~ N(0, I), shaped and placed like `like`."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def step_kernel(path: Path, tau: float, tau_next: float, eta: float = 0.0) -> StepKernel:
    """The Gaussian step tau -> tau_next; eta in [0, 1]: 0 is deterministic (DDIM), 1 is ancestral (DDPM).

    On the OT path eta = 0 is Euler's: A = (tau_next - tau) / (1 - tau), B = (1 - tau_next) / (1 - tau).
    Raises InvalidArgument unless 0 <= tau < tau_next <= 1. Source: Song et al. 2021 (DDIM), eqs. 12 and 16.
    """
    _check_step(tau, tau_next)
    if not 0.0 <= eta <= 1.0:
        raise InvalidArgument(f"eta is {eta}; it must lie in [0, 1] (0 is DDIM, 1 is DDPM).")
    alpha, sigma = path.alpha(tau), path.sigma(tau)
    alpha_next, sigma_next = path.alpha(tau_next), path.sigma(tau_next)
    kept = alpha * sigma_next / (alpha_next * sigma)  # the ratio of the noise-to-signal ratios
    noise = eta * sigma_next * math.sqrt((1.0 - kept) * (1.0 + kept))
    # sqrt(sigma_next^2 - noise^2) / sigma, without its cancellation where eta is 1 and kept is small
    state = sigma_next / sigma * math.hypot(math.sqrt((1.0 - eta) * (1.0 + eta)), eta * kept)
    return StepKernel(float(alpha_next - alpha * state), float(state), float(noise))


def euler_kernel(path: Path, tau: float, tau_next: float) -> StepKernel:
    """Euler's step x + (tau_next - tau) v: DDIM's, with the path continued along its tangent.

    v = alpha_dot x1_hat + sigma_dot eps; on the straight path the tangent is the path. Raises InvalidArgument
    unless 0 <= tau < tau_next <= 1. Source: Black et al. 2025, eq. 1.
    """
    _check_step(tau, tau_next)
    alpha, sigma, length = path.alpha(tau), path.sigma(tau), tau_next - tau
    state = (sigma + length * path.sigma_dot(tau)) / sigma
    return StepKernel(float(alpha + length * path.alpha_dot(tau) - alpha * state), float(state), 0.0)


def renoise_kernel(path: Path, tau: float, tau_back: float) -> StepKernel:
    """The forward step tau -> tau_back <= tau, which adds noise; its `data` is 0.

    Raises InvalidArgument for other times, and where alpha(tau) is 0.
    Source: Ho et al. 2020, eq. 2; Lugmayr et al. 2022, algorithm 1, line 8.
    """
    if not 0.0 <= tau_back <= tau <= 1.0:
        raise InvalidArgument(
            f"a step back from tau = {tau} to {tau_back}; it needs 0 <= tau_back <= tau <= 1."
        )
    if path.alpha(tau) == 0.0:
        raise InvalidArgument(f"a step back from tau = {tau}, where there is nothing but noise; start later.")
    state = path.alpha(tau_back) / path.alpha(tau)
    noise = math.sqrt(path.sigma(tau_back) ** 2 - (state * path.sigma(tau)) ** 2)
    return StepKernel(0.0, float(state), noise)


def _check_step(tau: float, tau_next: float) -> None:
    if not 0.0 <= tau < tau_next <= 1.0:
        raise InvalidArgument(f"a step from tau = {tau} to {tau_next}; it needs 0 <= tau < tau_next <= 1.")
