"""Priors with closed forms, held to reference numbers, autograd, quadrature and each other."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import DOUBLE, PATHS, golden, relative_error, tensor
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rtc.errors import InvalidArgument
from rtc.exact import GaussianPrior, MixturePrior
from rtc.path import OT, log_snr_rate
from rtc.prior import Prior, score, velocity

GAUSSIAN, MIXTURE = golden("gaussian"), golden("mixture")
NAMES = st.sampled_from(sorted(PATHS))
INSIDE = st.floats(0.01, 0.99)


def gaussian() -> GaussianPrior:
    return GaussianPrior(tensor(GAUSSIAN["mean"]), tensor(GAUSSIAN["cov"]))


def mixture(name: str, covs: str = "each") -> MixturePrior:
    """The mixture of the reference; its covariances are all given, or for all the one, or the variance."""
    case = MIXTURE[name]
    given_covs = tensor(case["covs"])
    form = {"each": given_covs, "one": given_covs[0], "number": float(given_covs[0, 0, 0])}[covs]
    return MixturePrior(tensor(case["weights"]), tensor(case["means"]), form)


def measurement(case: dict) -> tuple[Tensor, Tensor, float]:
    return tensor(case["A"]), tensor(case["y"]), case["sigma_y"] ** 2


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


FORMS = [("isotropic_2d", "each"), ("isotropic_2d", "one"), ("isotropic_2d", "number"), ("full_cov", "each")]
PRIORS: dict[str, GaussianPrior | MixturePrior] = {"gaussian": gaussian()} | {
    f"{name}-{covs}": mixture(name, covs) for name, covs in FORMS
}
ANY = st.sampled_from(sorted(PRIORS))


def size_of(prior: GaussianPrior | MixturePrior) -> int:
    return prior.mean.numel()


# The reference numbers


@pytest.mark.parametrize("point", GAUSSIAN["points"], ids=lambda p: f"{p['path']}-{p['tau']}")
def test_a_gaussian_is_the_reference_one(point: dict) -> None:
    a, y, noise = measurement(GAUSSIAN)
    prior, x, tau = gaussian().on(PATHS[point["path"]]), tensor(point["x"]), point["tau"]
    given_y = prior.posterior(a, y, noise)
    assert relative_error(prior.denoise(x, tau), tensor(point["x1hat"])) < 1e-9
    assert relative_error(score(prior, x, tau), tensor(point["score"])) < 1e-9
    assert relative_error(velocity(prior, x, tau), tensor(point["velocity"])) < 1e-9
    assert relative_error(given_y.denoise(x, tau), tensor(point["x1hat_y"])) < 1e-9
    assert relative_error(velocity(given_y, x, tau), tensor(point["velocity_y"])) < 1e-9
    assert float(prior.log_density(x, tau)) == pytest.approx(point["log_p"], rel=1e-9)
    found = prior.log_likelihood_at(x, tau, a, y, noise)
    assert float(found) == pytest.approx(point["log_p_y_given_x"], rel=1e-9)


def test_the_posterior_and_evidence_of_a_gaussian_are_the_reference_ones() -> None:
    prior, (a, y, noise) = gaussian(), measurement(GAUSSIAN)
    posterior = prior.posterior(a, y, noise)
    assert relative_error(posterior.mean, tensor(GAUSSIAN["posterior_mean"])) < 1e-9
    assert relative_error(posterior.cov, tensor(GAUSSIAN["posterior_cov"])) < 1e-9
    assert float(prior.log_evidence(a, y, noise)) == pytest.approx(GAUSSIAN["log_evidence"], rel=1e-9)
    assert float(prior.cov.trace()) / 6 == pytest.approx(GAUSSIAN["data_variance"], rel=1e-12)


@pytest.mark.parametrize(("name", "covs"), FORMS)
def test_a_mixture_is_the_reference_one(name: str, covs: str) -> None:
    prior, (a, y, noise) = mixture(name, covs), measurement(MIXTURE[name])
    for point in MIXTURE[name]["points"]:
        here, x, tau = prior.on(PATHS[point["path"]]), tensor(point["x"]), point["tau"]
        given_y = here.posterior(a, y, noise)
        assert relative_error(here.denoise(x, tau), tensor(point["x1hat"])) < 1e-9
        assert relative_error(here.jacobian(x, tau), tensor(point["jacobian"])) < 1e-9
        assert relative_error(here.responsibilities(x, tau), tensor(point["responsibilities"])) < 1e-9
        assert relative_error(score(here, x, tau), tensor(point["score"])) < 1e-9
        assert relative_error(velocity(here, x, tau), tensor(point["velocity"])) < 1e-9
        assert relative_error(given_y.denoise(x, tau), tensor(point["x1hat_y"])) < 1e-9
        assert relative_error(velocity(given_y, x, tau), tensor(point["velocity_y"])) < 1e-9
        assert float(here.log_density(x, tau)) == pytest.approx(point["log_p"], rel=1e-9)
        found = here.log_likelihood_at(x, tau, a, y, noise)
        assert float(found) == pytest.approx(point["log_p_y_given_x"], rel=1e-9)


@pytest.mark.parametrize(("name", "covs"), FORMS)
def test_the_posterior_and_evidence_of_a_mixture_are_the_reference_ones(name: str, covs: str) -> None:
    case, prior = MIXTURE[name], mixture(name, covs)
    posterior = prior.posterior(*measurement(case))
    assert relative_error(posterior.weights, tensor(case["posterior_weights"])) < 1e-9
    assert relative_error(posterior.means, tensor(case["posterior_means"])) < 1e-9
    assert relative_error(posterior.covs, tensor(case["posterior_covs"])) < 1e-9
    assert relative_error(posterior.mean, tensor(case["posterior_mean"])) < 1e-9
    assert relative_error(posterior.cov, tensor(case["posterior_cov"])) < 1e-9
    found = prior.log_evidence(*measurement(case))
    assert float(found) == pytest.approx(case["log_evidence"], rel=1e-9)


# What they are to each other


@settings(max_examples=50)
@given(tau=INSIDE, path=NAMES, which=ANY, seed=st.integers(0, 99))
def test_the_score_is_the_gradient_of_the_log_density(tau: float, path: str, which: str, seed: int) -> None:
    prior = PRIORS[which].on(PATHS[path])
    x = (3.0 * normals(size_of(prior), seed=seed)).requires_grad_()
    (slope,) = torch.autograd.grad(prior.log_density(x, tau), x)
    torch.testing.assert_close(score(prior, x.detach(), tau), slope, rtol=1e-7, atol=1e-8)


@settings(max_examples=50)
@given(tau=st.floats(0.0, 1.0), path=NAMES, which=ANY, seed=st.integers(0, 99))
def test_the_jacobian_is_the_derivative_of_the_denoiser(tau: float, path: str, which: str, seed: int) -> None:
    prior = PRIORS[which].on(PATHS[path])
    x, cotangent = 3.0 * normals(2, size_of(prior), seed=seed)
    _, pullback, *_ = torch.func.vjp(lambda point: prior.denoise(point, tau), x)
    (pulled,) = pullback(cotangent)
    jacobian = prior.jacobian(x, tau)
    torch.testing.assert_close(prior.vjp(x, tau, cotangent), pulled, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(jacobian @ cotangent, pulled, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(jacobian, jacobian.mT, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("which", PRIORS)
@pytest.mark.parametrize("path", PATHS)
def test_guidance_by_the_exact_likelihood_is_the_conditional_denoiser(which: str, path: str) -> None:
    """Theorem 1: x1_hat_y = x1_hat + (sigma^2 / alpha) grad log p_tau(y | x), by central differences.

    And (2.2) of the velocities: v_y = v + sigma^2 lambda_dot grad log p_tau(y | x).
    """
    prior = PRIORS[which].on(PATHS[path])
    a, y, noise = measurement(GAUSSIAN if which == "gaussian" else MIXTURE[which.split("-")[0]])
    given_y, step = prior.posterior(a, y, noise), 1e-4
    for tau in (0.15, 0.5, 0.8):
        alpha, sigma = prior.path.alpha(tau), prior.path.sigma(tau)
        x = alpha * prior.mean + (alpha + sigma) * normals(size_of(prior), seed=3)
        around = torch.stack([x + step * sigma * unit for unit in torch.eye(len(x), dtype=DOUBLE)])
        behind = 2.0 * x - around
        difference = prior.log_likelihood_at(around, tau, a, y, noise) - prior.log_likelihood_at(
            behind, tau, a, y, noise
        )
        slope = difference / (2.0 * step * sigma)
        found = prior.denoise(x, tau) + sigma**2 / alpha * slope
        assert relative_error(found, given_y.denoise(x, tau)) < 1e-6
        moved = velocity(prior, x, tau) + sigma**2 * log_snr_rate(prior.path, tau) * slope
        assert relative_error(moved, velocity(given_y, x, tau)) < 1e-6


@pytest.mark.parametrize("which", PRIORS)
def test_bayes_holds_at_every_point(which: str) -> None:
    """log p(x1) + log p(y | x1) = log p(y) + log p(x1 | y), at the data end of the path."""
    prior = PRIORS[which]
    a, y, noise = measurement(GAUSSIAN if which == "gaussian" else MIXTURE[which.split("-")[0]])
    x1 = 5.0 * normals(20, size_of(prior))
    likelihood = -0.5 * ((y - x1 @ a.T) ** 2 / noise + math.log(2.0 * math.pi * noise)).sum(-1)
    left = prior.log_density(x1, 1.0) + likelihood
    right = prior.log_evidence(a, y, noise) + prior.posterior(a, y, noise).log_density(x1, 1.0)
    torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-7)
    torch.testing.assert_close(
        prior.log_likelihood_at(x1, 1.0, a, y, noise), likelihood, rtol=1e-8, atol=1e-7
    )


def test_a_density_integrates_to_one_and_has_the_moments() -> None:
    prior = mixture("isotropic_2d").on(PATHS["cosine"])
    axis = torch.linspace(-14.0, 14.0, 281, dtype=DOUBLE)
    grid = torch.cartesian_prod(axis, axis)
    mass = prior.log_density(grid, 0.6).exp() * (axis[1] - axis[0]) ** 2
    alpha, sigma = prior.path.alpha(0.6), prior.path.sigma(0.6)
    mean = mass @ grid
    assert float(mass.sum()) == pytest.approx(1.0, rel=1e-9)
    torch.testing.assert_close(mean, alpha * prior.mean, rtol=1e-9, atol=1e-9)
    second = grid.T @ (mass[:, None] * grid) - torch.outer(mean, mean)
    torch.testing.assert_close(second, alpha**2 * prior.cov + sigma**2 * torch.eye(2, dtype=DOUBLE))


def test_two_measurements_are_one_after_the_other() -> None:
    prior, (a, y, noise) = mixture("full_cov"), measurement(MIXTURE["full_cov"])
    both = prior.posterior(a, y, noise)
    first = prior.posterior(a[:1], y[:1], noise)
    then = first.posterior(a[1:], y[1:], noise)
    torch.testing.assert_close(then.means, both.means)
    torch.testing.assert_close(then.covs, both.covs)
    torch.testing.assert_close(then.weights, both.weights)
    together = prior.log_evidence(a[:1], y[:1], noise) + first.log_evidence(a[1:], y[1:], noise)
    torch.testing.assert_close(together, prior.log_evidence(a, y, noise))


def test_each_value_may_have_a_noise_variance_of_its_own() -> None:
    prior, (a, y, _) = gaussian(), measurement(GAUSSIAN)
    scale = tensor([1.0, 2.0, 5.0])
    scaled = prior.posterior(a / scale[:, None], y / scale, 0.1)
    torch.testing.assert_close(prior.posterior(a, y, 0.1 * scale**2).mean, scaled.mean)
    torch.testing.assert_close(prior.posterior(a, y, 0.1 * scale**2).cov, scaled.cov)


def test_a_mixture_of_one_is_the_gaussian() -> None:
    a, y, noise = measurement(GAUSSIAN)
    one = MixturePrior(torch.ones(1), tensor(GAUSSIAN["mean"])[None], tensor(GAUSSIAN["cov"]))
    x = normals(5, 6)
    for tau in (0.0, 0.3, 1.0):
        torch.testing.assert_close(one.denoise(x, tau), gaussian().denoise(x, tau))
        torch.testing.assert_close(one.jacobian(x, tau), gaussian().jacobian(x, tau))
        torch.testing.assert_close(one.log_density(x, tau), gaussian().log_density(x, tau))
    torch.testing.assert_close(one.posterior(a, y, noise).cov, gaussian().posterior(a, y, noise).cov)


# Shapes, ends, and numbers at the edge


@pytest.mark.parametrize("which", PRIORS)
def test_the_ends_are_the_mean_of_the_prior_and_the_point_itself(which: str) -> None:
    prior = PRIORS[which].on(OT())
    x = normals(3, size_of(prior))
    torch.testing.assert_close(prior.denoise(x, 0.0), prior.mean.expand_as(x))
    torch.testing.assert_close(prior.denoise(x, 1.0), x)
    torch.testing.assert_close(prior.jacobian(x, 0.0), torch.zeros(3, x.shape[1], x.shape[1], dtype=DOUBLE))
    torch.testing.assert_close(prior.jacobian(x, 1.0), torch.eye(x.shape[1], dtype=DOUBLE).expand(3, -1, -1))
    expected = -0.5 * (x**2 + math.log(2.0 * math.pi)).sum(-1)
    torch.testing.assert_close(prior.log_density(x, 0.0), expected)


@pytest.mark.parametrize("which", PRIORS)
@pytest.mark.parametrize("path", PATHS)
def test_a_time_for_each_row_is_that_time_for_that_row(which: str, path: str) -> None:
    prior = PRIORS[which].on(PATHS[path])
    x, tau = normals(3, 2, size_of(prior)), tensor([0.1, 0.5, 0.9])
    functions = [
        prior.denoise,
        prior.log_density,
        prior.jacobian,
        lambda point, time: prior.vjp(point, time, torch.ones_like(point)),
    ]
    for function in functions:
        together = function(x, tau)
        for row in range(3):
            for column in range(2):
                alone = function(x[row, column], float(tau[row]))
                torch.testing.assert_close(together[row, column], alone, rtol=1e-9, atol=1e-12)


def test_an_event_of_any_shape_is_its_flat_one() -> None:
    shaped = GaussianPrior(tensor(GAUSSIAN["mean"]).reshape(3, 1, 2), tensor(GAUSSIAN["cov"]))
    flat, x, (a, y, noise) = gaussian(), normals(4, 6), measurement(GAUSSIAN)
    boxed = x.reshape(4, 3, 1, 2)
    torch.testing.assert_close(shaped.denoise(boxed, 0.4).reshape(4, 6), flat.denoise(x, 0.4))
    torch.testing.assert_close(shaped.vjp(boxed, 0.4, boxed).reshape(4, 6), flat.vjp(x, 0.4, x))
    torch.testing.assert_close(shaped.jacobian(boxed, 0.4), flat.jacobian(x, 0.4))
    torch.testing.assert_close(shaped.log_density(boxed, 0.4), flat.log_density(x, 0.4))
    posterior = shaped.posterior(a, y, noise)
    assert posterior.mean.shape == (3, 1, 2)
    torch.testing.assert_close(posterior.mean.flatten(), flat.posterior(a, y, noise).mean)
    assert shaped.sample(5).shape == (5, 3, 1, 2)


def test_a_number_is_that_variance_in_every_direction() -> None:
    dense = GaussianPrior(normals(4), 0.3 * torch.eye(4, dtype=DOUBLE))
    number, x = GaussianPrior(normals(4), 0.3), normals(2, 4, seed=1)
    torch.testing.assert_close(number.denoise(x, 0.4), dense.denoise(x, 0.4))
    torch.testing.assert_close(number.jacobian(x, 0.4), dense.jacobian(x, 0.4))
    torch.testing.assert_close(number.cov, dense.cov)
    assert torch.equal(GaussianPrior(normals(4), tensor(0.3)).cov, number.cov)


@pytest.mark.parametrize("which", PRIORS)
def test_answers_have_the_dtype_of_the_point(which: str) -> None:
    prior = PRIORS[which]
    x = normals(2, size_of(prior)).float()
    for answer in (prior.denoise(x, 0.5), prior.jacobian(x, 0.5), prior.log_density(x, 0.5)):
        assert answer.dtype == torch.float32
    a, y, noise = measurement(GAUSSIAN if which == "gaussian" else MIXTURE[which.split("-")[0]])
    assert prior.log_likelihood_at(x, 0.5, a, y, noise).dtype == torch.float32


@pytest.mark.parametrize("covs", ["each", "number"])
def test_points_far_from_every_component_have_finite_answers(covs: str) -> None:
    prior = mixture("isotropic_2d", covs)
    x = tensor([[1e6, -1e6], [300.0, 0.0]])
    for tau in (0.0, 0.5, 1.0 - 1e-9):
        assert torch.isfinite(prior.denoise(x, tau)).all()
        assert torch.isfinite(prior.jacobian(x, tau)).all()
        assert torch.isfinite(prior.log_density(x, tau)).all()


def test_a_posterior_is_right_even_where_its_weights_underflow() -> None:
    prior = MixturePrior(tensor([0.5, 0.5]), tensor([[-60.0], [60.0]]), 1.0)
    a, y, noise = tensor([[1.0]]), tensor([60.0]), 1e-2
    assert float(prior.posterior(a, y, noise).weights[0]) == 0.0
    x1 = tensor([[-60.0]])
    found = prior.log_likelihood_at(x1, 1.0, a, y, noise)
    assert float(found) == pytest.approx(-0.5 * (120.0**2 / noise + math.log(2 * math.pi * noise)), rel=1e-9)


def test_a_noiseless_measurement_is_met_by_every_estimate() -> None:
    prior, (a, y, _) = mixture("full_cov"), measurement(MIXTURE["full_cov"])
    posterior = prior.posterior(a, y, 0.0)
    x = 3.0 * normals(10, 4)
    for tau in (0.0, 0.5, 0.99):
        torch.testing.assert_close(posterior.denoise(x, tau) @ a.T, y.expand(10, 2), rtol=1e-9, atol=1e-9)
    with pytest.raises(InvalidArgument, match="leaves no noise"):
        posterior.denoise(x, 1.0)
    with pytest.raises(InvalidArgument, match="leaves no noise"):
        gaussian().posterior(torch.eye(6, dtype=DOUBLE)[:1], tensor([1.0]), 0.0).denoise(normals(6), 1.0)


@pytest.mark.parametrize("which", PRIORS)
def test_samples_have_the_mean_and_covariance(which: str) -> None:
    prior, count = PRIORS[which], 40_000
    drawn = prior.sample(count, torch.Generator().manual_seed(0))
    deviations = prior.cov.diagonal().sqrt()
    assert ((drawn.mean(0) - prior.mean).abs() < 4.0 * deviations / math.sqrt(count)).all()
    assert relative_error(torch.cov(drawn.T), prior.cov) < 0.03
    again = prior.sample(count, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again)


def test_samples_come_from_their_own_component() -> None:
    covs = torch.stack([torch.diag(tensor([1.0, 1e-6])), torch.diag(tensor([1e-6, 1.0]))])
    prior = MixturePrior(tensor([0.25, 0.75]), tensor([[-50.0, 0.0], [50.0, 0.0]]), covs)
    drawn = prior.sample(4000, torch.Generator().manual_seed(0))
    left = drawn[:, 0] < 0.0
    assert float(left.double().mean()) == pytest.approx(0.25, abs=0.03)
    assert float(drawn[left, 0].std()) == pytest.approx(1.0, abs=0.1)
    assert float(drawn[left, 1].std()) == pytest.approx(1e-3, rel=0.1)
    assert float(drawn[~left, 1].std()) == pytest.approx(1.0, abs=0.1)


def test_many_dimensions_never_hold_a_component_for_each_point() -> None:
    """800 dimensions, 25 components: [batch, k, d] would be 20 times the largest tensor there is."""
    means = 8.0 * torch.randint(-2, 3, (25, 800), generator=torch.Generator().manual_seed(0)).double()
    weights = torch.full((25,), 1 / 25, dtype=DOUBLE)
    prior, x = MixturePrior(weights, means, 1.0), means[3] + normals(8, 800)
    largest = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest.append(out.numel())
            return out

    with Watch():
        prior.denoise(x, 0.5)
        prior.vjp(x, 0.5, x)
        prior.log_density(x, 0.5)
    assert max(largest) <= max(x.numel(), means.numel())
    # far from the others, a component is alone: its Gaussian's denoiser
    torch.testing.assert_close(prior.denoise(x, 0.9), GaussianPrior(means[3], 1.0).denoise(x, 0.9))


def test_on_another_path_the_first_prior_stays_where_it_was() -> None:
    prior = mixture("full_cov")
    assert prior.on(PATHS["cosine"]).path == PATHS["cosine"]
    assert prior.path == OT()
    assert isinstance(prior, Prior)
    assert isinstance(
        gaussian().on(PATHS["cosine"]).posterior(*measurement(GAUSSIAN)).path, type(PATHS["cosine"])
    )


# Refusals


@pytest.mark.parametrize("weights", [[0.5, 0.6], [1.5, -0.5], [math.nan, 1.0], [1.0]])
def test_weights_that_are_no_probabilities_are_refused(weights: list[float]) -> None:
    with pytest.raises(InvalidArgument, match="weights"):
        MixturePrior(tensor(weights), torch.zeros(2, 3, dtype=DOUBLE), 1.0)


@pytest.mark.parametrize(
    ("covs", "why"),
    [
        (torch.diag(tensor([1.0, 1.0, -0.1])), "negative eigenvalue"),
        (tensor([[1.0, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), "asymmetric by 0.5"),
        (torch.eye(2, dtype=DOUBLE), "covs have shape"),
        (torch.eye(3, dtype=DOUBLE).expand(4, 3, 3), "covs have shape"),
        (-1.0, "negative eigenvalue"),
        (math.nan, "covariance"),
    ],
)
def test_covariances_that_are_none_are_refused(covs: Tensor | float, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        MixturePrior(tensor([0.5, 0.5]), torch.zeros(2, 3, dtype=DOUBLE), covs)
    with pytest.raises(InvalidArgument, match=why):
        GaussianPrior(torch.zeros(3, dtype=DOUBLE), covs)


@pytest.mark.parametrize("which", ["gaussian", "full_cov-each"])
def test_points_and_measurements_of_other_shapes_are_refused(which: str) -> None:
    prior = PRIORS[which]
    size = size_of(prior)
    with pytest.raises(InvalidArgument, match="x has shape"):
        prior.denoise(normals(2, size + 1), 0.5)
    for a, y in (
        (normals(2, size + 1), normals(2)),
        (normals(2, size), normals(3)),
        (normals(size), normals(1)),
    ):
        with pytest.raises(InvalidArgument, match="a has shape"):
            prior.posterior(a, y, 0.1)
    with pytest.raises(InvalidArgument, match="a variance is at least 0"):
        prior.log_evidence(normals(2, size), normals(2), -0.1)
    twice = normals(1, size).expand(2, size)
    with pytest.raises(InvalidArgument, match="singular"):
        prior.posterior(twice, normals(2), 0.0)
