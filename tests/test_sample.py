from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import DOUBLE, PATHS, GaussianPrior, golden, isotropic, law_of_sampler, tensor

from rtc.errors import InvalidArgument
from rtc.kernel import step_kernel
from rtc.path import OT
from rtc.prior import from_denoiser, from_velocity, velocity
from rtc.sample import sample

KERNELS = [row for row in golden("paths")["kernel"] if row["path"] in PATHS]


@pytest.mark.parametrize("row", KERNELS, ids=lambda row: f"{row['path']}-{row['tau']}-eta{row['eta']}")
def test_a_step_is_the_three_reference_numbers(row: dict) -> None:
    kernel = step_kernel(PATHS[row["path"]], row["tau"], row["tau_next"], row["eta"])
    assert list(kernel) == pytest.approx([row["A"], row["B"], row["c"]], rel=1e-9, abs=1e-15)


@given(tau=st.floats(0.0, 0.99), fraction=st.floats(0.01, 1.0))
def test_eulers_step_on_the_straight_path_is_ddim(tau: float, fraction: float) -> None:
    prior = isotropic(0.3, 0.5, size=4)
    x = torch.linspace(-1.0, 1.0, 4, dtype=DOUBLE)[:, None]
    tau_next = tau + fraction * (1.0 - tau)
    kernel = step_kernel(OT(), tau, tau_next)
    stepped = kernel.data * prior.denoise(x, tau) + kernel.state * x
    torch.testing.assert_close(stepped, x + (tau_next - tau) * velocity(prior, x, tau), rtol=1e-9, atol=1e-9)


@given(tau=st.floats(0.0, 0.9), eta=st.floats(0.0, 1.0), path=st.sampled_from(sorted(PATHS)))
def test_a_step_carries_one_marginal_of_a_known_point_to_the_next(tau: float, eta: float, path: str) -> None:
    tau_next = tau + 0.05
    kernel, along = step_kernel(PATHS[path], tau, tau_next, eta), PATHS[path]
    assert kernel.data + kernel.state * along.alpha(tau) == pytest.approx(along.alpha(tau_next), rel=1e-9)
    spread_after = (kernel.state * along.sigma(tau)) ** 2 + kernel.noise**2
    assert spread_after == pytest.approx(along.sigma(tau_next) ** 2, rel=1e-9)


@given(tau=st.floats(0.0, 0.99), eta=st.floats(0.0, 1.0))
def test_the_last_step_is_the_denoiser_itself(tau: float, eta: float) -> None:
    assert step_kernel(OT(), tau, 1.0, eta) == (1.0, 0.0, 0.0)


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


@pytest.mark.parametrize(("tau", "tau_next"), [(0.5, 0.5), (0.5, 0.4), (-0.1, 0.5), (0.5, 1.1)])
def test_a_step_that_does_not_go_forward_within_the_path_is_refused(tau: float, tau_next: float) -> None:
    with pytest.raises(InvalidArgument, match="tau < tau_next"):
        step_kernel(OT(), tau, tau_next)


def test_a_step_noisier_than_ancestral_sampling_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="eta"):
        step_kernel(OT(), 0.1, 0.2, 1.5)
