"""Annealed Langevin dynamics: a random walk at every noise level, with or without a measurement."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Generator, Tensor

from rtc.errors import InvalidArgument
from rtc.guidance.pullback import graph_only_for
from rtc.kernel import normal
from rtc.measurement import LinearMeasurement
from rtc.prior import Prior
from rtc.solvers import Move


@dataclass(frozen=True)
class AnnealedLangevin:
    """Langevin steps at tau, of length g = step rho^2, on z = x / alpha; z then goes on to tau_next as it is.

    z += g (score + A^T (y - A z) / (noise_variance + rho^2)) + sqrt(2 g) n,     score = (x1_hat - z) / rho^2

    Without a measurement the plain NCSN sampler; with one, Score-ALD: the residual is that of the noisy point
    itself, its variance that of y and of the level. `steps` forwards a step. The noise of the last level
    stays in the sample: end on a fine one (a Table or VE path with few hundredths of the data's scale).

    step: > 0; above 2 / (1 + norm(A)^2) it may diverge. steps: >= 1. Raises InvalidArgument for other values,
    and where alpha is 0 (OT at tau = 0), which has no z. Sources: Song & Ermon 2019, algorithm 1 (its step
    length is twice ours); Jalal et al. 2021 (Score-ALD).
    """

    measurement: LinearMeasurement | None = None
    step: float = 0.1
    steps: int = 5

    def __post_init__(self) -> None:
        if not 0.0 < self.step < math.inf:
            raise InvalidArgument(f"step is {self.step}; it must be a positive number (.1 is usual).")
        if self.steps < 1:
            raise InvalidArgument(f"steps is {self.steps}; at least 1 Langevin step is needed.")

    def __call__(
        self, prior: Prior, x: Tensor, tau: float, tau_next: float, generator: Generator | None = None
    ) -> Move:
        """One level."""
        alpha = float(prior.path.alpha(tau))
        if alpha == 0.0:
            raise InvalidArgument(
                f"{prior.path} holds no data at tau = {tau}, where Langevin steps have no length; start "
                "later, at .01 say, or use a VE path."
            )
        rho, z, x1_hat = float(prior.path.sigma(tau)) / alpha, x / alpha, x
        with graph_only_for(x):
            for _ in range(self.steps):
                x1_hat = prior.denoise(alpha * z, tau)
                drift = x1_hat - z + rho**2 * self._likelihood_score(z, rho)
                z = z + self.step * drift + math.sqrt(2.0 * self.step) * rho * normal(z, generator)
            return Move(float(prior.path.alpha(tau_next)) * z, x1_hat)

    def _likelihood_score(self, z: Tensor, rho: float) -> Tensor | float:
        """A^T (y - A z) / (noise_variance + rho^2); 0 without a measurement."""
        if self.measurement is None:
            return 0.0
        variance = self.measurement.noise_variance_like(z) + rho**2
        return self.measurement.linear_operator(z).adjoint(self.measurement.residual(z) / variance)
