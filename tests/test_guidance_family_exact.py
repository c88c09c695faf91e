"""The guidance family at a point: closed forms, reference numbers and finite differences."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from oracle import DOUBLE, PATHS, Identity, Law, Matrix, golden, law_of, relative_error, tensor
from test_guidance_family import MEASURED, NEXT, TAU, A, Y, Z, network
from torch import Tensor

from rtc.exact import GaussianPrior, MixturePrior
from rtc.guidance.likelihood import classifier_guidance, likelihood_guidance
from rtc.guidance.pigdm import guide, r2
from rtc.guidance.proximal import Flower, ddnm
from rtc.guidance.tweedie import mmps, tmpd, tweedie
from rtc.measurement import LinearMeasurement, SoftMask
from rtc.path import Time
from rtc.prior import Prior, velocity
from rtc.sample import sample
from rtc.solvers import DDIM

GAUSSIAN, MIXTURE = golden("gaussian"), golden("mixture")
GAIN = (1.0 - TAU) ** 2 / TAU


def measured_as(reference: dict) -> LinearMeasurement:
    return LinearMeasurement(
        Matrix(tensor(reference["A"])), tensor(reference["y"]), reference["sigma_y"] ** 2
    )


def gaussian(path: str = "ot") -> GaussianPrior:
    return GaussianPrior(tensor(GAUSSIAN["mean"]), tensor(GAUSSIAN["cov"]), PATHS[path])


def mixture(name: str, path: str = "ot") -> MixturePrior:
    case = MIXTURE[name]
    return MixturePrior(tensor(case["weights"]), tensor(case["means"]), tensor(case["covs"]), PATHS[path])


points = pytest.mark.parametrize("point", GAUSSIAN["points"], ids=lambda p: f"{p['path']}-{p['tau']}")


@points
def test_with_the_priors_own_covariance_the_field_of_a_gaussian_is_the_conditional_one(point: dict) -> None:
    guided = tweedie(gaussian(point["path"]), measured_as(GAUSSIAN))
    x, tau = tensor(point["x"])[None], point["tau"]
    assert relative_error(velocity(guided, x, tau)[0], tensor(point["velocity_y"])) < 1e-12
    assert relative_error(guided.denoise(x, tau)[0], tensor(point["x1hat_y"])) < 1e-12


@points
def test_without_a_covariance_the_field_is_that_of_dps(point: dict) -> None:
    guided = likelihood_guidance(gaussian(point["path"]), measured_as(GAUSSIAN))
    moved = velocity(guided, tensor(point["x"])[None], point["tau"])[0]
    assert relative_error(moved, tensor(point["velocity_dps"])) < 1e-12


MIXTURE_POINTS = [(name, point) for name in ("isotropic_2d", "full_cov") for point in MIXTURE[name]["points"]]
mixture_points = pytest.mark.parametrize(
    ("name", "point"), MIXTURE_POINTS, ids=[f"{name}-{p['path']}-{p['tau']}" for name, p in MIXTURE_POINTS]
)


@mixture_points
def test_with_the_priors_own_covariance_the_field_of_a_mixture_is_the_reference_one(
    name: str, point: dict
) -> None:
    guided = tweedie(mixture(name, point["path"]), measured_as(MIXTURE[name]))
    moved = velocity(guided, tensor(point["x"])[None], point["tau"])[0]
    assert relative_error(moved, tensor(point["velocity_tweedie_cov"])) < 1e-10


@mixture_points
def test_a_classifier_that_knows_the_likelihood_makes_the_conditional_prior(name: str, point: dict) -> None:
    case = MIXTURE[name]
    prior, known = mixture(name, point["path"]), (tensor(case["A"]), tensor(case["y"]), case["sigma_y"] ** 2)
    guided = classifier_guidance(prior, lambda x, tau: prior.log_likelihood_at(x, tau, *known))
    x1_hat = guided.denoise(tensor(point["x"])[None], point["tau"])[0]
    assert relative_error(x1_hat, tensor(point["x1hat_y"])) < 1e-8


@pytest.mark.parametrize("tau", [0.05, 0.3, 0.7, 0.95])
def test_the_classifier_of_two_gaussians_leads_to_its_class(tau: float) -> None:
    means = tensor([[-2.0, 0.0], [1.0, 1.5]])
    both = MixturePrior(tensor([0.7, 0.3]), means, 0.5)
    guided = classifier_guidance(both, lambda x, tau: both.responsibilities(x, tau)[:, 1].log())
    expected = GaussianPrior(means[1], 0.5).denoise(Z[:, :2], tau)
    torch.testing.assert_close(guided.denoise(Z[:, :2], tau), expected, rtol=1e-9, atol=1e-9)


def affine_field(guided: Prior, times: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """(F, q) of the velocity x F + q at each of the times, from one call."""
    x = torch.cat([torch.zeros(1, size, dtype=DOUBLE), torch.eye(size, dtype=DOUBLE)]).repeat(len(times), 1)
    v = velocity(guided, x, times.repeat_interleave(1 + size)).reshape(-1, 1 + size, size)
    return v[:, 1:] - v[:, :1], v[:, 0]


def midpoint_law(guided: Prior, start: Law, times: Tensor) -> Law:
    """The law at times[-1] of the flow of an affine prior, by the explicit midpoint rule."""
    steps, size = times.diff(), len(start.mean)
    field, drift = affine_field(guided, times[:-1], size)
    middle_field, middle_drift = affine_field(guided, times[:-1] + 0.5 * steps, size)
    x = start.mean + torch.cat([torch.zeros(1, size, dtype=DOUBLE), start.factor.T])
    for k, step in enumerate(steps):
        middle = x + 0.5 * step * (x @ field[k] + drift[k])
        x = x + step * (middle @ middle_field[k] + middle_drift[k])
    return Law(x[0], (x[1:] - x[0]).T)


CONVERGENCE = [row for row in GAUSSIAN["convergence"] if row["cov"] in ("tweedie", "zero")]


@pytest.mark.parametrize("row", CONVERGENCE, ids=lambda row: row["cov"])
def test_conditional_sampling_has_the_reference_error(row: dict) -> None:
    assert (row["solver"], row["prior"]) == ("midpoint", "N(mean,cov)")
    prior, measured, start = gaussian(), measured_as(GAUSSIAN), 1e-3
    guided = {"tweedie": tweedie, "zero": likelihood_guidance}[row["cov"]](prior, measured)
    times = torch.linspace(start, 1.0 - 1e-6, row["n"] + 1, dtype=DOUBLE)
    root = torch.linalg.cholesky(start**2 * prior.cov + (1.0 - start) ** 2 * torch.eye(6, dtype=DOUBLE))
    law, mean = midpoint_law(guided, Law(start * prior.mean, root), times), tensor(GAUSSIAN["posterior_mean"])
    cov = tensor(GAUSSIAN["posterior_cov"])
    assert float((law.mean - mean).norm() / mean.norm()) == pytest.approx(row["mean_error"], rel=1e-6)
    assert float((law.cov - cov).norm() / cov.norm()) == pytest.approx(row["cov_error"], rel=1e-5)


@pytest.mark.parametrize("noise_variance", [0.3, 0.0])
@pytest.mark.parametrize("path", PATHS)
def test_row_sums_are_exact_for_independent_values(path: str, noise_variance: float) -> None:
    variances, mean = tensor([0.2, 1.0, 3.0, 0.5]), tensor([1.0, -1.0, 0.5, 2.0])
    prior, seen = GaussianPrior(mean, torch.diag(variances), PATHS[path]), torch.eye(4, dtype=DOUBLE)[[0, 2]]
    y, tau = tensor([0.4, -1.3]), float(PATHS[path].tau_at(0.8))
    guided = tmpd(prior, LinearMeasurement(Matrix(seen), y, noise_variance))
    known = prior.posterior(seen, y, max(noise_variance, 1e-300))
    x = Z[:, :4]
    torch.testing.assert_close(guided.denoise(x, tau), known.denoise(x, tau), rtol=1e-9, atol=1e-9)


def test_row_sums_below_zero_are_not_divided_by() -> None:
    prior = GaussianPrior(tensor([0.0, 0.0]), tensor([[1.0, -1.9], [-1.9, 4.0]]))
    x, tau = Z[:, :2], 0.5
    rows = 0.5 * prior.jacobian(x, tau)[0].sum(1)  # sigma^2 / alpha = .5
    assert rows[0] < 0.0 < rows[1]
    for noise in (0.0, 1e-9 - float(rows[0])):
        out = tmpd(prior, LinearMeasurement(Identity(), tensor([1.0, 2.0]), noise)).denoise(x, tau)
        assert float(out.abs().max()) < 100.0


def test_moment_matching_nears_the_whole_covariance_as_iterations_are_added() -> None:
    prior = network()  # its Jacobian is not symmetric
    whole = tweedie(prior, MEASURED).denoise(Z, TAU)
    errors = [float((mmps(prior, MEASURED, iterations=k).denoise(Z, TAU) - whole).norm()) for k in (1, 2, 3)]
    assert errors[0] > 1e-3
    assert errors[2] < 1e-9 * float(whole.norm())
    again = mmps(prior, MEASURED, iterations=5).denoise(Z, TAU)
    torch.testing.assert_close(again, whole, rtol=1e-9, atol=1e-9)


def test_the_whole_covariance_takes_the_jacobian_of_the_network_as_it_is() -> None:
    prior = network()
    rows = []
    for x, y in zip(Z, Y, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda z: prior.denoise(z[None], TAU)[0], x)
        x1_hat, transposed = prior.denoise(x[None], TAU)[0].detach(), GAIN * jacobian.mT
        sigma = A @ transposed @ A.T + MEASURED.noise_variance * torch.eye(3, dtype=DOUBLE)
        rows.append(x1_hat + transposed @ A.T @ torch.linalg.solve(sigma, y - A @ x1_hat))
    torch.testing.assert_close(tweedie(prior, MEASURED).denoise(Z, TAU), torch.stack(rows))


def test_values_that_repeat_without_noise_are_taken_once() -> None:
    a, y = tensor(GAUSSIAN["A"]), tensor(GAUSSIAN["y"])
    once = LinearMeasurement(Matrix(a), y, 0.0)
    twice = LinearMeasurement(Matrix(torch.cat([a, a[:1]])), torch.cat([y, y[:1]]), 0.0)
    prior = gaussian()
    expected = tweedie(prior, once).denoise(Z, 0.4)
    assert float(LinearMeasurement(Matrix(a), y).residual(expected).abs().max()) < 1e-9
    torch.testing.assert_close(tweedie(prior, twice).denoise(Z, 0.4), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        mmps(prior, twice, iterations=4).denoise(Z, 0.4), expected, rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("eta", [0.0, 0.85])
def test_what_ddnm_returns_satisfies_the_measurement(eta: float) -> None:
    exact = replace(MEASURED, noise_variance=0.09)  # the noise is there, and is ignored
    noise = torch.randn(Z.shape, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    out = sample(
        ddnm(network(), exact), noise, 20, solver=DDIM(eta), generator=torch.Generator().manual_seed(2)
    )
    assert float(exact.residual(out).abs().max()) < 1e-6
    kept = torch.eye(6, dtype=DOUBLE) - torch.linalg.pinv(A) @ A
    guided, free = (prior.denoise(Z, TAU) for prior in (ddnm(network(), exact), network()))
    torch.testing.assert_close(guided @ kept, free @ kept, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("tau", [0.05, 0.3, 0.5, 0.9, 0.99])
def test_robots_and_images_are_guided_alike(tau: float) -> None:
    weights, target = tensor([1.0, 1.0, 0.6, 0.2, 0.01, 0.0]), Z.flip(0)[:, :, None]
    prior, x = gaussian(), Z[:, :, None]

    class Chunks:
        path = prior.path

        def denoise(self, x: Tensor, tau: Time) -> Tensor:
            return prior.denoise(x[..., 0], tau)[..., None]

    noise_variance = r2(tau) * (1.0 / weights - 1.0)[:, None]
    by_noise = guide(Chunks(), LinearMeasurement(Identity(), target, noise_variance), max_weight=math.inf)
    by_mask = guide(Chunks(), SoftMask(target, weights), max_weight=math.inf)
    torch.testing.assert_close(by_noise.denoise(x, tau), by_mask.denoise(x, tau), rtol=1e-12, atol=1e-12)


def test_what_flower_draws_is_the_posterior_of_its_step() -> None:
    a, std, noise = torch.linalg.pinv(A) @ A @ torch.diag(tensor([1, 2, 1, 0.5, 1, 1])), 0.7, 0.09
    y, x = Z[0].clone(), Z[1]
    solver = Flower(LinearMeasurement(Matrix(a), y, noise), data_std=std, gamma=1.0)
    prior: Prior = gaussian()
    law = law_of(lambda x0: solver(prior, (x + 0.0 * x0), TAU, NEXT).x1_hat, (6,))
    expected = GaussianPrior(prior.denoise(x, TAU), float(r2(TAU, std))).posterior(a, y, noise)
    torch.testing.assert_close(law.mean, expected.mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(law.cov, expected.cov, rtol=1e-9, atol=1e-9)
