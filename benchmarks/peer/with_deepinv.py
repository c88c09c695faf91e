"""deepinv's samplers on a problem, by method: thin adapters, the algorithms are deepinv's own.

Its sigma is our rho, its time runs from data to noise, and its images live in [0, 1] where we say so.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import deepinv
import torch
from deepinv.sampling import (
    DDRM,
    ALDDataFidelity,
    AncestralSolver,
    DiffPIR,
    DPSDataFidelity,
    EDMDiffusionSDE,
    ILVRDataFidelity,
    MomentMatchingDataFidelity,
    PiGDMDataFidelity,
    PosteriorDiffusion,
    ScoreSDEDataFidelity,
)
from torch import Tensor, nn

from benchmarks.peer.problems import Problem


def physics(problem: Problem, sigma_y: float | None = None) -> Any:
    """The problem's operator as deepinv's own physics, with its noise."""
    noise = deepinv.physics.GaussianNoise(problem.sigma_y if sigma_y is None else sigma_y)
    if problem.operator == "mask":
        return deepinv.physics.Inpainting(img_size=problem.event, mask=problem.array, noise_model=noise)
    if problem.operator == "blur":
        return deepinv.physics.BlurFFT(
            img_size=problem.event, filter=problem.array[None, None], noise_model=noise
        )
    u, values, v = torch.linalg.svd(problem.array, full_matrices=True)
    rows, columns = problem.array.shape

    def u_adjoint(y: Tensor) -> Tensor:
        return torch.nn.functional.pad(y @ u, (0, columns - rows))

    return deepinv.physics.DecomposablePhysics(
        U=lambda coordinates: coordinates[..., :rows] @ u.T,
        U_adjoint=u_adjoint,
        V=lambda coordinates: coordinates @ v,
        V_adjoint=lambda x: x @ v.T,
        mask=torch.nn.functional.pad(values, (0, columns - rows))[None],
        img_size=problem.event,
        noise_model=noise,
    )


def run(problem: Problem, method: str, seed: int) -> Tensor:
    """Samples [chains, *event] of a method in METHODS."""
    torch.manual_seed(seed + 1)
    return METHODS[method](problem, seed).detach()


def _batched(problem: Problem) -> Tensor:
    return problem.y.expand(problem.chains, *problem.y.shape[1:]).clone()


def _posterior(fidelity: Callable[[Problem], Any], eta: float = 1.0) -> Callable[[Problem, int], Tensor]:
    """The ancestral sampler (eta = 1; 0: DDIM) with a noisy data fidelity."""

    def sample(problem: Problem, seed: int) -> Tensor:
        levels = torch.tensor(problem.rho).flip(0)

        def sigma_t(t: Tensor) -> Tensor:
            return levels[t.round().long()]

        sde = EDMDiffusionSDE(
            sigma_t=sigma_t,
            variance_preserving=True,
            T=float(problem.num_calls),
            denoiser=problem.network,
            minus_one_one=False,
            dtype=torch.float32,
        )
        solver = AncestralSolver(
            timesteps=torch.arange(problem.num_calls, -1, -1).float(),
            eta=eta,
            rng=torch.Generator().manual_seed(seed + 1),
        )
        sampler = PosteriorDiffusion(
            data_fidelity=fidelity(problem),
            denoiser=problem.network,
            sde=sde,
            solver=solver,
            dtype=torch.float32,
            minus_one_one=False,
        )
        return sampler(_batched(problem), physics(problem), x_init=problem.first(seed))

    return sample


def _ddrm(problem: Problem, seed: int) -> Tensor:
    sampler = DDRM(problem.network, sigmas=list(problem.rho[:-1]))
    return sampler(_batched(problem), physics(problem))


def _ddrm_mended(problem: Problem, seed: int) -> Tensor:
    """DDRM with all of its noise; deepinv divides it by sqrt(2), right for the half spectrum of a blur."""
    numpy = SimpleNamespace(sqrt=lambda value: 1.0 if value == 2.0 else math.sqrt(value))
    with patch.object(deepinv.sampling.diffusion, "np", numpy):
        return _ddrm(problem, seed)


class _Rescaled(nn.Module):
    """A denoiser of .5 + scale x1."""

    def __init__(self, problem: Problem, scale: float) -> None:
        super().__init__()
        self.network, self.scale = problem.network, scale

    def forward(self, x: Tensor, sigma: Tensor, **_: Any) -> Tensor:
        return 0.5 + self.scale * self.network((x - 0.5) / self.scale, sigma / self.scale)


def _diffpir(problem: Problem, seed: int) -> Tensor:
    """deepinv's DiffPIR clips to [0, 1] and has its levels built in: Gaussian data go in as .5 + .1 x1."""
    images = problem.truth is not None
    scale = 1.0 if images else 0.1
    operator = physics(problem, scale * problem.sigma_y)
    y = _batched(problem)
    sampler = DiffPIR(
        problem.network if images else _Rescaled(problem, scale),
        deepinv.optim.data_fidelity.L2(),
        sigma=scale * problem.sigma_y,
        max_iter=problem.num_calls,
        zeta=0.3,
        lambda_=2.0 * problem.lam,
    )
    if images:
        return sampler(y, operator)
    grey = torch.full(problem.shape, 0.5)
    return (sampler(operator.A(grey) + scale * y, operator, x_init=grey) - 0.5) / scale


METHODS: dict[str, Callable[[Problem, int], Tensor]] = {
    "ddpm": _posterior(lambda _: None),
    "ddim": _posterior(lambda _: None, eta=0.0),
    "pigdm": _posterior(lambda _: PiGDMDataFidelity(cg_max_iter=10)),
    "mmps": _posterior(lambda _: MomentMatchingDataFidelity(cg_max_iter=3)),
    "dps, in the score": _posterior(lambda problem: DPSDataFidelity(weight=problem.weight)),
    "dps annealed": _posterior(lambda _: DPSDataFidelity(weight=1.0, guidance="annealed")),
    "score-ald": _posterior(lambda _: ALDDataFidelity()),
    "score-sde, in the score": _posterior(lambda _: ScoreSDEDataFidelity()),
    "ilvr": _posterior(lambda _: ILVRDataFidelity()),
    "ddrm": _ddrm,
    "ddrm, mended": _ddrm_mended,
    "diffpir": _diffpir,
}
"""What deepinv has and rtc has too, by rtc's name."""
