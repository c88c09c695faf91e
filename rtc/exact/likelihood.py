"""The likelihood of a noisy point, of any prior whose posterior and evidence are closed forms."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor

from rtc.path import Time


class ExactPrior(ABC):
    """A prior that knows its density, and the law of x1 given y = a x1 + N(0, noise_variance I)."""

    @abstractmethod
    def log_density(self, x: Float[Tensor, "..."], tau: Time) -> Float[Tensor, "*batch"]:
        """log p_tau(x)."""

    @abstractmethod
    def posterior(self, a: Float[Tensor, "..."], y: Float[Tensor, "..."], noise_variance: Time) -> ExactPrior:
        """The law of x1 given y, on the same path."""

    @abstractmethod
    def log_evidence(
        self, a: Float[Tensor, "..."], y: Float[Tensor, "..."], noise_variance: Time
    ) -> Float[Tensor, ""]:
        """log p(y)."""

    def log_likelihood_at(
        self,
        x: Float[Tensor, "..."],
        tau: Time,
        a: Float[Tensor, "..."],
        y: Float[Tensor, "..."],
        noise_variance: Time,
    ) -> Float[Tensor, "*batch"]:
        """log p_tau(y | x) = log p_tau(x | y) - log p_tau(x) + log p(y), by Bayes. Differentiable in x."""
        ratio = self.posterior(a, y, noise_variance).log_density(x, tau) - self.log_density(x, tau)
        return ratio + self.log_evidence(a, y, noise_variance).to(x)
