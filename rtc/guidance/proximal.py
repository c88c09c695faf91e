"""Guidance that moves the estimate alone: no VJP, only solves with A; one forward a step.

C = S = variance I in docs/math.md's one formula: x1_hat goes to the most likely point given y and
N(x1_hat, variance I), which is `Measurement.pull`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Generator, Tensor

from rtc.errors import InvalidArgument
from rtc.guidance.misfit import check_descent, misfit_gradient
from rtc.guidance.pigdm import check_data_std, r2
from rtc.guidance.pullback import graph_only_for
from rtc.kernel import StepKernel, normal
from rtc.measurement import LinearMeasurement, Measurement, NonlinearOperator
from rtc.path import Time, noise_to_signal, spread
from rtc.prior import DenoiserPrior, Prior, from_denoiser
from rtc.solvers import Move

LARGEST_VARIANCE = 1e4
"""In the place of a larger one, where a path holds hardly any data; DDPM begins at rho^2 = 2.5e4."""


def prox(prior: Prior, measurement: Measurement, variance: Callable[[Time], Time]) -> DenoiserPrior:
    """x1_hat + pull(x1_hat, variance(tau)): the proximal point of the likelihood. 1 forward a call.

    variance: of x1 about x1_hat, > 0, as a function of tau. Source: Parikh & Boyd 2014, section 1.1.
    """

    def denoise(x: Float[Tensor, "*shape"], tau: Time) -> Float[Tensor, "*shape"]:
        with graph_only_for(x):
            x1_hat = prior.denoise(x, tau)
            return x1_hat + measurement.pull(x1_hat, spread(_finite(variance(tau)), x))

    return from_denoiser(denoise, prior.path)


def ddnm(prior: Prior, measurement: LinearMeasurement) -> DenoiserPrior:
    """x1_hat + A^+ (y - A x1_hat): the range of A from y, its null space from the prior. 1 forward a call.

    The noise of y is ignored, and so ends up in the sample; the paper samples with DDIM(eta=.85).
    Source: Wang et al. 2023 (DDNM), section 3.
    """
    return prox(prior, replace(measurement, noise_variance=0.0), lambda tau: 1.0)


def mpgd(prior: Prior, measurement: LinearMeasurement, *, step: float, misfit: str = "norm") -> DenoiserPrior:
    """x1_hat - step grad norm(y - A x1_hat), the gradient being that in x1_hat. 1 forward a call; no solve.

    Manifold preserving guided diffusion without its autoencoder. step: >= 0, a length in units of the data
    for misfit "norm"; a number below 1 / norm(A)^2 for "squared". Raises InvalidArgument for other values.
    Source: He et al. 2024 (MPGD).
    """
    check_descent("step", step, misfit)

    def denoise(x: Float[Tensor, "*shape"], tau: Time) -> Float[Tensor, "*shape"]:
        with graph_only_for(x):
            x1_hat = prior.denoise(x, tau)
            return x1_hat - step * misfit_gradient(measurement, x1_hat, misfit)

    return from_denoiser(denoise, prior.path)


@dataclass(frozen=True)
class DiffPIR:
    """The proximal point with variance rho^2 / lam, then noise, a part zeta of it fresh. 1 forward a step.

    x_next = alpha+ x1_hat^y + sigma+ (sqrt(1 - zeta) eps^y + sqrt(zeta) n), x = alpha x1_hat^y + sigma eps^y.

    lam: > 0, weight of the prior. zeta: in [0, 1]; with 0 it is DDIM on `prox`. Both as the released loop
    has them. Raises InvalidArgument for other values. Source: Zhu et al. 2023, algorithm 1.
    """

    measurement: Measurement
    lam: float = 7.0
    zeta: float = 0.3

    def __post_init__(self) -> None:
        if not 0.0 < self.lam < math.inf:
            raise InvalidArgument(f"lam is {self.lam}; it must be a positive number (released loop: 7).")
        if not 0.0 <= self.zeta <= 1.0:
            raise InvalidArgument(f"zeta is {self.zeta}; it must lie in [0, 1] (released loop: .3).")

    def __call__(
        self, prior: Prior, x: Tensor, tau: float, tau_next: float, generator: Generator | None = None
    ) -> Move:
        """One step."""
        path = prior.path
        guided = prox(prior, self.measurement, lambda tau: noise_to_signal(path, tau) ** 2 / self.lam)
        x1_hat = guided.denoise(x, tau)
        state = math.sqrt(1.0 - self.zeta) * path.sigma(tau_next) / path.sigma(tau)
        data = path.alpha(tau_next) - path.alpha(tau) * state
        kernel = StepKernel(float(data), float(state), math.sqrt(self.zeta) * float(path.sigma(tau_next)))
        return Move(kernel.apply(x1_hat, x, generator), x1_hat)


@dataclass(frozen=True)
class Flower:
    """Refine with the variance r2, then noise anew: x_next = alpha+ x1_hat^y + sigma+ n. 1 forward a step.

    gamma = 0: x1_hat^y is the proximal point. gamma = 1: it is a draw from N(x1_hat, r2 I) given y, by
    perturb and solve, and the chain is exact for data N(mean, data_std^2 I), with any number of steps.

    data_std: > 0, standard deviation of the data. gamma: in [0, 1], scale of what the draw adds (the paper
    has 0 and 1). The operator must be linear for gamma > 0. Raises InvalidArgument for other values.
    Sources: Pourya et al. 2026 (Flower); Papandreou & Yuille 2010 (perturb and solve).
    """

    measurement: LinearMeasurement
    data_std: float = 1.0
    gamma: float = 0.0

    def __post_init__(self) -> None:
        check_data_std(self.data_std)
        if not 0.0 <= self.gamma <= 1.0:
            raise InvalidArgument(f"gamma is {self.gamma}; it must lie in [0, 1] (1 draws, 0 does not).")
        if self.gamma and isinstance(self.measurement.operator, NonlinearOperator):
            raise InvalidArgument(
                f"gamma is {self.gamma}, but the operator is nonlinear; gamma = 0 takes it."
            )

    def __call__(
        self, prior: Prior, x: Tensor, tau: float, tau_next: float, generator: Generator | None = None
    ) -> Move:
        """One step."""
        path = prior.path
        with graph_only_for(x):
            x1_hat, variance = prior.denoise(x, tau), float(r2(tau, self.data_std, path))
            measured = self.measurement
            if self.gamma:
                x1_hat = x1_hat + self.gamma * math.sqrt(variance) * normal(x1_hat, generator)
                measured = self._perturbed(x1_hat, generator)
            refined = x1_hat + measured.pull(x1_hat, variance)
            kernel = StepKernel(float(path.alpha(tau_next)), 0.0, float(path.sigma(tau_next)))
            return Move(kernel.apply(refined, x, generator), refined)

    def _perturbed(self, x1_hat: Tensor, generator: Generator | None) -> LinearMeasurement:
        """The measurement with gamma times another draw of its noise in y."""
        observed = self.measurement.operator.forward(x1_hat)
        std = self.measurement.noise_variance_like(x1_hat).sqrt()
        y = self.measurement.y.to(x1_hat) + self.gamma * std * normal(observed, generator)
        return replace(self.measurement, y=y)


def _finite(variance: Time) -> Time:
    if isinstance(variance, Tensor):
        return variance.clamp(max=LARGEST_VARIANCE)
    return min(variance, LARGEST_VARIANCE)
