"""azula's samplers on a problem, by method: thin adapters, the algorithms are azula's own.

Time is turned round here and nowhere else: azula's t = 1 is noise.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportUntypedBaseClass=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from azula.denoise import Denoiser, DiracPosterior
from azula.guidance import (
    DiffPIRDenoiser,
    DPSSampler,
    JFPSDenoiser,
    MMPSDenoiser,
    PGDMSampler,
    RePaintSampler,
    TDSSampler,
    TMPDenoiser,
)
from azula.linalg.covariance import IsotropicCovariance
from azula.noise import Schedule
from azula.sample import DDIMSampler, DDPMSampler
from torch import Tensor

from benchmarks.peer.problems import Problem, blur, transfer


class Levels(Schedule):
    """The problem's levels as a schedule; a sampler of as many steps meets each of them."""

    def __init__(self, problem: Problem) -> None:
        self.rho = torch.tensor(problem.rho).flip(0)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma at azula's t."""
        rho = self.rho[(t * (len(self.rho) - 1)).round().long()]
        alpha = (1.0 + rho**2).rsqrt()
        return alpha, rho * alpha


class Wrapped(Denoiser):
    """The problem's denoiser as azula's."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.network, self.schedule = problem.network, Levels(problem)

    def forward(self, x_t: Tensor, t: Tensor, **_: Any) -> DiracPosterior:
        """x1_hat."""
        alpha, sigma = self.schedule(t)
        return DiracPosterior(mean=self.network(x_t / alpha, sigma / alpha))


def observation(problem: Problem) -> tuple[Tensor, Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """y, A and A^+ as azula wants them: observations are vectors [batch, m]."""
    if problem.operator == "mask":
        seen = problem.array.flatten().bool()

        def fill(y: Tensor) -> Tensor:
            full = torch.zeros(len(y), len(seen))
            full[:, seen] = y
            return full.reshape(-1, *problem.event)

        return problem.y.flatten(1)[:, seen], lambda x: x.flatten(1)[:, seen], fill
    if problem.operator == "matrix":
        inverse = torch.linalg.pinv(problem.array)
        return problem.y, lambda x: x @ problem.array.T, lambda y: y @ inverse.T
    response = transfer(problem.array, problem.event[-2:])
    gain = torch.where(response.abs() > 0.1, 1.0 / response, 0.0)  # the rest would be noise only

    def sharpen(y: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(y.reshape(-1, *problem.event)) * gain, s=problem.event[-2:])

    return problem.y.flatten(1), lambda x: blur(x, problem.array).flatten(1), sharpen


def twist(problem: Problem) -> Callable[[Tensor, Tensor], Tensor]:
    """log N(y; A x1_hat, r2 A A^T + sigma_y^2 I), r2 = rho^2 / (1 + rho^2), which azula's user supplies."""
    y, forward, _ = observation(problem)
    rows = forward(torch.eye(problem.event[0]))
    gram = rows.T @ rows

    def log_density(x_hat: Tensor, rho: Tensor) -> Tensor:
        covariance = rho**2 / (1 + rho**2) * gram + problem.sigma_y**2 * torch.eye(len(gram))
        mean = forward(x_hat)
        law = torch.distributions.MultivariateNormal(mean, covariance)
        return law.log_prob(y)

    return log_density


def run(problem: Problem, method: str, seed: int) -> Tensor:
    """Samples [chains, *event] of a method in METHODS."""
    x = problem.first(seed)
    torch.manual_seed(seed + 1)
    return METHODS[method](problem)(x)


def _sampler(sampler: type[Any], **options: Any) -> Callable[..., Any]:
    """The class with the problem's number of steps."""

    def build(problem: Problem, denoiser: Any, **more: Any) -> Any:
        steps = problem.num_calls // options.get("iterations", 1)
        return sampler(denoiser, steps=steps, silent=True, **options, **more)

    return build


def _guided(make: Callable[..., Any]) -> Callable[[Problem], Any]:
    """A guided denoiser with azula's ancestral sampler."""

    def build(problem: Problem) -> Any:
        y, forward, _ = observation(problem)
        return _sampler(DDPMSampler)(problem, make(Wrapped(problem), y=y, A=forward, problem=problem))

    return build


def _mmps(denoiser: Denoiser, y: Tensor, A: Any, problem: Problem) -> MMPSDenoiser:
    noise = IsotropicCovariance(torch.tensor(problem.sigma_y**2))
    return MMPSDenoiser(denoiser, y, A, cov_y=noise, iterations=3)


def _jfps(denoiser: Denoiser, y: Tensor, A: Any, problem: Problem) -> JFPSDenoiser:
    noise, data = (
        IsotropicCovariance(torch.tensor(variance)) for variance in (problem.sigma_y**2, problem.data_std**2)
    )
    return JFPSDenoiser(denoiser, y, A, cov_y=noise, cov_x=data, iterations=_iterations(problem))


def _diffpir(denoiser: Denoiser, y: Tensor, A: Any, problem: Problem) -> DiffPIRDenoiser:
    return DiffPIRDenoiser(
        denoiser, y, A, var_y=problem.sigma_y**2, lmbda=problem.lam, iterations=_iterations(problem)
    )


def _tmpd(denoiser: Denoiser, y: Tensor, A: Any, problem: Problem) -> TMPDenoiser:
    return TMPDenoiser(denoiser, y, A, var_y=problem.sigma_y**2)


def _iterations(problem: Problem) -> int:
    """Enough for the solve to be exact, or nearly (the network is not called in it)."""
    return {"mask": 1, "matrix": 3, "blur": 5}[problem.operator]


def _pigdm(problem: Problem) -> PGDMSampler:
    y, forward, inverse = observation(problem)
    return _sampler(PGDMSampler, eta=1.0)(problem, Wrapped(problem), y=y, A=forward, A_inv=inverse)


def _dps_of_the_batch(problem: Problem) -> DPSSampler:
    """As released: one norm over the whole batch."""
    y, forward, _ = observation(problem)
    return _sampler(DPSSampler)(problem, Wrapped(problem), y=y, A=forward)


def _dps(problem: Problem) -> DPSSampler:
    """With the sum of the norms of every chain, handed in as the residual of an observation of 0."""
    y, forward, _ = observation(problem)

    def norms(x: Tensor) -> Tensor:
        return torch.linalg.vector_norm(y - forward(x), dim=-1).sum()

    return _sampler(DPSSampler, zeta=problem.weight)(problem, Wrapped(problem), y=torch.zeros(()), A=norms)


def _repaint(problem: Problem) -> RePaintSampler:
    shortened = problem.shortened(problem.num_calls // 3)
    return RePaintSampler(
        Wrapped(shortened),
        y=problem.y,
        mask=problem.array.bool(),
        iterations=3,
        eta=1.0,
        steps=shortened.num_calls,
        silent=True,
    )


def _tds(problem: Problem) -> TDSSampler:
    return _sampler(TDSSampler)(problem, Wrapped(problem), twist=twist(problem))


METHODS: dict[str, Callable[[Problem], Any]] = {
    "ddpm": lambda problem: _sampler(DDPMSampler)(problem, Wrapped(problem)),
    "ddim": lambda problem: _sampler(DDIMSampler)(problem, Wrapped(problem)),
    "pigdm": _pigdm,
    "mmps": _guided(_mmps),
    "tmpd": _guided(_tmpd),
    "prox": _guided(_jfps),
    "diffpir, ancestral": _guided(_diffpir),
    "dps": _dps,
    "dps of the batch": _dps_of_the_batch,
    "repaint": _repaint,
    "tds": _tds,
}
"""What azula has and rtc has too, by rtc's name."""
