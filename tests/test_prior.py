from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import DOUBLE, PATHS, Matrix, golden, isotropic, relative_error, tensor

from rtc.errors import InvalidArgument
from rtc.exact import GaussianPrior, MixturePrior
from rtc.guidance.pigdm import guide
from rtc.measurement import LinearMeasurement
from rtc.path import OT, VE, VP, Path, noise_to_signal
from rtc.prior import (
    Prior,
    classifier_free,
    eps,
    from_denoiser,
    from_eps,
    from_gaussian_denoiser,
    from_score,
    from_velocity,
    on,
    score,
    velocity,
)
from rtc.table import ddpm, linear_betas

GAUSSIAN = golden("gaussian")
NAMES = st.sampled_from(sorted(PATHS))
EVERY: dict[str, Path] = PATHS | {"ddpm": ddpm(linear_betas())}


def gaussian(path: str) -> GaussianPrior:
    return GaussianPrior(tensor(GAUSSIAN["mean"]), tensor(GAUSSIAN["cov"]), PATHS[path])


@settings(max_examples=40)
@given(tau=st.floats(0.001, 0.999), path=NAMES)
def test_data_and_noise_estimates_rebuild_the_point_and_move_it(tau: float, path: str) -> None:
    prior, along = gaussian(path), PATHS[path]
    x = torch.randn(6, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    x1_hat, noise = prior.denoise(x, tau), eps(prior, x, tau)
    torch.testing.assert_close(along.alpha(tau) * x1_hat + along.sigma(tau) * noise, x, rtol=1e-9, atol=1e-9)
    moved = along.alpha_dot(tau) * x1_hat + along.sigma_dot(tau) * noise
    torch.testing.assert_close(velocity(prior, x, tau), moved, rtol=1e-9, atol=1e-9)


@given(tau=st.floats(0.0, 1.0))
def test_a_velocity_becomes_x_plus_the_way_that_is_left(tau: float) -> None:
    x, v = torch.tensor([0.7, -2.0], dtype=DOUBLE), torch.tensor([-1.0, 3.0], dtype=DOUBLE)
    torch.testing.assert_close(from_velocity(lambda _x, _tau: v).denoise(x, tau), x + (1 - tau) * v)


def rebuilt(prior: GaussianPrior) -> dict[str, Prior]:
    """The prior, made again from each of the things that it predicts."""
    path = prior.path
    denoiser = GaussianPrior(prior.mean, prior.cov, VE(200.0, 1e-5))  # told the noise of x1 + rho n
    return {
        "velocity": from_velocity(lambda x, tau: velocity(prior, x, tau), path),
        "score": from_score(lambda x, tau: score(prior, x, tau), path),
        "eps": from_eps(lambda x, tau: eps(prior, x, tau), path),
        "denoiser": from_denoiser(prior.denoise, path),
        "gaussian denoiser": from_gaussian_denoiser(
            lambda z, rho: denoiser.denoise(z, denoiser.path.tau_at(rho)), path
        ),
    }


@settings(max_examples=40)
@given(tau=st.floats(0.01, 0.99), path=NAMES)
def test_a_prior_survives_the_way_through_all_that_it_predicts(tau: float, path: str) -> None:
    prior = gaussian(path)
    x = torch.linspace(-2.0, 2.0, 6, dtype=DOUBLE)
    for again in rebuilt(prior).values():
        torch.testing.assert_close(again.denoise(x, tau), prior.denoise(x, tau), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("path", PATHS)
def test_a_time_for_each_row_is_that_time_for_that_row(path: str) -> None:
    prior = gaussian(path)
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    times = torch.tensor([0.1, 0.5, 0.9], dtype=DOUBLE)
    functions = (velocity, score, eps, lambda p, point, tau: p.denoise(point, tau))
    for again in [*rebuilt(prior).values(), on(prior, VE(5.0, 0.01))]:
        for function in functions:
            together = function(again, x, times)
            for row, tau in enumerate(times):
                alone = function(again, x[row], float(tau))
                torch.testing.assert_close(together[row], alone, rtol=1e-9, atol=1e-9)


def test_times_in_double_precision_leave_a_bfloat16_point_as_it_is() -> None:
    prior = from_velocity(lambda x, _tau: x)
    x = torch.ones(2, 3, 1, dtype=torch.bfloat16)
    assert prior.denoise(x, torch.tensor([0.1, 0.2], dtype=DOUBLE)).dtype == torch.bfloat16


@pytest.mark.parametrize("function", [velocity, score, eps])
def test_nothing_but_the_denoiser_exists_where_no_noise_is_left(function) -> None:
    with pytest.raises(InvalidArgument, match="leaves no noise"):
        function(isotropic(0.0, 1.0), torch.zeros(1, 1, dtype=DOUBLE), 1.0)


def test_a_denoiser_is_a_prior() -> None:
    prior = from_denoiser(lambda x, tau: x * tau)
    assert float(prior.denoise(torch.ones(1), 0.25)) == 0.25


@pytest.mark.parametrize("path", PATHS)
def test_a_velocity_is_a_denoiser_even_where_no_noise_is_left(path: str) -> None:
    x = torch.tensor([0.7, -2.0], dtype=DOUBLE)
    for tau in (1.0, torch.tensor([1.0, 1.0], dtype=DOUBLE)):
        found = from_velocity(lambda x, tau: torch.ones_like(x), PATHS[path]).denoise(x, tau)
        assert torch.isfinite(found).all()
        if PATHS[path].sigma(1.0) == 0.0:
            torch.testing.assert_close(found, x, rtol=1e-9, atol=1e-9)


# One prior on many paths (Lemma 2)

A, Y, NOISE = tensor(GAUSSIAN["A"]), tensor(GAUSSIAN["y"]), GAUSSIAN["sigma_y"] ** 2
WEIGHTS = tensor([0.4, 0.6])
PRIORS: dict[str, GaussianPrior | MixturePrior] = {
    "gaussian": GaussianPrior(tensor(GAUSSIAN["mean"]), tensor(GAUSSIAN["cov"])),
    "mixture": MixturePrior(WEIGHTS, tensor([[1.0] * 6, [-2.0] * 6]), tensor(GAUSSIAN["cov"])),
}


@settings(max_examples=40)
@given(
    rho=st.floats(0.02, 10.0),
    old=st.sampled_from(sorted(EVERY)),
    new=st.sampled_from(sorted(EVERY)),
    which=st.sampled_from(sorted(PRIORS)),
)
def test_equally_noisy_points_of_all_paths_have_one_estimate(
    rho: float, old: str, new: str, which: str
) -> None:
    trained, z = PRIORS[which].on(EVERY[old]), torch.linspace(-3.0, 2.0, 6, dtype=DOUBLE)
    tau = EVERY[new].tau_at(rho)
    moved = on(trained, EVERY[new])
    x = EVERY[new].alpha(tau) * z
    on_old = trained.denoise(EVERY[old].alpha(EVERY[old].tau_at(rho)) * z, EVERY[old].tau_at(rho))
    torch.testing.assert_close(moved.denoise(x, tau), on_old, rtol=1e-9, atol=1e-9)
    exact = PRIORS[which].on(EVERY[new])
    torch.testing.assert_close(moved.denoise(x, tau), exact.denoise(x, tau), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(velocity(moved, x, tau), velocity(exact, x, tau), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("which", PRIORS)
@pytest.mark.parametrize("data_std", [1.0, 1.7])
@pytest.mark.parametrize("rho", [0.05, 0.5, 1.0, 8.0])
def test_guided_estimates_do_not_depend_on_the_path_either(which: str, data_std: float, rho: float) -> None:
    """Both ways round: the moved prior guided, and the guided prior moved."""
    measured, z = LinearMeasurement(Matrix(A), Y, NOISE), torch.linspace(-3.0, 2.0, 6, dtype=DOUBLE)

    def guided(prior: Prior) -> Prior:
        return guide(prior, measured, max_weight=math.inf, data_std=data_std)

    trained = PRIORS[which].on(VP())
    reference = guided(trained).denoise(VP().alpha(VP().tau_at(rho)) * z, VP().tau_at(rho))
    assert relative_error(trained.denoise(z, 0.9), reference) > 1e-3  # guidance does something
    for path in EVERY.values():
        tau = path.tau_at(rho)
        x = path.alpha(tau) * z
        guided_there = guided(on(trained, path)).denoise(x, tau)
        moved_guided = on(guided(trained), path).denoise(x, tau)
        torch.testing.assert_close(guided_there, reference, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(moved_guided, reference, rtol=1e-9, atol=1e-9)


def test_a_prior_is_not_asked_about_more_noise_than_it_has_seen() -> None:
    trained = PRIORS["gaussian"].on(VP(0.2, 10.0))
    moved, x = on(trained, OT()), torch.zeros(2, 6, dtype=DOUBLE)
    earliest = 1.0 / (1.0 + float(noise_to_signal(VP(0.2, 10.0), 0.0)))
    assert earliest == pytest.approx(0.0726, rel=1e-3)
    assert torch.isfinite(moved.denoise(x, earliest)).all()
    for tau in (0.0, 1e-200, 0.9 * earliest, torch.tensor([0.5, 0.05], dtype=DOUBLE)):
        with pytest.raises(InvalidArgument, match=r"start at tau >= 0\.0726"):
            moved.denoise(x, tau)


def test_where_a_prior_has_seen_no_less_noise_its_last_time_is_used() -> None:
    """The point is the same in units of the data, x / alpha; it is less noisy than the prior thinks."""
    trained = PRIORS["gaussian"].on(VE(50.0, 0.3))
    x = torch.linspace(-3.0, 2.0, 6, dtype=DOUBLE)
    for tau in (1.0, 0.9):
        found = on(trained, OT()).denoise(x, tau)
        torch.testing.assert_close(found, trained.denoise(x / tau, 1.0), rtol=1e-12, atol=1e-12)
        times = torch.tensor([0.5, tau], dtype=DOUBLE)
        torch.testing.assert_close(on(trained, OT()).denoise(x.expand(2, 6), times)[1], found)


def test_from_noise_the_straight_prior_can_be_put_on_every_path() -> None:
    for path in EVERY.values():
        x = path.sigma(0.0) * torch.linspace(-1.0, 1.0, 6, dtype=DOUBLE)
        found = on(PRIORS["mixture"].on(OT()), path).denoise(x, 0.0)
        torch.testing.assert_close(found, PRIORS["mixture"].on(path).denoise(x, 0.0), rtol=1e-9, atol=1e-9)


# Classifier-free guidance


@settings(max_examples=40)
@given(tau=st.floats(0.0, 1.0), path=NAMES)
def test_classifier_free_guidance_goes_along_the_line_of_the_two_priors(tau: float, path: str) -> None:
    prior, x = gaussian(path), torch.linspace(-2.0, 2.0, 6, dtype=DOUBLE)
    conditional = prior.posterior(A, Y, NOISE)
    without, given_y = prior.denoise(x, tau), conditional.denoise(x, tau)
    assert torch.equal(classifier_free(prior, conditional, 0.0).denoise(x, tau), without)
    torch.testing.assert_close(classifier_free(prior, conditional, 1.0).denoise(x, tau), given_y)
    doubled = classifier_free(prior, conditional, 2.0).denoise(x, tau)
    torch.testing.assert_close(doubled, 2.0 * given_y - without)


@pytest.mark.parametrize("weight", [0.0, 1.0, 3.0])
def test_classifier_free_guidance_of_gaussians_sharpens_the_likelihood(weight: float) -> None:
    """Its score at the data is that of p(x) p(y | x)^w: for a Gaussian, of the noise sigma_y^2 / w."""
    prior = gaussian("ot")
    found = classifier_free(prior, prior.posterior(A, Y, NOISE), weight)
    x, tau = torch.linspace(-2.0, 2.0, 6, dtype=DOUBLE), 1.0 - 1e-5
    precision = torch.linalg.inv(prior.cov) + weight / NOISE * A.T @ A
    pulled = torch.linalg.inv(prior.cov) @ prior.mean + weight / NOISE * A.T @ Y
    torch.testing.assert_close(score(found, x, tau), pulled - precision @ x, rtol=1e-2, atol=1e-2)


def test_classifier_free_guidance_across_paths_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="bring one to the other's path"):
        classifier_free(gaussian("ot"), gaussian("cosine"), 2.0)
