"""Solvers: one step of any prior, from tau to a later tau_next.

Guidance changes the prior; replacement (rtc/inverse) changes the solver; `rtc.sample` folds the steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from rtc.errors import InvalidArgument
from rtc.kernel import euler_kernel, normal, step_kernel
from rtc.path import log_snr_rate
from rtc.prior import Prior, score, velocity


class Move(NamedTuple):
    """What goes on, and the estimate that it came from."""

    x: Tensor
    x1_hat: Tensor


@runtime_checkable
class Solver(Protocol):
    """One step of a prior from tau to a later tau_next."""

    def __call__(
        self, prior: Prior, x: Tensor, tau: float, tau_next: float, generator: Generator | None = None
    ) -> Move:
        """x at tau_next, and x1_hat at tau; all randomness is the generator's."""
        ...


@dataclass(frozen=True)
class Euler:
    """Euler's method on the velocity: one call. On the OT path it is DDIM()."""

    def __call__(
        self, prior: Prior, x: Tensor, tau: float, tau_next: float, generator: Generator | None = None
    ) -> Move:
        """One step."""
        x1_hat = prior.denoise(x, tau)
        return Move(euler_kernel(prior.path, tau, tau_next).apply(x1_hat, x), x1_hat)


@dataclass(frozen=True)
class DDIM:
    """The kernel of `step_kernel`: one call. eta in [0, 1]: 0 deterministic, 1 ancestral (DDPM)."""

    eta: float = 0.0

    def __call__(
        self, prior: Prior, x: Tensor, tau: float, tau_next: float, generator: Generator | None = None
    ) -> Move:
        """One step."""
        x1_hat = prior.denoise(x, tau)
        return Move(step_kernel(prior.path, tau, tau_next, self.eta).apply(x1_hat, x, generator), x1_hat)


@dataclass(frozen=True)
class Midpoint:
    """The explicit midpoint rule on the velocity: two calls, second order."""

    def __call__(
        self, prior: Prior, x: Tensor, tau: float, tau_next: float, generator: Generator | None = None
    ) -> Move:
        """One step."""
        middle = 0.5 * (tau + tau_next)
        move = Euler()(prior, x, tau, middle)
        return Move(x + (tau_next - tau) * velocity(prior, move.x, middle), move.x1_hat)


@dataclass(frozen=True)
class Heun:
    """Heun's rule on the velocity: two calls, second order; Euler's where no noise is left at tau_next.

    Source: Karras et al. 2022, algorithm 1.
    """

    def __call__(
        self, prior: Prior, x: Tensor, tau: float, tau_next: float, generator: Generator | None = None
    ) -> Move:
        """One step."""
        move = Euler()(prior, x, tau, tau_next)
        if prior.path.sigma(tau_next) == 0.0:
            return move
        # the mean of the two slopes: half of Euler's step is done, and half is to come
        ahead = x + (tau_next - tau) * velocity(prior, move.x, tau_next)
        return Move(0.5 * (move.x + ahead), move.x1_hat)


@dataclass(frozen=True)
class ReverseSDE:
    """Euler-Maruyama on dx = [v + kappa g score] dtau + sqrt(2 kappa g) dW, g = sigma^2 lambda_dot: one call.

    kappa = 1 is the reverse SDE, 0 the probability-flow ODE; every kappa >= 0 has the same marginals.
    g is infinite where alpha is 0: on the OT path start later than tau = 0 (InvalidArgument says so).
    Source: Song et al. 2021 (score SDE), eq. 6; Zhang & Chen 2023.
    """

    kappa: float = 1.0

    def __call__(
        self, prior: Prior, x: Tensor, tau: float, tau_next: float, generator: Generator | None = None
    ) -> Move:
        """One step."""
        path, length = prior.path, tau_next - tau
        alpha, sigma = path.alpha(tau), path.sigma(tau)
        strength = self.kappa * sigma**2 * log_snr_rate(path, tau)
        if not math.isfinite(strength):
            raise InvalidArgument(
                f"the reverse SDE of {path} is singular at tau = {tau}; start later, at .001 say."
            )
        x1_hat = prior.denoise(x, tau)
        eps = (x - alpha * x1_hat) / sigma
        drift = path.alpha_dot(tau) * x1_hat + path.sigma_dot(tau) * eps - strength / sigma * eps
        return Move(x + length * drift + math.sqrt(2.0 * strength * length) * normal(x, generator), x1_hat)


@dataclass(frozen=True)
class PredictorCorrector:
    """A predictor's step, then Langevin steps at the new level: x += g score + sqrt(2 g) n.

    g = 2 alpha^2 (snr |n| / |score|)^2, for each element of the batch (the first axis): steps of one length.
    Calls: the predictor's, and one for each of `steps`. No corrector where no noise is left.
    Source: Song et al. 2021 (score SDE), algorithms 4 and 5.
    """

    predictor: Solver = DDIM(1.0)
    snr: float = 0.16
    steps: int = 1

    def __call__(
        self, prior: Prior, x: Tensor, tau: float, tau_next: float, generator: Generator | None = None
    ) -> Move:
        """One step."""
        move = self.predictor(prior, x, tau, tau_next, generator)
        x = move.x
        if prior.path.sigma(tau_next) == 0.0:
            return move
        for _ in range(self.steps):
            slope, noise = score(prior, x, tau_next), normal(x, generator)
            length = (self.snr * _norm(noise) / _norm(slope)) ** 2 * (2.0 * prior.path.alpha(tau_next) ** 2)
            x = x + length * slope + (2.0 * length).sqrt() * noise
        return Move(x, move.x1_hat)


def _norm(values: Tensor) -> Tensor:
    """The norm of each element of a batch, [batch, 1, ...]."""
    norms = torch.linalg.vector_norm(values.flatten(1), dim=1)
    return norms.reshape(-1, *(1,) * (values.ndim - 1))


SOLVERS: dict[str, Solver] = {
    "euler": Euler(),
    "midpoint": Midpoint(),
    "heun": Heun(),
    "ddim": DDIM(),
    "ddpm": DDIM(1.0),
    "reverse-sde": ReverseSDE(),
    "predictor-corrector": PredictorCorrector(),
}
"""Solvers by name, with their default settings."""


def named_solver(solver: str | Solver) -> Solver:
    """The solver of that name, or the solver itself. Raises InvalidArgument for an unknown name."""
    if not isinstance(solver, str):
        return solver
    if solver not in SOLVERS:
        raise InvalidArgument(f"solver is {solver!r}; choose one of {', '.join(SOLVERS)}.")
    return SOLVERS[solver]
