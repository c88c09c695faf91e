from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from oracle import DOUBLE, GaussianPrior, golden, law_of
from test_spectral import PATHS, correlated, given_noise, problem
from torch import Tensor

from rtc.errors import InvalidArgument, Unsupported
from rtc.guidance.proximal import ddnm as ddnm_prior
from rtc.inverse.replacement import DDNM, Replacement, ccdf, ddnm, ilvr, repaint, score_sde
from rtc.inverse.schedule import jump_times, travel
from rtc.inverse.start import diffused
from rtc.kernel import step_kernel
from rtc.measurement import LinearMeasurement
from rtc.operators import Downsample, Matrix, Nonlinear
from rtc.path import STRAIGHT, VE
from rtc.prior import from_denoiser
from rtc.sample import integrate, uniform_times
from rtc.solvers import DDIM, Move
from rtc.table import Table, ddpm, linear_betas

SCHEDULES = golden("spectral")["schedules"]
METHODS = {
    "score-sde": score_sde,
    "ilvr": ilvr,
    "repaint": partial(repaint, jump=2, repeats=2),
    "ccdf": ccdf,
    "ddnm": partial(ddnm, jump=2, repeats=2),
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- the step


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("tau_next", [0.3, 0.8, 1.0])
def test_the_measured_part_is_alpha_y_plus_noise_of_the_new_level_and_the_rest_is_the_solvers(
    path: str, tau_next: float
) -> None:
    operator = Matrix(torch.randn(3, 5, generator=seeded(7), dtype=DOUBLE))
    measurement = LinearMeasurement(operator, torch.ones(3, dtype=DOUBLE))
    prior, a = correlated(PATHS[path]), operator.forward
    x = torch.randn(4, 5, generator=seeded(0), dtype=DOUBLE)
    moved = DDIM(0.0)(prior, x, 0.1, tau_next).x
    replaced = Replacement(measurement, DDIM(0.0))(prior, x, 0.1, tau_next, seeded(1)).x
    noise = torch.randn(4, 5, generator=seeded(1), dtype=DOUBLE)
    alpha, sigma = PATHS[path].alpha(tau_next), PATHS[path].sigma(tau_next)
    torch.testing.assert_close(a(replaced), alpha * measurement.y + sigma * a(noise), rtol=1e-12, atol=1e-12)
    pinv = operator.pinv
    torch.testing.assert_close(replaced - pinv(a(replaced)), moved - pinv(a(moved)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("stop", [0.0, 0.5, 1.0])
def test_nothing_is_replaced_after_the_stop_time(stop: float) -> None:
    measurement, prior = problem(0.0), correlated(STRAIGHT)
    step, x = Replacement(measurement, DDIM(0.0), stop), torch.ones(1, 5, dtype=DOUBLE)
    for tau, tau_next in pairwise(uniform_times(10)):
        plain = DDIM(0.0)(prior, x, tau, tau_next).x
        assert torch.equal(step(prior, x, tau, tau_next, seeded(0)).x, plain) == (tau_next > stop)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", METHODS)
def test_the_output_satisfies_the_measurement(method: str, path: str) -> None:
    measurement = problem(0.0)
    out = METHODS[method](correlated(PATHS[path]), measurement, (6, 5), 10, generator=seeded(0))
    assert measurement.residual(out).abs().max() < 1e-12
    assert out.std(0).max() > 0.05  # and what is not seen is drawn, not fixed


def test_replacement_does_not_reach_the_posterior_and_its_limit_is_a_closed_form() -> None:
    """N(0, [[1, c], [c, 1]]), x_1 = 1 seen exactly: the posterior mean of x_2 is c.

    In the limit of many ancestral steps m' = -score(m, s), s = sigma^2, with the seen mean at 1 always, is
    dm/ds = ((1 + s) m - c) / ((1 + s)^2 - c^2); its solution that vanishes at infinity is, at s = 0,
    (1 - sqrt(1 - c^2)) / c: .5 for c = .8.
    """
    c = 0.8
    cov = torch.tensor([[1.0, c], [c, 1.0]], dtype=DOUBLE)
    prior = GaussianPrior(torch.zeros(2, dtype=DOUBLE), cov)
    measurement = LinearMeasurement(Matrix(torch.eye(2, dtype=DOUBLE)[:1]), torch.ones(1, dtype=DOUBLE))
    limit, errors = (1.0 - (1.0 - c**2) ** 0.5) / c, []
    for num_steps in (25, 50, 100):
        law = law_of(lambda noise, n=num_steps: score_sde(prior, measurement, tuple(noise.shape), n), (2,))
        errors.append(abs(float(law.mean[1]) - limit))
    assert errors[-1] < 0.0065
    assert errors[0] / errors[1] == pytest.approx(2.0, abs=0.05)  # first order in the step
    assert errors[1] / errors[2] == pytest.approx(2.0, abs=0.05)


def test_repaints_jumps_bring_replacement_nearer_to_the_posterior() -> None:
    """The setting of the test above; exact posterior mean .8."""
    cov = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=DOUBLE)
    prior = GaussianPrior(torch.zeros(2, dtype=DOUBLE), cov)
    measurement = LinearMeasurement(Matrix(torch.eye(2, dtype=DOUBLE)[:1]), torch.ones(1, dtype=DOUBLE))

    def mean_of_the_unseen(repeats: int) -> float:
        def run(noise: Tensor) -> Tensor:
            return repaint(prior, measurement, tuple(noise.shape), 20, jump=4, repeats=repeats)

        return float(law_of(run, (2,)).mean[1])

    means = [mean_of_the_unseen(repeats) for repeats in (1, 2, 6)]
    assert means[0] < 0.5 < means[1] < means[2] < 0.8  # .5: no number of steps without jumps gets past it


# --- schedules


@pytest.mark.parametrize("row", SCHEDULES["repaint"], ids=lambda row: f"{row['t_T']}-{row['jump_length']}")
def test_repaints_schedule_is_the_reference_one(row: dict) -> None:
    count = row["t_T"]
    times = jump_times(count, row["jump_length"], row["jump_n_sample"])
    assert [round((1.0 - tau) * count) - 1 for tau in times] == row["times"]


@pytest.mark.parametrize("row", SCHEDULES["ddnm_time_travel"], ids=lambda row: f"{row['travel_length']}")
def test_ddnms_schedule_is_the_reference_one(row: dict) -> None:
    count = row["T_sampling"]
    times = jump_times(count, row["travel_length"], row["travel_repeat"])
    assert [round((1.0 - tau) * count) - 1 for tau in times] == row["times"]


def test_repaints_default_makes_2410_calls_and_2160_steps_back() -> None:
    default, steps = SCHEDULES["repaint_default"], list(pairwise(jump_times(250, 10, 10)))
    assert len(steps) + 1 == default["length"]
    assert sum(after > before for before, after in steps) == default["denoise_steps"]
    assert sum(after < before for before, after in steps) == default["renoise_steps"]


def test_one_repeat_is_no_jump() -> None:
    assert jump_times(7, 3, 1) == uniform_times(7)


def test_time_travel_draws_afresh_from_the_uncorrected_estimate() -> None:
    estimate = torch.tensor([[2.0, -1.0]], dtype=DOUBLE)
    reached: list[tuple[float, Tensor]] = []

    def step(prior, x, tau, tau_next, generator=None):
        reached.append((tau, x))
        return Move(torch.full_like(x, 99.0), estimate)

    noise = torch.tensor([[0.5, -0.3]], dtype=DOUBLE)
    with given_noise(lambda call: noise):
        travel(from_denoiser(lambda x, tau: x), 0 * estimate, [0.0, 0.5, 0.9, 0.6, 0.3, 1.0], solver=step)
    assert reached[-1][0] == 0.3
    torch.testing.assert_close(reached[-1][1], 0.3 * estimate + 0.7 * noise)


def test_ddnms_step_is_ddim_on_the_corrected_estimate_but_remembers_the_uncorrected_one() -> None:
    measurement, prior = problem(0.3), correlated(STRAIGHT)
    x = torch.randn(3, 5, generator=seeded(0), dtype=DOUBLE)
    move = DDNM(measurement, 0.85)(prior, x, 0.3, 0.5, seeded(1))
    guided = DDIM(0.85)(ddnm_prior(prior, measurement), x, 0.3, 0.5, seeded(1))
    torch.testing.assert_close(move.x, guided.x, rtol=1e-12, atol=1e-12)
    assert torch.equal(move.x1_hat, prior.denoise(x, 0.3))
    assert not torch.allclose(guided.x1_hat, move.x1_hat)


# --- ILVR


def low_pass(factor: int) -> Downsample:
    """The mean of blocks of an image of 8 x 8; A^+ A puts their mean back in their place."""
    return Downsample((8, 8), factor)


def phi(x: Tensor, factor: int) -> Tensor:
    operator = low_pass(factor)
    return operator.adjoint(operator.solve(operator.forward(x), 1.0, 0.0))


def test_down_and_up_again_is_a_projection() -> None:
    x = torch.randn(3, 8, 8, generator=seeded(0), dtype=DOUBLE)
    torch.testing.assert_close(phi(phi(x, 4), 4), phi(x, 4), rtol=1e-12, atol=1e-12)
    blocks = x.unflatten(2, (2, 4)).unflatten(1, (2, 4)).mean((2, 4))
    torch.testing.assert_close(phi(x, 4), blocks.repeat_interleave(4, 1).repeat_interleave(4, 2))


@pytest.mark.parametrize("factor", [2, 4])
def test_ilvr_shares_the_low_frequencies_of_its_reference_and_so_those_of_any_lower_band(factor: int) -> None:
    reference = torch.randn(1, 8, 8, generator=seeded(4), dtype=DOUBLE)
    measurement = LinearMeasurement(low_pass(factor), low_pass(factor).forward(reference))
    out = ilvr(correlated(STRAIGHT, 8, 8), measurement, (3, 8, 8), 20, generator=seeded(0))
    for coarser in (factor, 2 * factor, 8):  # R_N is a part of R_M where N divides M
        torch.testing.assert_close(phi(out, coarser), phi(reference, coarser).expand(3, -1, -1))
    assert (phi(out, factor // 2) - phi(reference, factor // 2)).abs().max() > 0.1


def test_an_ilvr_step_forgets_the_low_frequencies_that_it_came_with_and_keeps_the_high_ones() -> None:
    """One step of two points: their low bands meet, and their high bands differ as the solver left them."""
    step = Replacement(LinearMeasurement(low_pass(4), torch.zeros(2, 2, dtype=DOUBLE)), DDIM(0.0))
    prior, x = correlated(STRAIGHT, 8, 8), torch.randn(2, 1, 8, 8, generator=seeded(0), dtype=DOUBLE)
    first, second = (step(prior, each, 0.4, 0.5, seeded(1)).x for each in x)
    plain = DDIM(0.0)(prior, x[0], 0.4, 0.5).x - DDIM(0.0)(prior, x[1], 0.4, 0.5).x
    torch.testing.assert_close(phi(first, 4), phi(second, 4), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(first - second, plain - phi(plain, 4), rtol=1e-12, atol=1e-12)
    assert (first - second).norm() < plain.norm()


def test_after_its_stop_time_ilvr_lets_the_prior_move_the_low_frequencies() -> None:
    """They are alpha reference + sigma n when replacement ends; from there on the prior's own ODE goes."""
    measurement = LinearMeasurement(low_pass(4), torch.full((2, 2), 3.0, dtype=DOUBLE))
    points: list[Tensor] = []
    prior, rng = correlated(STRAIGHT, 8, 8), seeded(0)
    out = ilvr(
        prior, measurement, (1, 8, 8), 10, stop=0.5, solver="ddim", generator=seeded(0),
        callback=lambda step, tau, x, x1_hat: points.append(x),
    )  # fmt: skip
    noises = [torch.randn(1, 8, 8, generator=rng, dtype=DOUBLE) for _ in range(6)]  # the start, and 5 steps
    low = low_pass(4).forward
    torch.testing.assert_close(low(points[5]), 0.5 * measurement.y + 0.5 * low(noises[5]))
    torch.testing.assert_close(out, integrate(prior, points[5], uniform_times(5, 0.5), solver=DDIM()))
    assert measurement.residual(out).abs().max() > 0.3


# --- CCDF


def test_an_estimate_that_is_diffused_has_the_law_from_which_ccdf_counts_its_start_error() -> None:
    """E |x' - x|^2 = a^2 |estimate - truth|^2 + 2 b^2 n for independent noises: a, b are alpha, sigma."""
    path, estimate = PATHS["vp"], torch.linspace(0.0, 1.0, 5, dtype=DOUBLE)
    law = law_of(lambda noise: diffused(path, estimate.expand(noise.shape), 0.4), (5,))
    torch.testing.assert_close(law.mean, path.alpha(0.4) * estimate)
    torch.testing.assert_close(law.cov, path.sigma(0.4) ** 2 * torch.eye(5, dtype=DOUBLE))


DDPM_PATH = ddpm(linear_betas(100, 1e-3, 0.2))
SMLD_PATH = Table((10.0, 5.0, 2.0, 1.0, 0.3, 0.1, 0.0), preserving=False)


@pytest.mark.parametrize(
    ("path", "eta", "factor"),
    [
        (DDPM_PATH, 1.0, lambda a, s, a_next, s_next: (a / a_next) * s_next**2 / s**2),
        (SMLD_PATH, 1.0, lambda a, s, a_next, s_next: s_next**2 / s**2),
        (SMLD_PATH, 0.0, lambda a, s, a_next, s_next: s_next / s),
    ],
    ids=["ddpm", "smld", "ddim"],
)
def test_a_step_contracts_towards_an_estimate_by_the_factor_of_ccdf(path: Table, eta: float, factor) -> None:
    """sqrt(alpha_i) (1 - abar_{i-1}) / (1 - abar_i); s_{i-1}^2 / s_i^2; s_{i-1} / s_i: each below 1."""
    prior = from_denoiser(lambda x, tau: torch.full_like(x, 0.7), path)
    x = torch.tensor([[1.0], [3.0]], dtype=DOUBLE)
    times = uniform_times(len(path.rho) - 1)
    for tau, tau_next in pairwise(times):
        end = (
            DDIM(eta)(prior, x[:1], tau, tau_next, seeded(0)).x,
            DDIM(eta)(prior, x[1:], tau, tau_next, seeded(0)).x,
        )
        ends = path.alpha(tau), path.sigma(tau), path.alpha(tau_next), path.sigma(tau_next)
        contraction = float(end[1] - end[0]) / 2.0
        assert contraction == pytest.approx(factor(*ends), rel=1e-9, abs=1e-12)
        assert contraction == pytest.approx(step_kernel(path, tau, tau_next, eta).state, rel=1e-9, abs=1e-12)
        assert contraction < 1.0


def test_the_error_of_a_first_estimate_shrinks_geometrically_and_at_once_where_it_is_measured() -> None:
    path, num_steps, tau0 = VE(20.0, 0.05), 8, 0.4
    prior = from_denoiser(lambda x, tau: torch.zeros_like(x), path)
    measurement = LinearMeasurement(Matrix(torch.eye(3, dtype=DOUBLE)[:1]), torch.ones(1, dtype=DOUBLE))
    estimates = torch.tensor([[1.0, 2.0, 3.0], [5.0, -1.0, 7.0]], dtype=DOUBLE)
    out = [
        ccdf(prior, measurement, (1, 3), num_steps, tau0=tau0, estimate=each[None], generator=seeded(0))
        for each in estimates
    ]
    gap, times = estimates[1] - estimates[0], uniform_times(num_steps, tau0)
    factors = [step_kernel(path, tau, tau_next, 1.0).state for tau, tau_next in pairwise(times)]
    product = float(torch.tensor(factors, dtype=DOUBLE).prod())
    torch.testing.assert_close((out[1] - out[0])[0, 1:], product * gap[1:], rtol=1e-9, atol=1e-12)
    assert abs(float((out[1] - out[0])[0, 0])) < 1e-12
    assert product <= max(factors) ** num_steps + 1e-15  # lam^N'


def test_ccdf_from_the_beginning_is_replacement_from_noise() -> None:
    measurement, prior = problem(0.0), correlated(STRAIGHT)
    late = ccdf(prior, measurement, (2, 5), 10, tau0=0.0, generator=seeded(0))
    assert torch.equal(late, score_sde(prior, measurement, (2, 5), 10, generator=seeded(0)))


def test_ccdf_starts_from_the_back_projected_measurement_if_nothing_better_is_given() -> None:
    measurement, prior = problem(0.0), correlated(STRAIGHT)
    a = torch.stack([measurement.operator.forward(row) for row in torch.eye(5, dtype=DOUBLE)], 1)
    first = (torch.linalg.pinv(a) @ measurement.y).expand(2, -1)
    given = ccdf(prior, measurement, (2, 5), 5, estimate=first, generator=seeded(0))
    torch.testing.assert_close(ccdf(prior, measurement, (2, 5), 5, generator=seeded(0)), given)


# --- every method


@pytest.mark.parametrize("method", METHODS)
def test_elements_of_a_batch_do_not_see_each_other(method: str) -> None:
    measurement, prior = problem(0.0), correlated(STRAIGHT)
    noise = torch.randn(100, 3, 5, generator=seeded(0), dtype=DOUBLE)
    ends = []
    for rows in (slice(0, 3), slice(1, 2)):
        ys = torch.stack([measurement.y * (k + 1) for k in range(3)])[rows]
        with given_noise(lambda call, rows=rows: noise[call, rows]):
            ends.append(METHODS[method](prior, replace(measurement, y=ys), (len(ys), 5), 6))
    torch.testing.assert_close(ends[0][1:2], ends[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", METHODS)
def test_the_result_has_the_dtype_of_y_and_every_call_is_seen(method: str, dtype: torch.dtype) -> None:
    calls, seen = [], []

    def denoise(x, tau):
        calls.append(tau)
        return 0.5 * x

    measurement = LinearMeasurement(
        Matrix(torch.tensor([[1.0, 0.5]], dtype=dtype)), torch.ones(1, dtype=dtype)
    )
    callback = lambda step, tau, x, x1_hat: seen.append((step, tau))  # noqa: E731
    out = METHODS[method](from_denoiser(denoise), measurement, (3, 2), 6, callback=callback)
    assert (out.dtype, out.shape, out.requires_grad) == (dtype, (3, 2), False)
    assert seen == list(enumerate(calls))


def test_what_replacement_cannot_use_is_refused_in_one_line() -> None:
    measurement, prior = problem(0.0), correlated(STRAIGHT)

    square = Nonlinear(lambda x: x**2, (5,), torch.zeros(5, dtype=DOUBLE))
    nonlinear = LinearMeasurement(square, torch.ones(5, dtype=DOUBLE))
    for method in METHODS.values():
        with pytest.raises(Unsupported, match="Nonlinear is not linear"):
            method(prior, nonlinear, (1, 5), 5)
        with pytest.raises(InvalidArgument, match="y has shape"):
            method(prior, replace(measurement, y=torch.zeros(2, dtype=DOUBLE)), (1, 5), 5)
        with pytest.raises(InvalidArgument, match="num_steps is 0"):
            method(prior, measurement, (1, 5), 0)
    with pytest.raises(InvalidArgument, match=r"stop is 1\.5"):
        ilvr(prior, measurement, (1, 5), 5, stop=1.5)
    with pytest.raises(InvalidArgument, match="start is 1"):
        ccdf(prior, measurement, (1, 5), 5, tau0=1.0)
    with pytest.raises(InvalidArgument, match=r"estimate has shape \(5,\); it must be \(1, 5\)"):
        ccdf(prior, measurement, (1, 5), 5, estimate=prior.mean)
    with pytest.raises(InvalidArgument, match="repeats 0"):
        repaint(prior, measurement, (1, 5), 5, repeats=0)
    with pytest.raises(InvalidArgument, match="'rk9'"):
        score_sde(prior, measurement, (1, 5), 5, solver="rk9")
