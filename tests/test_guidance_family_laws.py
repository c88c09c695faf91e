"""The exact law that each method gives the scalar Gaussian: N(0, 1) prior, y = 1.2, sigma_y = .3.

The first of two values is seen, the second is not. The posterior is N(1.101, .0826) and N(0, 1). A method
that claims it must reach it; of the others the law is held to the recursion that the method is for one value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
from oracle import DOUBLE, Law, law_of, tensor
from test_guidance_family_exact import midpoint_law
from torch import Tensor

from rtc.exact import GaussianPrior
from rtc.guidance.langevin import AnnealedLangevin
from rtc.guidance.likelihood import DPS, classifier_guidance, likelihood_guidance
from rtc.guidance.pigdm import pigdm, r2
from rtc.guidance.proximal import LARGEST_VARIANCE, DiffPIR, Flower, ddnm, mpgd
from rtc.guidance.tweedie import mmps, tmpd, tweedie
from rtc.kernel import step_kernel
from rtc.measurement import LinearMeasurement
from rtc.path import STRAIGHT, VE, VP, Path, Time
from rtc.prior import Prior
from rtc.sample import sample, uniform_times
from rtc.solvers import DDIM, Euler, Solver
from rtc.table import Table

Y, NOISE = 1.2, 0.09
MEAN, VARIANCE = tensor([Y / (1.0 + NOISE), 0.0]), tensor([NOISE / (1.0 + NOISE), 1.0])


class Seen:
    """A = diag(1, 0)."""

    mask = tensor([1.0, 0.0])

    def forward(self, x: Tensor) -> Tensor:
        return self.mask * x

    def adjoint(self, y: Tensor) -> Tensor:
        return self.mask * y

    def solve(self, residual: Tensor, r2: Time, noise_variance: Time) -> Tensor:
        scale = r2 * self.mask + noise_variance
        return torch.where(scale > 0.0, residual / scale, 0.0)


MEASURED = LinearMeasurement(Seen(), tensor([Y, 0.0]), NOISE)


def standard(path: Path = STRAIGHT) -> GaussianPrior:
    return GaussianPrior(torch.zeros(2, dtype=DOUBLE), 1.0, path)


def law(prior: Prior, solver: str | Solver, num_steps: int) -> Law:
    return law_of(lambda noise: sample(prior, noise, num_steps, solver=solver), (2,))


def true_classifier(prior: GaussianPrior) -> Prior:
    seen = tensor([[1.0, 0.0]])
    return classifier_guidance(
        prior, lambda x, tau: prior.log_likelihood_at(x, tau, seen, tensor([Y]), NOISE)
    )


CLAIM_THE_POSTERIOR: dict[str, Callable[[GaussianPrior], Prior]] = {
    "pigdm": lambda prior: pigdm(prior, MEASURED),
    "tweedie": lambda prior: tweedie(prior, MEASURED),
    "mmps": lambda prior: mmps(prior, MEASURED, iterations=1),
    "tmpd": lambda prior: tmpd(prior, MEASURED),
    "classifier": true_classifier,
}


@pytest.mark.parametrize("path", [STRAIGHT, VP()], ids=["ot", "vp"])
@pytest.mark.parametrize("name", CLAIM_THE_POSTERIOR)
def test_what_claims_the_posterior_reaches_it(name: str, path: Path) -> None:
    guided, start = CLAIM_THE_POSTERIOR[name](standard(path)), 1e-3
    alpha, sigma = float(path.alpha(start)), float(path.sigma(start))
    there = Law(alpha * MEAN, torch.diag((alpha**2 * VARIANCE + sigma**2).sqrt()))
    errors = []
    for num_steps in (10, 20, 200):
        times = torch.linspace(start, 1.0 - 1e-6, num_steps + 1, dtype=DOUBLE)
        reached = midpoint_law(guided, there, times)
        spread = (reached.cov - torch.diag(VARIANCE)).abs().max()
        errors.append(max(float((reached.mean - MEAN).abs().max()), float(spread)))
    assert errors[1] < 0.3 * errors[0]  # second order, as the rule is
    assert errors[2] < 2e-5


@pytest.mark.parametrize("num_steps", [1, 3, 20])
@pytest.mark.parametrize("std", [1.0, 2.0])
def test_flower_that_draws_has_the_posterior_with_any_number_of_steps(num_steps: int, std: float) -> None:
    prior = GaussianPrior(torch.zeros(2, dtype=DOUBLE), std**2)
    reached = law(prior, Flower(MEASURED, data_std=std, gamma=1.0), num_steps)
    gain = std**2 / (std**2 + NOISE)
    torch.testing.assert_close(reached.mean, tensor([gain * Y, 0.0]), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(reached.cov, torch.diag(tensor([gain * NOISE, std**2])), rtol=1e-9, atol=1e-9)


class Step(NamedTuple):
    """x_next = slope x + shift + N(0, variance), of one value."""

    slope: float
    shift: float
    variance: float


Rule = Callable[[Path, float, float, bool], Step]
"""(path, tau, tau_next, whether the value is seen) -> the step that a method takes."""


def denoiser(path: Path, tau: float) -> float:
    """x1_hat / x of N(0, 1)."""
    alpha, sigma = float(path.alpha(tau)), float(path.sigma(tau))
    return alpha / (alpha**2 + sigma**2)


def estimate_then(eta: float, moved: Callable[[Path, float], tuple[float, float]]) -> Rule:
    """DDIM(eta) on an estimate that is slope * x1_hat + shift where the value is seen."""

    def rule(path: Path, tau: float, tau_next: float, seen: bool) -> Step:
        data, state, noise = step_kernel(path, tau, tau_next, eta)
        slope, shift = moved(path, tau) if seen else (1.0, 0.0)
        return Step(data * slope * denoiser(path, tau) + state, data * shift, noise**2)

    return rule


def theory(path: Path, tau: float) -> tuple[float, float]:
    gain = float(r2(tau, 1.0, path)) / NOISE  # (sigma^2 / alpha) J = r2
    return 1.0 - gain, gain * Y


def diffpir(path: Path, tau: float, tau_next: float, seen: bool, lam: float = 7.0, zeta: float = 0.3) -> Step:
    alpha, sigma = float(path.alpha(tau)), float(path.sigma(tau))
    alpha_next, sigma_next = float(path.alpha(tau_next)), float(path.sigma(tau_next))
    variance = sigma**2 / (lam * alpha**2) if alpha else LARGEST_VARIANCE
    gain = variance / (variance + NOISE) if seen else 0.0
    slope, shift = (1.0 - gain) * denoiser(path, tau), gain * Y
    old = math.sqrt(1.0 - zeta) * sigma_next / sigma  # of eps^y sigma = x - alpha x1_hat^y
    return Step(
        alpha_next * slope + old * (1.0 - alpha * slope),
        (alpha_next - old * alpha) * shift,
        zeta * sigma_next**2,
    )


def flower(path: Path, tau: float, tau_next: float, seen: bool) -> Step:
    gain = float(r2(tau, 1.0, path)) / (float(r2(tau, 1.0, path)) + NOISE) if seen else 0.0
    alpha, sigma = float(path.alpha(tau_next)), float(path.sigma(tau_next))
    return Step(alpha * (1.0 - gain) * denoiser(path, tau), alpha * gain * Y, sigma**2)


def dps(zeta: float, eta: float) -> Rule:
    def rule(path: Path, tau: float, tau_next: float, seen: bool) -> Step:
        (data, state, noise), h = step_kernel(path, tau, tau_next, eta), denoiser(path, tau)
        pull = 2.0 * zeta * h if seen else 0.0
        return Step(data * h + state - pull * h, pull * Y, noise**2)

    return rule


def langevin(step: float, steps: int, guided: bool = True) -> Rule:
    def rule(path: Path, tau: float, tau_next: float, seen: bool) -> Step:
        alpha, rho = float(path.alpha(tau)), float(path.sigma(tau)) / float(path.alpha(tau))
        trust = rho**2 / (NOISE + rho**2) if seen and guided else 0.0
        once = 1.0 - step * (1.0 - alpha * denoiser(path, tau) + trust)
        slope, shift, variance = 1.0, 0.0, 0.0
        for _ in range(steps):
            slope, shift = once * slope, once * shift + step * trust * Y
            variance = once**2 * variance + 2.0 * step * rho**2
        alpha_next = float(path.alpha(tau_next))
        return Step(slope * alpha_next / alpha, shift * alpha_next, variance * alpha_next**2)

    return rule


def recursion(rule: Rule, path: Path, num_steps: int) -> tuple[Tensor, Tensor]:
    """Means and variances of the seen and the missing value at the end."""
    times, ends = uniform_times(num_steps), []
    for seen in (True, False):
        mean, variance = 0.0, float(path.sigma(0.0)) ** 2
        for tau, tau_next in pairwise(times):
            slope, shift, noise = rule(path, tau, tau_next, seen)
            mean, variance = slope * mean + shift, slope**2 * variance + noise
        ends.append((mean, variance))
    return tensor(ends)[:, 0], tensor(ends)[:, 1]


class Heuristic(NamedTuple):
    guide: Callable[[Prior], Prior]
    solver: Solver
    rule: Rule
    paths: tuple[Path, ...] = (STRAIGHT, VP())


def as_it_is(prior: Prior) -> Prior:
    return prior


FINE = Table((*torch.logspace(1.0, -2.0, 100, dtype=DOUBLE).tolist(), 0.0), preserving=False)
HEURISTICS = {
    "ddnm": Heuristic(
        lambda p: ddnm(p, MEASURED), DDIM(0.85), estimate_then(0.85, lambda path, tau: (0.0, Y))
    ),
    "mpgd-squared": Heuristic(
        lambda p: mpgd(p, MEASURED, step=0.2, misfit="squared"),
        DDIM(),
        estimate_then(0.0, lambda path, tau: (0.6, 0.4 * Y)),
    ),
    "dps-theory": Heuristic(
        lambda p: likelihood_guidance(p, MEASURED), DDIM(1.0), estimate_then(1.0, theory), (STRAIGHT,)
    ),
    "dps-squared": Heuristic(as_it_is, DPS(MEASURED, 0.05, "squared", 1.0), dps(0.05, 1.0)),
    "dps-squared-ode": Heuristic(as_it_is, DPS(MEASURED, 0.05, "squared", 0.0), dps(0.05, 0.0)),
    "diffpir": Heuristic(as_it_is, DiffPIR(MEASURED), diffpir),
    "flower": Heuristic(as_it_is, Flower(MEASURED), flower),
    "score-ald": Heuristic(as_it_is, AnnealedLangevin(MEASURED), langevin(0.1, 5), (VE(10.0, 0.01), FINE)),
}
CASES = [(name, path) for name, heuristic in HEURISTICS.items() for path in heuristic.paths]


@pytest.mark.parametrize(("name", "path"), CASES, ids=[f"{n}-{type(p).__name__}" for n, p in CASES])
def test_a_heuristic_follows_its_recursion(name: str, path: Path) -> None:
    heuristic, num_steps = HEURISTICS[name], 20
    reached = law(heuristic.guide(standard(path)), heuristic.solver, num_steps)
    mean, variance = recursion(heuristic.rule, path, num_steps)
    torch.testing.assert_close(reached.mean, mean, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(reached.cov, torch.diag(variance), rtol=1e-8, atol=1e-8)


def test_ignoring_the_noise_gives_all_of_it_to_the_sample() -> None:
    mean, variance = recursion(HEURISTICS["ddnm"].rule, STRAIGHT, 200)
    assert (float(mean[0]), float(variance[0])) == pytest.approx((Y, 0.0), abs=1e-12)
    assert float(variance[1]) == pytest.approx(1.0, abs=0.03)


def test_without_a_measurement_langevin_dynamics_tend_to_the_prior() -> None:
    reached = law(standard(FINE), AnnealedLangevin(step=0.02, steps=3), 20)
    mean, variance = recursion(langevin(0.02, 3, guided=False), FINE, 20)
    torch.testing.assert_close(reached.mean, mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(reached.cov, torch.diag(variance), rtol=1e-9, atol=1e-9)
    # What is left is the variance of the level below which so many steps no longer mix.
    few, many = (float(recursion(langevin(0.02, n, guided=False), FINE, 100)[1][0]) for n in (30, 3000))
    assert abs(many - 1.0) < 0.02 < 0.1 < abs(few - 1.0)


@pytest.mark.parametrize("num_steps", [10, 50])
def test_one_step_covers_both_laws(num_steps: int) -> None:
    """The recursion of the plain sampler is the library's, so that what differs above is the guidance."""
    reached = law(standard(), Euler(), num_steps)
    mean, variance = recursion(estimate_then(0.0, lambda path, tau: (1.0, 0.0)), STRAIGHT, num_steps)
    torch.testing.assert_close(reached.cov, torch.diag(variance), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(reached.mean, mean, rtol=1e-9, atol=1e-9)
