"""rtc on a problem, by method: the library's functions with the settings that the peers are given."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Generator, Tensor

from benchmarks.peer.problems import Problem
from rtc.guidance.langevin import AnnealedLangevin
from rtc.guidance.likelihood import DPS, classifier_guidance, likelihood_guidance
from rtc.guidance.pigdm import pigdm, r2
from rtc.guidance.proximal import DiffPIR, prox
from rtc.guidance.tweedie import mmps, tmpd
from rtc.inverse.particles import tds
from rtc.inverse.replacement import Replacement
from rtc.inverse.schedule import jump_times
from rtc.inverse.spectral import ddrm
from rtc.kernel import normal
from rtc.measurement import Energy, LinearMeasurement
from rtc.operators.blur import Blur
from rtc.operators.dense import Matrix
from rtc.operators.masks import Mask
from rtc.path import Time, noise_to_signal
from rtc.prior import DenoiserPrior, Prior, from_denoiser, from_gaussian_denoiser
from rtc.sample import integrate, uniform_times
from rtc.solvers import DDIM, Solver
from rtc.table import ddpm, linear_betas

Run: TypeAlias = Callable[[Problem, Prior, LinearMeasurement, int], Tensor]
"""(problem, prior, measurement, seed) -> samples [chains, *event]."""


def prior_of(problem: Problem) -> DenoiserPrior:
    """The problem's denoiser on the problem's path."""
    return from_gaussian_denoiser(problem.network, problem.path)


def measurement_of(problem: Problem) -> LinearMeasurement:
    """The problem's y through one of our operators."""
    if problem.operator == "matrix":
        operator = Matrix(problem.array)
    elif problem.operator == "mask":
        operator = Mask(problem.array.bool())
    else:
        operator = Blur(problem.event, problem.array)
    y = operator.forward(problem.y) if problem.operator == "mask" else problem.y
    return LinearMeasurement(operator, y, problem.sigma_y**2)


def run(problem: Problem, method: str, seed: int) -> Tensor:
    """Samples [chains, *event] of a method in METHODS."""
    return METHODS[method](problem, prior_of(problem), measurement_of(problem), seed)


def _walk(
    problem: Problem, prior: Prior, solver: Solver, seed: int, times: list[float] | None = None
) -> Tensor:
    """From the common first point; the noise of the steps is that of a sampler seeded with seed + 1."""
    times = times or uniform_times(problem.num_calls)
    generator = Generator().manual_seed(seed + 1)
    return integrate(prior, problem.first(seed), times, solver=solver, generator=generator)


def _stepped(solver: Callable[[Problem, LinearMeasurement], Solver]) -> Run:
    """A method that is a solver."""
    return lambda problem, prior, measurement, seed: _walk(problem, prior, solver(problem, measurement), seed)


def _guided(guidance: Callable[[Prior, LinearMeasurement], Prior]) -> Run:
    """A method that is a guided prior, sampled as the peers sample it: ancestrally."""
    return lambda problem, prior, measurement, seed: _walk(
        problem, guidance(prior, measurement), DDIM(1.0), seed
    )


def _prox(problem: Problem, guided: Prior, measurement: LinearMeasurement, seed: int) -> Tensor:
    guided = prox(guided, measurement, lambda tau: r2(tau, problem.data_std, problem.path))
    return _walk(problem, guided, DDIM(1.0), seed)


def _diffpir(problem: Problem, _: Prior, measurement: LinearMeasurement, seed: int) -> Tensor:
    """On the levels of the release, which deepinv has built in, and with its clip of images to [0, 1]."""
    levels = replace(problem, rho=released_levels(problem))
    denoised = prior_of(levels)
    if problem.truth is not None:
        denoised = from_denoiser(lambda x, tau: prior_of(levels).denoise(x, tau).clamp(0.0, 1.0), levels.path)
    return _walk(levels, denoised, DiffPIR(measurement, lam=problem.lam), seed)


def released_levels(problem: Problem) -> tuple[float, ...]:
    """DDPM's levels, thinned as DiffPIR's release does, in the unit of the problem.

    The release has images in [-1, 1], twice ours; Gaussian data reach deepinv as .5 + .1 x1.
    """
    every = ddpm(linear_betas()).rho[:-1]
    last, scale = len(every) - 1, 2.0 * (1.0 if problem.truth is not None else 0.1)
    steps = range(problem.num_calls)
    chosen = [min(int(len(every) * math.sqrt(k / steps[-1])), last) for k in steps]
    return (*(every[index] / scale for index in chosen), 0.0)


def _at_the_noisy_point(
    prior: Prior, measurement: LinearMeasurement, generator: Generator | None = None
) -> Prior:
    """By the gradient of log N(y; A z, sigma_y^2 + rho^2) at the noisy point z = x / alpha itself.

    With a generator y is noised to the level first: score-SDE as deepinv has it.
    """
    path = prior.path

    def log_likelihood(x: Tensor, tau: Time) -> Tensor:
        rho, residual = noise_to_signal(path, tau), measurement.residual(x / path.alpha(tau))
        if generator is not None:
            residual = residual + rho * normal(residual, generator)
        return -0.5 * residual.square().flatten(1).sum(1) / (measurement.noise_variance + rho**2)

    return classifier_guidance(prior, log_likelihood)


def _score_sde_in_the_score(
    problem: Problem, prior: Prior, measurement: LinearMeasurement, seed: int
) -> Tensor:
    guided = _at_the_noisy_point(prior, measurement, Generator().manual_seed(seed + 2))
    return _walk(problem, guided, DDIM(1.0), seed)


def _dps_in_the_score(problem: Problem, prior: Prior, measurement: LinearMeasurement, seed: int) -> Tensor:
    """The residual's norm as an energy: DPS as deepinv has it."""
    norm = Energy(lambda x1: torch.linalg.vector_norm(measurement.residual(x1).flatten(1), dim=1))
    return _walk(problem, likelihood_guidance(prior, norm, scale=problem.weight), DDIM(1.0), seed)


def _dps_annealed(prior: Prior, measurement: LinearMeasurement) -> Prior:
    """y with the variance sigma_y^2 + rho^2, at x1_hat."""

    def denoise(x: Tensor, tau: Time) -> Tensor:
        variance = measurement.noise_variance + noise_to_signal(prior.path, tau) ** 2
        return likelihood_guidance(prior, replace(measurement, noise_variance=variance)).denoise(x, tau)

    return from_denoiser(denoise, prior.path)


def _diffpir_ancestral(problem: Problem, guided: Prior, measurement: LinearMeasurement, seed: int) -> Tensor:
    """DiffPIR's estimate with the ancestral sampler, which is what azula's DiffPIR is."""
    guided = prox(guided, measurement, lambda tau: noise_to_signal(problem.path, tau) ** 2 / problem.lam)
    return _walk(problem, guided, DDIM(1.0), seed)


def _until_the_noise(problem: Problem, measurement: LinearMeasurement) -> Replacement:
    """Replacement that stops where the noise of y, as it is put in, is about that of the level.

    Of a blur only the frequencies that are kept to .4 at least are put in: A^+ makes that of others large.
    """
    least = 0.4 if problem.operator == "blur" else 1.0
    if problem.operator == "blur":
        measurement = _without_weak(problem, least)
    stop = problem.path.tau_at(problem.sigma_y / least / math.sqrt(2.0))
    assert isinstance(stop, float)
    return Replacement(measurement, DDIM(1.0), stop)


def _without_weak(problem: Problem, least: float) -> LinearMeasurement:
    """The measurement through a blur, of which frequencies at or below `least` count as unseen."""
    return LinearMeasurement(Blur(problem.event, problem.array, least), problem.y, problem.sigma_y**2)


def _repaint(problem: Problem, prior: Prior, measurement: LinearMeasurement, seed: int) -> Tensor:
    """Every step three times."""
    fewer = problem.shortened(problem.num_calls // 3)
    times = jump_times(fewer.num_calls, 1, 3)
    return _walk(fewer, prior_of(fewer), Replacement(measurement), seed, times)


def _ddrm(problem: Problem, prior: Prior, measurement: LinearMeasurement, seed: int) -> Tensor:
    if problem.operator == "blur":  # what was seen too badly for the first level counts as unseen
        measurement = _without_weak(problem, 1.001 * problem.sigma_y / problem.rho[0])
    generator = Generator().manual_seed(seed + 1)
    return ddrm(prior, measurement, problem.shape, problem.num_calls, generator=generator)


def _tds(problem: Problem, prior: Prior, measurement: LinearMeasurement, seed: int) -> Tensor:
    generator = Generator().manual_seed(seed)
    particles = tds(prior, measurement, problem.chains, problem.event, problem.num_calls, generator=generator)
    return particles.draw(problem.chains, generator)


METHODS: dict[str, Run] = {
    "ddpm": lambda problem, prior, _, seed: _walk(problem, prior, DDIM(1.0), seed),
    "ddim": lambda problem, prior, _, seed: _walk(problem, prior, DDIM(0.0), seed),
    "pigdm": _guided(pigdm),
    "mmps": _guided(lambda prior, measurement: mmps(prior, measurement, iterations=3)),
    "tmpd": _guided(tmpd),
    "prox": _prox,
    "dps, in the score": _dps_in_the_score,
    "dps annealed": _guided(_dps_annealed),
    "dps": _stepped(lambda problem, measurement: DPS(measurement, problem.weight)),
    "diffpir": _diffpir,
    "score-sde, in the score": _score_sde_in_the_score,
    "score-sde": _stepped(_until_the_noise),
    "ilvr": _stepped(_until_the_noise),
    "diffpir, ancestral": _diffpir_ancestral,
    "pigdm, data_std": lambda problem, prior, measurement, seed: _walk(
        problem, pigdm(prior, measurement, data_std=problem.data_std), DDIM(1.0), seed
    ),
    "score-sde, to the end": _stepped(lambda _, measurement: Replacement(measurement, DDIM(1.0))),
    "score-ald": _guided(lambda prior, measurement: _at_the_noisy_point(prior, measurement)),
    "score-ald, Langevin": _stepped(lambda _, measurement: AnnealedLangevin(measurement, step=0.5, steps=1)),
    "repaint": _repaint,
    "ddrm": _ddrm,
    "ddrm, mended": _ddrm,  # ours as it is, beside theirs mended
    "tds": _tds,
}
"""Every method that a peer has too, by name."""
