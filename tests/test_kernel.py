"""Gaussian steps x_next = A x1_hat + B x + c n."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import DOUBLE, PATHS, golden, isotropic

from rtc.errors import InvalidArgument
from rtc.kernel import StepKernel, euler_kernel, renoise_kernel, step_kernel
from rtc.path import OT
from rtc.prior import velocity

NAMES = st.sampled_from(sorted(PATHS))


@pytest.mark.parametrize(
    "row", golden("paths")["kernel"], ids=lambda row: f"{row['path']}-{row['tau']}-eta{row['eta']}"
)
def test_a_step_is_the_three_reference_numbers(row: dict) -> None:
    kernel = step_kernel(PATHS[row["path"]], row["tau"], row["tau_next"], row["eta"])
    assert list(kernel) == pytest.approx([row["A"], row["B"], row["c"]], rel=1e-9, abs=1e-15)


@given(tau=st.floats(0.0, 0.99), fraction=st.floats(1e-12, 1.0), eta=st.floats(0.0, 1.0), path=NAMES)
def test_a_step_carries_one_marginal_of_a_known_point_to_the_next(
    tau: float, fraction: float, eta: float, path: str
) -> None:
    along, tau_next = PATHS[path], tau + fraction * (1.0 - tau)
    kernel = step_kernel(along, tau, tau_next, eta)
    assert kernel.data + kernel.state * along.alpha(tau) == pytest.approx(along.alpha(tau_next), rel=1e-9)
    spread_after = (kernel.state * along.sigma(tau)) ** 2 + kernel.noise**2
    assert spread_after == pytest.approx(along.sigma(tau_next) ** 2, rel=1e-9)


@given(tau=st.floats(0.01, 0.9), fraction=st.floats(0.1, 0.9), path=NAMES)
def test_the_noisiest_step_is_the_posterior_of_the_forward_chain(
    tau: float, fraction: float, path: str
) -> None:
    along, tau_next = PATHS[path], tau + fraction * (1.0 - tau)
    kernel, forward = step_kernel(along, tau, tau_next, 1.0), renoise_kernel(along, tau_next, tau)
    # q(x_next | x, x1) is in proportion to N(x; state x_next, noise^2) N(x_next; alpha x1, sigma^2)
    precision = forward.state**2 / forward.noise**2 + 1.0 / along.sigma(tau_next) ** 2
    assert kernel.noise**2 == pytest.approx(1.0 / precision, rel=1e-6)
    assert kernel.state == pytest.approx(forward.state / forward.noise**2 / precision, rel=1e-6)


@given(tau=st.floats(0.0, 0.99), fraction=st.floats(0.01, 1.0))
def test_eulers_step_on_the_straight_path_is_ddim(tau: float, fraction: float) -> None:
    tau_next = tau + fraction * (1.0 - tau)
    assert euler_kernel(OT(), tau, tau_next) == pytest.approx(step_kernel(OT(), tau, tau_next), abs=1e-12)


@given(tau=st.floats(0.01, 0.99), fraction=st.floats(0.01, 1.0), path=NAMES)
def test_eulers_step_is_a_length_of_the_velocity(tau: float, fraction: float, path: str) -> None:
    prior = isotropic(0.3, 0.5, size=4, path=PATHS[path])
    x = torch.linspace(-1.0, 1.0, 4, dtype=DOUBLE)[:, None]
    tau_next = tau + fraction * (1.0 - tau)
    stepped = euler_kernel(PATHS[path], tau, tau_next).apply(prior.denoise(x, tau), x)
    torch.testing.assert_close(stepped, x + (tau_next - tau) * velocity(prior, x, tau), rtol=1e-9, atol=1e-9)


@given(tau=st.floats(0.0, 0.99), eta=st.floats(0.0, 1.0))
def test_the_last_step_is_the_denoiser_itself(tau: float, eta: float) -> None:
    assert step_kernel(OT(), tau, 1.0, eta) == (1.0, 0.0, 0.0)


@given(tau=st.floats(0.001, 1.0), fraction=st.floats(0.0, 1.0), v=st.floats(0.0, 10.0), path=NAMES)
def test_a_step_back_is_the_forward_process(tau: float, fraction: float, v: float, path: str) -> None:
    along, tau_back = PATHS[path], fraction * tau
    kernel = renoise_kernel(along, tau, tau_back)
    variance = along.alpha(tau) ** 2 * v + along.sigma(tau) ** 2
    after = along.alpha(tau_back) ** 2 * v + along.sigma(tau_back) ** 2
    assert kernel.state**2 * variance + kernel.noise**2 == pytest.approx(after, rel=1e-9, abs=1e-15)
    assert (kernel.data, kernel.state * along.alpha(tau)) == (0.0, pytest.approx(along.alpha(tau_back)))


@given(tau=st.floats(0.001, 0.999), path=NAMES, eta=st.floats(0.0, 1.0))
def test_the_shortest_of_steps_is_a_number(tau: float, path: str, eta: float) -> None:
    after, before = math.nextafter(tau, 1.0), math.nextafter(tau, 0.0)
    for kernel in (step_kernel(PATHS[path], tau, after, eta), renoise_kernel(PATHS[path], tau, before)):
        assert (kernel.data, kernel.state) == pytest.approx((0.0, 1.0), abs=1e-6)
        assert 0.0 <= kernel.noise < 1e-5


def test_no_step_back_is_no_step_and_all_the_way_is_noise() -> None:
    assert renoise_kernel(OT(), 0.4, 0.4) == (0.0, 1.0, 0.0)
    assert renoise_kernel(OT(), 0.4, 0.0) == (0.0, 0.0, 1.0)


def test_a_step_without_noise_draws_none_and_one_with_noise_draws_the_generator_s() -> None:
    x, generator = torch.zeros(3, 2), torch.Generator().manual_seed(0)
    StepKernel(1.0, 0.5, 0.0).apply(x, x, generator)
    drawn = StepKernel(1.0, 0.5, 2.0).apply(x, x, generator)
    assert torch.equal(drawn, 2.0 * torch.randn(3, 2, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("kernel", [step_kernel, euler_kernel])
@pytest.mark.parametrize(("tau", "tau_next"), [(0.5, 0.5), (0.5, 0.4), (-0.1, 0.5), (0.5, 1.1)])
def test_a_step_that_does_not_go_forward_within_the_path_is_refused(
    kernel, tau: float, tau_next: float
) -> None:
    with pytest.raises(InvalidArgument, match="tau < tau_next"):
        kernel(OT(), tau, tau_next)


@pytest.mark.parametrize(("tau", "tau_back"), [(0.5, 0.6), (0.5, -0.1), (1.1, 0.5)])
def test_a_step_back_that_goes_forward_is_refused(tau: float, tau_back: float) -> None:
    with pytest.raises(InvalidArgument, match="tau_back <= tau"):
        renoise_kernel(OT(), tau, tau_back)


def test_a_step_back_from_pure_noise_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="nothing but noise"):
        renoise_kernel(OT(), 0.0, 0.0)


def test_a_step_noisier_than_ancestral_sampling_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="eta"):
        step_kernel(OT(), 0.1, 0.2, 1.5)
