from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import DOUBLE, PATHS, Matrix, golden, isotropic, law_of, law_of_sampler, tensor
from torch import Tensor

from rtc.errors import InvalidArgument
from rtc.exact import GaussianPrior
from rtc.guidance.pigdm import guide
from rtc.measurement import LinearMeasurement
from rtc.path import OT, VE
from rtc.prior import from_denoiser, from_velocity
from rtc.sample import integrate, sample, uniform_times
from rtc.solvers import DDIM, Euler, named_solver
from rtc.table import Table

GAUSSIAN = golden("gaussian")
A, Y, NOISE = tensor(GAUSSIAN["A"]), tensor(GAUSSIAN["y"]), GAUSSIAN["sigma_y"] ** 2


def test_sampling_a_gaussian_converges_to_it() -> None:
    reference = golden("rtc_gaussian")
    mean, cov = tensor(reference["mean"]), tensor(reference["cov"])
    errors = []
    for num_steps in (10, 20, 40, 80):
        law = law_of_sampler(GaussianPrior(mean, cov), num_steps, (8,))
        errors.append([float((law.mean - mean).norm()), float((law.cov - cov).norm() / cov.norm())])
    halvings = torch.tensor(errors)[:-1, 1] / torch.tensor(errors)[1:, 1]
    assert (halvings > 1.8).all()  # first order
    assert errors[-1][0] < 1e-9  # the mean of a Gaussian is carried without error
    assert errors[-1][1] < 0.05


def test_five_steps_of_a_standard_normal_leave_the_reference_variance() -> None:
    assert float(law_of_sampler(isotropic(0.0, 1.0), 5, (1, 1)).cov) == pytest.approx(0.594, abs=5e-4)


@pytest.mark.parametrize("num_steps", [1, 3, 7, 10, 49])
def test_flow_times_are_fractions_and_not_sums(num_steps: int) -> None:
    seen: list[tuple[int, float]] = []
    prior = from_velocity(lambda x, tau: torch.ones_like(x))
    sample(prior, torch.zeros(1), num_steps, callback=lambda step, tau, x, x1_hat: seen.append((step, tau)))
    assert seen == [(step, step / num_steps) for step in range(num_steps)]


def test_the_callback_sees_the_point_and_its_estimate_before_each_step() -> None:
    prior, seen = isotropic(0.3, 0.5, size=4), []
    noise = torch.randn(2, 4, 1, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    end = sample(prior, noise, 3, callback=lambda step, tau, x, x1_hat: seen.append((tau, x, x1_hat)))
    assert torch.equal(seen[0][1], noise)
    for tau, x, x1_hat in seen:
        assert torch.equal(x1_hat, prior.denoise(x, tau))
    assert torch.equal(end, seen[-1][2])


def test_noise_starts_at_the_scale_of_the_path() -> None:
    class Wide(OT):
        def sigma(self, tau):
            return 50.0 * (1.0 - tau)

    seen = []
    sample(
        from_denoiser(lambda x, tau: x, Wide()), torch.ones(2), 1, callback=lambda s, t, x, e: seen.append(x)
    )
    assert seen[0].tolist() == [50.0, 50.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_sample_has_the_dtype_of_its_noise_and_no_graph(dtype: torch.dtype) -> None:
    scale = torch.ones((), dtype=dtype, requires_grad=True)
    out = sample(
        from_velocity(lambda x, tau: scale * x), torch.ones(2, 3, dtype=dtype, requires_grad=True), 4
    )
    assert (out.dtype, out.grad_fn, out.requires_grad) == (dtype, None, False)


def test_an_unknown_solver_is_answered_with_those_that_exist() -> None:
    with pytest.raises(InvalidArgument, match="'rk9'; choose one of euler"):
        sample(isotropic(0.0, 1.0), torch.zeros(1, 1, dtype=DOUBLE), 3, solver="rk9")


def test_no_steps_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="num_steps is 0"):
        sample(isotropic(0.0, 1.0), torch.zeros(1, 1, dtype=DOUBLE), 0)


@pytest.mark.parametrize("start", [-0.1, 1.0, 2.0])
def test_a_start_outside_of_the_path_is_refused(start: float) -> None:
    with pytest.raises(InvalidArgument, match="start is"):
        uniform_times(3, start)


def test_times_from_a_later_start_are_equal_steps_to_the_data() -> None:
    assert uniform_times(4, 0.2) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0], rel=1e-15)
    assert uniform_times(7, 0.3)[-1] == 1.0


# Schedules that go back up


@given(
    times=st.lists(st.floats(0.05, 0.95), min_size=2, max_size=6, unique=True),
    path=st.sampled_from(sorted(PATHS)),
)
def test_a_known_point_keeps_its_marginals_however_the_times_go(times: list[float], path: str) -> None:
    """Where x1 is known, steps of DDIM and steps back are exact: the law at each time is the forward one."""
    along, x1 = PATHS[path], tensor([0.7, -2.0])
    prior = from_denoiser(lambda x, tau: x1.expand_as(x), along)
    alpha, sigma = along.alpha(times[0]), along.sigma(times[0])
    law = law_of(lambda n: integrate(prior, alpha * x1 + sigma * n, times, solver=DDIM(0.5)), (2,))
    identity = torch.eye(2, dtype=DOUBLE)
    torch.testing.assert_close(law.mean, along.alpha(times[-1]) * x1, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(law.cov, along.sigma(times[-1]) ** 2 * identity, rtol=1e-9, atol=1e-12)


def test_going_back_up_asks_the_prior_nothing_and_is_no_step() -> None:
    asked: list[float] = []

    def denoise(x, tau):
        asked.append(tau)
        return 0.5 * x

    seen: list[tuple[int, float]] = []
    integrate(
        from_denoiser(denoise),
        torch.ones(3),
        [0.0, 0.25, 0.5, 0.25, 0.5, 1.0],
        solver=Euler(),
        callback=lambda step, tau, x, x1_hat: seen.append((step, tau)),
    )
    assert asked == [0.0, 0.25, 0.25, 0.5]
    assert seen == list(enumerate(asked))


def test_a_table_lands_on_data_and_an_exploding_path_at_its_least_noise() -> None:
    prior = GaussianPrior(torch.zeros(2, dtype=DOUBLE), 1e-12)
    law = law_of_sampler(prior.on(Table((50.0, 5.0, 0.5, 0.01, 0.0), False)), 4, (2,), DDIM(1.0))
    torch.testing.assert_close(law.cov, 1e-12 * torch.eye(2, dtype=DOUBLE), rtol=0.1, atol=1e-12)
    law = law_of_sampler(prior.on(VE(50.0, 0.01)), 4, (2,), DDIM(1.0))
    torch.testing.assert_close(law.cov, 1e-4 * torch.eye(2, dtype=DOUBLE), rtol=1e-6, atol=0.0)


# Conditional sampling by PiGDM: the table of errors against the posterior

CONVERGENCE = [row for row in GAUSSIAN["convergence"] if row["cov"] in ("unit", "data")]


def start_law(row: dict, prior: GaussianPrior, start: float) -> tuple[Tensor, Tensor]:
    """Mean and root of the covariance of the law that the sampler starts with."""
    identity = torch.eye(6, dtype=DOUBLE)
    if row.get("init") == "pinv":
        return start * torch.linalg.pinv(A) @ Y, (1.0 - start) * identity
    return start * prior.mean, torch.linalg.cholesky(start**2 * prior.cov + (1.0 - start) ** 2 * identity)


@pytest.mark.parametrize(
    "row",
    CONVERGENCE,
    ids=lambda r: f"{r['prior']}-{r['cov']}-{r['solver']}-{r['n']}-{r.get('t0')}-{r.get('init')}",
)
def test_pigdm_through_the_sampler_misses_the_posterior_by_the_reference_error(row: dict) -> None:
    standard = row["prior"] == "N(0,I)"
    prior = GaussianPrior(
        torch.zeros(6, dtype=DOUBLE) if standard else tensor(GAUSSIAN["mean"]),
        1.0 if standard else tensor(GAUSSIAN["cov"]),
    )
    data_std = math.sqrt(GAUSSIAN["data_variance"]) if row["cov"] == "data" else 1.0
    measured = LinearMeasurement(Matrix(A), Y, NOISE)
    guided = guide(prior, measured, max_weight=math.inf, data_std=data_std)
    # 2000 steps of the midpoint rule are the limit, which 100 reach to three digits.
    num_steps, tolerance = (100, 2e-3) if row["n"] == 2000 else (row["n"], 1e-6)
    start = row.get("t0", 1e-3)
    mean, root = start_law(row, prior, start)
    times = torch.linspace(start, 1.0 - 1e-6, num_steps + 1, dtype=DOUBLE).tolist()
    solver = named_solver(row["solver"])
    law = law_of(lambda n: integrate(guided, mean + n @ root.T, times, solver=solver), (6,))
    posterior = prior.posterior(A, Y, NOISE)
    mean_error = float((law.mean - posterior.mean).norm() / posterior.mean.norm())
    cov_error = float((law.cov - posterior.cov).norm() / posterior.cov.norm())
    assert mean_error == pytest.approx(row["mean_error"], rel=tolerance)
    assert cov_error == pytest.approx(row["cov_error"], rel=tolerance)
    trace_ratio = float(law.cov.trace() / posterior.cov.trace())
    assert trace_ratio == pytest.approx(row["trace_ratio"], rel=tolerance)
