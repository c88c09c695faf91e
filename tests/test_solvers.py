"""One step of any prior: orders, laws, and what each solver is on a case that can be done by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from oracle import DOUBLE, PATHS, Law, golden, isotropic, law_of, tensor
from torch import Generator, Tensor

from rtc.errors import InvalidArgument
from rtc.exact import GaussianPrior
from rtc.kernel import step_kernel
from rtc.path import VP, Path
from rtc.prior import Prior, score, velocity
from rtc.sample import integrate, sample, uniform_times
from rtc.solvers import (
    DDIM,
    SOLVERS,
    Euler,
    Heun,
    Midpoint,
    Move,
    PredictorCorrector,
    ReverseSDE,
    Solver,
    named_solver,
)
from rtc.table import ddpm, linear_betas

GAUSSIAN = golden("gaussian")
MEAN, COV = tensor(GAUSSIAN["mean"])[:3], tensor(GAUSSIAN["cov"])[:3, :3]
TABLE = ddpm(linear_betas(100, 1e-3, 0.15))
EVERY: dict[str, Path] = PATHS | {"ddpm": TABLE}


def marginal(path: Path, tau: float) -> tuple[Tensor, Tensor]:
    alpha, sigma = path.alpha(tau), path.sigma(tau)
    return alpha * MEAN, alpha**2 * COV + sigma**2 * torch.eye(3, dtype=DOUBLE)


def errors(path: Path, solver: Solver, num_steps: int, start: float = 0.0) -> tuple[float, float]:
    """Of mean and (relatively) of covariance at tau = 1, having started with the exact law at `start`."""
    mean, cov = marginal(path, start)
    root, times = torch.linalg.cholesky(cov), uniform_times(num_steps, start)
    prior = GaussianPrior(MEAN, COV, path)
    law = law_of(lambda n: integrate(prior, mean + n @ root.T, times, solver=solver), (3,))
    mean, cov = marginal(path, 1.0)
    return float((law.mean - mean).norm()), float((law.cov - cov).norm() / cov.norm())


@pytest.mark.parametrize("path", EVERY)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_reaches_the_data_at_first_order_whatever_its_noise(path: str, eta: float) -> None:
    coarse, fine = (errors(EVERY[path], DDIM(eta), n) for n in (40, 80))
    assert 1.7 < coarse[1] / fine[1] < 2.1
    assert fine[1] < 0.1
    assert fine[0] < 1e-12  # the mean of a Gaussian is carried without error


@pytest.mark.parametrize("path", EVERY)
def test_euler_is_of_first_order(path: str) -> None:
    coarse, fine = (errors(EVERY[path], Euler(), n) for n in (60, 120))
    assert 1.6 < coarse[1] / fine[1] < 2.2
    assert fine[0] < 0.02


@pytest.mark.parametrize("solver", [Midpoint(), Heun()], ids=["midpoint", "heun"])
@pytest.mark.parametrize("path", PATHS)
def test_midpoint_and_heun_are_of_second_order(path: str, solver: Solver) -> None:
    coarse, fine = (errors(PATHS[path], solver, n) for n in (40, 80))
    assert 3.7 < coarse[1] / fine[1] < 8.5  # 8 is the midpoint rule's luck with the straight path
    assert fine[1] < 0.02
    assert coarse[0] < 1e-12 or 3.7 < coarse[0] / fine[0] < 4.4


@pytest.mark.parametrize("path", EVERY)
@pytest.mark.parametrize("kappa", [0.0, 0.5, 1.0])
def test_the_reverse_sde_has_the_marginals_of_the_ode_at_every_noise(path: str, kappa: float) -> None:
    coarse, fine = (errors(EVERY[path], ReverseSDE(kappa), n, start=0.05) for n in (40, 80))
    assert fine[1] < (0.4 if path.startswith("ve") else 0.03)  # Euler's steps on VE are long
    assert fine[1] < 0.8 * coarse[1] or fine[1] < 0.005
    assert fine[0] < 0.03


def test_without_noise_the_reverse_sde_is_eulers_method() -> None:
    prior = GaussianPrior(MEAN, COV, PATHS["cosine"])
    x = torch.randn(4, 3, generator=Generator().manual_seed(0), dtype=DOUBLE)
    found, expected = ReverseSDE(0.0)(prior, x, 0.3, 0.4), Euler()(prior, x, 0.3, 0.4)
    torch.testing.assert_close(found.x, expected.x)
    torch.testing.assert_close(found.x1_hat, expected.x1_hat)


def test_a_step_of_the_reverse_sde_is_euler_maruyama() -> None:
    """dx = [-beta x / 2 - beta score] du + sqrt(beta) dW in the noise time u = 1 - tau of VP, backwards."""
    prior, tau, length = GaussianPrior(MEAN, COV, VP(0.1, 20.0)), 0.6, 1e-3
    beta = 0.1 + (1.0 - tau) * 19.9
    x = torch.randn(2, 3, generator=Generator().manual_seed(0), dtype=DOUBLE)
    noise = torch.randn(2, 3, generator=Generator().manual_seed(1), dtype=DOUBLE)
    drift = 0.5 * beta * x + beta * score(prior, x, tau)
    expected = x + length * drift + math.sqrt(beta * length) * noise
    found = ReverseSDE(1.0)(prior, x, tau, tau + length, Generator().manual_seed(1)).x
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_the_reverse_sde_is_refused_where_it_is_singular() -> None:
    with pytest.raises(InvalidArgument, match="start later"):
        sample(isotropic(0.0, 1.0), torch.zeros(1, 1, dtype=DOUBLE), 3, solver="reverse-sde")
    ReverseSDE()(isotropic(0.0, 1.0), torch.zeros(1, 1, dtype=DOUBLE), 0.001, 0.01)


def test_heun_and_midpoint_are_the_textbook_rules() -> None:
    prior = GaussianPrior(MEAN, COV, PATHS["cosine"])
    x, tau, after = torch.randn(2, 3, generator=Generator().manual_seed(0), dtype=DOUBLE), 0.3, 0.45
    first = velocity(prior, x, tau)
    ahead = velocity(prior, x + 0.15 * first, after)
    torch.testing.assert_close(Heun()(prior, x, tau, after).x, x + 0.15 * 0.5 * (first + ahead))
    middle = velocity(prior, x + 0.075 * first, 0.375)
    torch.testing.assert_close(Midpoint()(prior, x, tau, after).x, x + 0.15 * middle)
    last = Heun()(prior, x, 0.9, 1.0).x
    torch.testing.assert_close(last, Euler()(prior, x, 0.9, 1.0).x)


# Langevin


def no_step(prior: Prior, x: Tensor, tau: float, tau_next: float, generator: Generator | None = None) -> Move:
    """A predictor that leaves the point where it is."""
    return Move(x, x)


@pytest.mark.parametrize("path", ["cosine", "ve_0.01_50"])
def test_the_corrector_settles_on_the_marginal_up_to_the_bias_of_its_step(path: str) -> None:
    """On N(0, s I) the steps x += g score + sqrt(2 g) n settle on the variance s / (1 - g / 2s).

    In many dimensions g = 2 alpha^2 (snr |n| / |score|)^2 is 2 alpha^2 snr^2 s, so that g / 2s is
    (alpha snr)^2.
    """
    snr, along = 0.3, PATHS[path]
    tau = float(along.tau_at(1.3))
    variance = along.alpha(tau) ** 2 * 0.8 + along.sigma(tau) ** 2
    prior, generator = GaussianPrior(torch.zeros(400, dtype=DOUBLE), 0.8, along), Generator().manual_seed(0)
    x = 2.0 * math.sqrt(variance) * torch.randn(100, 400, generator=generator, dtype=DOUBLE)
    corrector = PredictorCorrector(no_step, snr=snr, steps=150)
    settled = corrector(prior, x, tau - 0.1, tau, generator).x
    expected = variance / (1.0 - (along.alpha(tau) * snr) ** 2)
    assert float(settled.var()) == pytest.approx(expected, rel=0.025)
    assert abs(float(settled.mean())) < 4.0 * math.sqrt(expected / 40_000)


def test_predictor_and_corrector_together_sample_the_prior() -> None:
    prior = GaussianPrior(torch.full((100,), 0.5, dtype=DOUBLE), 0.8, VP())
    noise = torch.randn(60, 100, generator=Generator().manual_seed(0), dtype=DOUBLE)
    solver = PredictorCorrector(DDIM(1.0), snr=0.1, steps=1)
    drawn = sample(prior, noise, 200, solver=solver, generator=Generator().manual_seed(1))
    assert float(drawn.mean()) == pytest.approx(0.5, abs=0.05)
    assert float(drawn.var()) == pytest.approx(0.8, rel=0.08)


def test_corrections_repair_a_predictor_that_is_biased() -> None:
    """Five deterministic steps lose a quarter of the variance; corrected ones do not."""
    prior = GaussianPrior(torch.zeros(100, dtype=DOUBLE), 0.8, VP())
    noise = torch.randn(60, 100, generator=Generator().manual_seed(0), dtype=DOUBLE)
    times = [*uniform_times(8)[:-1], 0.95]
    wanted = 0.8 * VP().alpha(0.95) ** 2 + VP().sigma(0.95) ** 2

    def bias(solver: Solver) -> float:
        drawn = integrate(prior, noise, times, solver=solver, generator=Generator().manual_seed(1))
        return abs(float(drawn.var()) - float(wanted))

    assert bias(PredictorCorrector(DDIM(0.0), steps=20)) < 0.3 * bias(DDIM(0.0))


def test_each_element_of_a_batch_is_corrected_by_itself() -> None:
    prior, generator = GaussianPrior(torch.zeros(5, dtype=DOUBLE), 0.8), Generator().manual_seed(0)
    x = torch.randn(1, 5, generator=generator, dtype=DOUBLE)
    alone = PredictorCorrector()(prior, x, 0.4, 0.5, Generator().manual_seed(1)).x

    def first_of_two(other: Tensor) -> Tensor:
        """The generator's first numbers go to the first element, whatever is next to it."""
        noise = Generator().manual_seed(1)
        return PredictorCorrector(DDIM(0.0))(prior, torch.cat([x, other]), 0.4, 0.5, noise).x[:1]

    torch.testing.assert_close(first_of_two(x), first_of_two(100.0 * x), rtol=1e-12, atol=1e-12)
    assert torch.isfinite(alone).all()


def test_nothing_is_corrected_where_no_noise_is_left() -> None:
    prior, x = isotropic(0.3, 0.5), torch.ones(1, 1, 1, dtype=DOUBLE)
    move = PredictorCorrector(DDIM())(prior, x, 0.9, 1.0)
    assert torch.equal(move.x, move.x1_hat)


# All of them


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_returns_the_estimate_at_the_time_it_starts_from(name: str) -> None:
    prior = GaussianPrior(MEAN, COV, VP())
    x = torch.randn(2, 3, generator=Generator().manual_seed(0), dtype=DOUBLE)
    move = SOLVERS[name](prior, x, 0.3, 0.4, Generator().manual_seed(0))
    assert torch.equal(move.x1_hat, prior.denoise(x, 0.3))
    again = SOLVERS[name](prior, x, 0.3, 0.4, Generator().manual_seed(0))
    assert torch.equal(move.x, again.x)
    assert isinstance(SOLVERS[name], Solver)
    assert named_solver(name) is named_solver(SOLVERS[name])


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_solver_keeps_the_dtype(name: str, dtype: torch.dtype) -> None:
    x = torch.ones(2, 3, dtype=dtype)
    move = SOLVERS[name](GaussianPrior(MEAN, COV, VP()), x, 0.3, 0.4, Generator().manual_seed(0))
    assert (move.x.dtype, move.x1_hat.dtype) == (dtype, dtype)


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_samples_data_of_another_scale(name: str) -> None:
    """The law, from 400 draws in 50 dimensions, of N(3, .04 I)."""
    prior = GaussianPrior(torch.full((50,), 3.0, dtype=DOUBLE), 0.04, VP())
    noise = torch.randn(400, 50, generator=Generator().manual_seed(0), dtype=DOUBLE)
    drawn = sample(prior, noise, 150, solver=name, generator=Generator().manual_seed(1))
    assert float(drawn.mean()) == pytest.approx(3.0, abs=0.08)
    assert float(drawn.var()) == pytest.approx(0.04, rel=0.25)  # ancestral steps lose most, .007


def test_the_law_of_noise_is_the_exact_recursion_of_mean_and_variance() -> None:
    """The test's own instrument: law_of against the three numbers of each step."""
    path, times, eta = PATHS["cosine"], uniform_times(7), 0.7
    mean, variance, prior = 0.0, 1.0, isotropic(0.3, 0.5, path=path)
    for tau, tau_next in pairwise(times):
        kernel = step_kernel(path, tau, tau_next, eta)
        shrink = path.alpha(tau) * 0.5 / (path.alpha(tau) ** 2 * 0.5 + path.sigma(tau) ** 2)
        slope = kernel.data * shrink + kernel.state
        mean = slope * mean + kernel.data * (1.0 - shrink * path.alpha(tau)) * 0.3
        variance = slope**2 * variance + kernel.noise**2
    law: Law = law_of(lambda n: sample(prior, n, 7, solver=DDIM(eta)), (1, 1))
    assert (float(law.mean), float(law.cov)) == pytest.approx((mean, variance), rel=1e-12)
