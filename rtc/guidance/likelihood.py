"""Guidance by the gradient of a likelihood through the prior; nonlinear measurements and energies allowed.

Here x1 is taken to be x1_hat itself (S = 0 in docs/math.md's one formula: DPS), or drawn around it (LGD).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from rtc.errors import InvalidArgument
from rtc.guidance.misfit import check_descent, misfit_gradient
from rtc.guidance.pigdm import check_data_std, r2
from rtc.guidance.pullback import (
    Pullback,
    denoise_and_vjp,
    gradient,
    graph_only_for,
    through,
    tweedie_gain,
)
from rtc.kernel import normal, step_kernel
from rtc.measurement import Likelihood, LinearMeasurement
from rtc.path import Time, spread
from rtc.prior import DenoiserPrior, Prior, from_denoiser
from rtc.solvers import Move


def likelihood_guidance(prior: Prior, likelihood: Likelihood, *, scale: float = 1.0) -> DenoiserPrior:
    """x1_hat + scale (sigma^2 / alpha) J^T grad log p(y | x1_hat): 1 forward and 1 VJP a call.

    The theory of DPS (scale = 1; `DPS` is its practice), and guidance by an Energy. It overstates what y
    says, as x1 is not yet x1_hat: near noise the steps must be short. Raises InvalidArgument for a
    measurement without noise, which has no density. Source: Chung et al. 2023 (DPS), section 3.
    """
    _check_density(likelihood)

    def shift(x1_hat: Tensor, pullback: Pullback) -> Tensor:
        return scale * pullback(gradient(likelihood.log_likelihood, x1_hat))

    return through(prior, shift)


def classifier_guidance(
    prior: Prior, log_probability: Callable[[Tensor, Time], Tensor], *, weight: float = 1.0
) -> DenoiserPrior:
    """x1_hat + weight (sigma^2 / alpha) grad_x log p(c | x at tau): 1 forward, and 1 VJP of the classifier.

    log_probability: (x [batch, *event], tau) -> [batch], of a classifier that knows noisy points. With the
    true one and weight 1 it is the conditional prior. Source: Dhariwal & Nichol 2021, algorithm 1, where it
    is a shift of the step's mean; Song et al. 2021 (score SDE), eq. 14.
    """

    def denoise(x: Float[Tensor, "*shape"], tau: Time) -> Float[Tensor, "*shape"]:
        with graph_only_for(x):
            gain = spread(tweedie_gain(prior.path, tau), x)
            slope = gradient(lambda point: log_probability(point, tau), x)
            return prior.denoise(x, tau) + weight * gain * slope

    return from_denoiser(denoise, prior.path)


@dataclass(frozen=True)
class DPS:
    """Diffusion posterior sampling: the unguided step, then x - zeta grad_x norm(y - A x1_hat).

    1 forward and 1 VJP a step; only A and its adjoint are used, and A may be nonlinear. The noise of y is not
    read: zeta stands for it, and has no right value. It acts on x as the path scales it: tuned on one path it
    is another step on the next. The norm is that of each element of the batch.

    zeta: >= 0 (paper: .3 to 1). misfit: "norm", as the authors' code, or "squared" (zeta / norm times the
    gradient of the square is twice the former). eta: of the unguided step, 1 (paper) is ancestral.
    draws: 0, or the misfit is the mean over that many x1 ~ N(x1_hat, r2 I), with data_std in r2: the practice
    of loss-guided diffusion (Song et al. 2023, ICML), whose theory is `LGD`.
    Raises InvalidArgument for other values. Source: Chung et al. 2023, algorithm 1.
    """

    measurement: LinearMeasurement
    zeta: float = 1.0
    misfit: str = "norm"
    eta: float = 1.0
    draws: int = 0
    data_std: float = 1.0

    def __post_init__(self) -> None:
        check_descent("zeta", self.zeta, self.misfit)
        check_data_std(self.data_std)
        if self.draws < 0:
            raise InvalidArgument(f"draws is {self.draws}; it is 0 (DPS) or more (10 is usual).")

    def __call__(
        self, prior: Prior, x: Tensor, tau: float, tau_next: float, generator: Generator | None = None
    ) -> Move:
        """One step."""
        kernel = step_kernel(prior.path, tau, tau_next, self.eta)
        with graph_only_for(x):
            x1_hat, vjp = denoise_and_vjp(prior, x, tau)
            slope = vjp(self._misfit_gradient(x1_hat, r2(tau, self.data_std, prior.path) ** 0.5, generator))
            return Move(kernel.apply(x1_hat, x, generator) - self.zeta * slope, x1_hat)

    def _misfit_gradient(self, x1_hat: Tensor, std: Time, generator: Generator | None) -> Tensor:
        """At x1_hat, or its mean over draws about it."""
        if not self.draws:
            return misfit_gradient(self.measurement, x1_hat, self.misfit)
        points = [x1_hat + std * normal(x1_hat, generator) for _ in range(self.draws)]
        slopes = [misfit_gradient(self.measurement, point, self.misfit) for point in points]
        return torch.stack(slopes).mean(0)


@dataclass(frozen=True)
class LGD:
    """Loss-guided diffusion: the gradient of log mean_i p(y | x1_i), where x1_i ~ N(x1_hat, r2 I).

    1 forward, 1 VJP and `draws` likelihoods a step. With more draws it tends to PiGDM, with r2 -> 0 it is
    `likelihood_guidance`; any likelihood will do. x1_hat moves by scale (sigma^2 / alpha) times that gradient
    and the step is the kernel's.

    draws: >= 1. data_std: > 0, standard deviation of the data, in r2. eta: in [0, 1], of the step.
    Raises InvalidArgument for other values, or for a measurement without noise.
    Source: Song et al. 2023 (loss-guided diffusion, ICML).
    """

    likelihood: Likelihood
    draws: int = 10
    data_std: float = 1.0
    scale: float = 1.0
    eta: float = 1.0

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise InvalidArgument(f"draws is {self.draws}; at least 1 is needed (10 is usual).")
        check_data_std(self.data_std)
        _check_density(self.likelihood)

    def __call__(
        self, prior: Prior, x: Tensor, tau: float, tau_next: float, generator: Generator | None = None
    ) -> Move:
        """One step."""
        kernel = step_kernel(prior.path, tau, tau_next, self.eta)
        std = r2(tau, self.data_std, prior.path) ** 0.5

        def shift(x1_hat: Tensor, pullback: Pullback) -> Tensor:
            offsets = [std * normal(x1_hat, generator) for _ in range(self.draws)]

            def log_mean(centre: Tensor) -> Tensor:
                values = [self.likelihood.log_likelihood(centre + offset) for offset in offsets]
                return torch.stack(values).logsumexp(0)

            return self.scale * pullback(gradient(log_mean, x1_hat))

        x1_hat = through(prior, shift).denoise(x, tau)
        return Move(kernel.apply(x1_hat, x, generator), x1_hat)


def _check_density(likelihood: Likelihood) -> None:
    if isinstance(likelihood, LinearMeasurement) and not torch.all(
        torch.as_tensor(likelihood.noise_variance) > 0.0
    ):
        raise InvalidArgument(
            "noise_variance is 0, so that y has no density whose gradient could guide; give a positive one, "
            "guide with pigdm, or step with DPS."
        )
