from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import DOUBLE, PATHS, golden, tensor

from rtc.errors import InvalidArgument
from rtc.path import OT, VE, VP, log_snr_rate, noise_to_signal, ratio, spread, wronskian

INSIDE = st.floats(0.001, 0.999)
NAMES = st.sampled_from(sorted(PATHS))


@pytest.mark.parametrize("name", PATHS)
def test_a_path_has_the_reference_scales_and_derivatives(name: str) -> None:
    path = PATHS[name]
    for row in golden("paths")["paths"][name]:
        tau = row["tau"]
        given_values = tensor([path.alpha(tau), path.sigma(tau), path.alpha_dot(tau), path.sigma_dot(tau)])
        expected = tensor([row[key] for key in ("alpha", "sigma", "dalpha", "dsigma")])
        assert ((given_values - expected).abs() <= 1e-9 * expected.abs()).all()


@pytest.mark.parametrize("row", golden("paths")["lemma2"], ids=lambda row: f"{row['path']}-{row['tau_ot']}")
def test_paths_are_equally_noisy_at_the_reference_times(row: dict) -> None:
    path, straight = PATHS[row["path"]], OT()
    tau = path.tau_at(noise_to_signal(straight, row["tau_ot"]))
    assert tau == pytest.approx(row["tau"], rel=1e-9)
    assert path.alpha(tau) / straight.alpha(row["tau_ot"]) == pytest.approx(row["scale"], rel=1e-9)


@given(tau=st.floats(0.0, 1.0), name=NAMES)
def test_the_time_is_found_again_from_the_noise_to_signal_ratio(tau: float, name: str) -> None:
    path = PATHS[name]
    assert path.tau_at(noise_to_signal(path, tau)) == pytest.approx(tau, abs=1e-9)
    rho = torch.as_tensor(noise_to_signal(path, torch.tensor(tau, dtype=DOUBLE)))
    assert float(path.tau_at(rho)) == pytest.approx(tau, abs=1e-9)


def test_a_noise_level_that_a_path_never_has_is_at_a_time_outside() -> None:
    assert VP(0.2, 10.0).tau_at(20.0) < 0.0 < VP(0.2, 10.0).tau_at(12.7)  # it reaches 12.77
    assert VE(50.0, 0.01).tau_at(60.0) < 0.0
    assert VE(50.0, 0.01).tau_at(0.001) > 1.0
    assert VE(50.0, 0.01).tau_at(0.0) == math.inf


def test_what_is_left_of_the_data_in_pure_noise_is_the_known_number() -> None:
    assert VP(0.1, 20.0).alpha(0.0) == pytest.approx(0.00657, rel=1e-3)
    assert VP(0.2, 10.0).alpha(0.0) == pytest.approx(0.0781, rel=1e-3)


@given(tau=INSIDE, name=NAMES)
def test_the_log_snr_rate_is_the_derivative_of_log_alpha_over_sigma(tau: float, name: str) -> None:
    path = PATHS[name]
    at = torch.tensor(tau, dtype=DOUBLE, requires_grad=True)
    log_snr = torch.log(torch.as_tensor(path.alpha(at)) / path.sigma(at))
    (slope,) = torch.autograd.grad(log_snr, at)
    assert log_snr_rate(path, tau) == pytest.approx(float(slope), rel=1e-9)


@given(tau=INSIDE)
def test_variance_is_preserved_where_the_name_says_so(tau: float) -> None:
    for name in ("vp_0.1_20", "vp_0.2_10", "cosine"):
        assert PATHS[name].alpha(tau) ** 2 + PATHS[name].sigma(tau) ** 2 == pytest.approx(1.0, rel=1e-14)


@given(u=st.floats(1e-15, 1e-6))
def test_a_little_noise_near_the_data_is_not_lost_to_rounding(u: float) -> None:
    tau = 1.0 - u
    u = 1.0 - tau
    assert VP(0.1, 20.0).sigma(tau) == pytest.approx(math.sqrt(0.1 * u + 0.5 * u**2 * 19.9), rel=1e-5)


@given(tau=st.floats(0.0, 1.0))
def test_the_straight_path_has_unit_speed_everywhere(tau: float) -> None:
    assert wronskian(OT(), tau) == pytest.approx(1.0, rel=1e-15)


@pytest.mark.parametrize("name", PATHS)
def test_data_end_where_data_is(name: str) -> None:
    path = PATHS[name]
    assert path.alpha(1.0) == 1.0
    assert path.sigma(1.0) == pytest.approx(0.01 if name.startswith("ve") else 0.0, abs=1e-15)


@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_the_ends_of_the_straight_path_are_infinite_and_not_an_error(tau: float) -> None:
    assert log_snr_rate(OT(), tau) == math.inf
    assert torch.isinf(torch.as_tensor(log_snr_rate(OT(), torch.tensor(tau))))


def test_a_tensor_of_times_gives_the_values_of_its_times() -> None:
    tau = torch.linspace(0.0, 1.0, 9, dtype=DOUBLE)
    for path in PATHS.values():
        for function in (log_snr_rate, noise_to_signal):
            batched = torch.as_tensor(function(path, tau)).tolist()
            assert batched == pytest.approx([function(path, float(each)) for each in tau], rel=1e-12)


def test_a_ratio_with_zero_below_is_infinite() -> None:
    assert ratio(2.0, 0.0) == math.inf
    assert ratio(2.0, 4.0) == 0.5


def test_a_coefficient_takes_the_dtype_of_the_point_and_its_place_in_the_batch() -> None:
    x = torch.zeros(2, 3, 4, dtype=torch.bfloat16)
    laid = spread(torch.tensor([0.1, 0.2], dtype=DOUBLE), x)
    assert isinstance(laid, torch.Tensor)
    assert (laid.shape, laid.dtype) == ((2, 1, 1), torch.bfloat16)
    assert spread(0.1, x) == 0.1


@pytest.mark.parametrize(("beta0", "beta1"), [(0.0, 20.0), (1.0, 0.5), (0.1, math.inf), (math.nan, 1.0)])
def test_a_vp_path_of_other_betas_is_refused(beta0: float, beta1: float) -> None:
    with pytest.raises(InvalidArgument, match="0 < beta0 <= beta1"):
        VP(beta0, beta1)


@pytest.mark.parametrize(("largest", "smallest"), [(1.0, 1.0), (50.0, 0.0), (math.inf, 0.1)])
def test_a_ve_path_of_other_sigmas_is_refused(largest: float, smallest: float) -> None:
    with pytest.raises(InvalidArgument, match="0 < sigma_min < sigma_max"):
        VE(largest, smallest)
