from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import DOUBLE, PATHS, golden, relative_error, tensor

from rtc.path import OT, log_snr_rate, ratio, spread, wronskian

INSIDE = st.floats(0.001, 0.999)


@pytest.mark.parametrize("name", PATHS)
def test_a_path_has_the_reference_scales_and_derivatives(name: str) -> None:
    path = PATHS[name]
    for row in golden("paths")["paths"][name]:
        tau = row["tau"]
        given_values = tensor([path.alpha(tau), path.sigma(tau), path.alpha_dot(tau), path.sigma_dot(tau)])
        assert (
            relative_error(given_values, tensor([row[k] for k in ("alpha", "sigma", "dalpha", "dsigma")]))
            < 1e-9
        )


@given(tau=INSIDE, name=st.sampled_from(sorted(PATHS)))
def test_the_log_snr_rate_is_the_derivative_of_log_alpha_over_sigma(tau: float, name: str) -> None:
    path = PATHS[name]
    at = torch.tensor(tau, dtype=DOUBLE, requires_grad=True)
    log_snr = torch.log(torch.as_tensor(path.alpha(at)) / path.sigma(at))
    (slope,) = torch.autograd.grad(log_snr, at)
    assert log_snr_rate(path, tau) == pytest.approx(float(slope), rel=1e-9)


@given(tau=st.floats(0.0, 1.0))
def test_the_straight_path_has_unit_speed_everywhere(tau: float) -> None:
    assert wronskian(OT(), tau) == pytest.approx(1.0, rel=1e-15)


@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_the_ends_of_the_straight_path_are_infinite_and_not_an_error(tau: float) -> None:
    assert log_snr_rate(OT(), tau) == math.inf
    assert torch.isinf(torch.as_tensor(log_snr_rate(OT(), torch.tensor(tau))))


def test_a_tensor_of_times_gives_the_values_of_its_times() -> None:
    tau = torch.linspace(0.0, 1.0, 9, dtype=DOUBLE)
    for path in PATHS.values():
        batched = torch.as_tensor(log_snr_rate(path, tau))
        assert batched.tolist() == pytest.approx([log_snr_rate(path, float(each)) for each in tau], rel=1e-12)


def test_a_ratio_with_zero_below_is_infinite() -> None:
    assert ratio(2.0, 0.0) == math.inf
    assert ratio(2.0, 4.0) == 0.5


def test_a_coefficient_takes_the_dtype_of_the_point_and_its_place_in_the_batch() -> None:
    x = torch.zeros(2, 3, 4, dtype=torch.bfloat16)
    laid = spread(torch.tensor([0.1, 0.2], dtype=DOUBLE), x)
    assert isinstance(laid, torch.Tensor)
    assert (laid.shape, laid.dtype) == ((2, 1, 1), torch.bfloat16)
    assert spread(0.1, x) == 0.1
