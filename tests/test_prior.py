from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import DOUBLE, PATHS, GaussianPrior, golden, isotropic, relative_error, tensor

from rtc.errors import InvalidArgument
from rtc.prior import eps, from_denoiser, from_velocity, score, velocity

GAUSSIAN = golden("gaussian")
POINTS = [point for point in GAUSSIAN["points"] if point["path"] in PATHS]


def gaussian(path: str) -> GaussianPrior:
    return GaussianPrior(tensor(GAUSSIAN["mean"]), tensor(GAUSSIAN["cov"]), PATHS[path])


@pytest.mark.parametrize("point", POINTS, ids=lambda point: f"{point['path']}-{point['tau']}")
def test_denoiser_score_and_velocity_of_a_gaussian_are_the_reference_ones(point: dict) -> None:
    prior, x, tau = gaussian(point["path"]), tensor(point["x"]), point["tau"]
    assert relative_error(prior.denoise(x, tau), tensor(point["x1hat"])) < 1e-9
    assert relative_error(score(prior, x, tau), tensor(point["score"])) < 1e-9
    assert relative_error(velocity(prior, x, tau), tensor(point["velocity"])) < 1e-9


@given(tau=st.floats(0.001, 0.999), path=st.sampled_from(sorted(PATHS)))
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


@given(tau=st.floats(0.01, 0.99), path=st.sampled_from(sorted(PATHS)))
def test_a_prior_survives_the_way_through_its_velocity(tau: float, path: str) -> None:
    prior = gaussian(path)
    again = from_velocity(lambda x, at: velocity(prior, x, at), PATHS[path])
    x = torch.linspace(-2.0, 2.0, 6, dtype=DOUBLE)
    torch.testing.assert_close(again.denoise(x, tau), prior.denoise(x, tau), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("path", PATHS)
def test_a_time_for_each_row_is_that_time_for_that_row(path: str) -> None:
    prior = gaussian(path)
    through_velocity = from_velocity(lambda x, at: velocity(prior, x, at), PATHS[path])
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    times = torch.tensor([0.1, 0.5, 0.9], dtype=DOUBLE)
    for function in (velocity, score, eps, lambda p, point, tau: p.denoise(point, tau)):
        together = function(through_velocity, x, times)
        for row, tau in enumerate(times):
            torch.testing.assert_close(
                together[row], function(prior, x[row], float(tau)), rtol=1e-9, atol=1e-9
            )


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
