"""The guidance family against finite differences, with operators that are linear and ones that are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from oracle import DOUBLE, Matrix
from test_guidance_family import MEASURED, NEXT, TAU, A, Y, Z, network
from torch import Tensor

from rtc.guidance.likelihood import DPS, LGD, likelihood_guidance
from rtc.guidance.pigdm import pigdm, r2
from rtc.guidance.proximal import ddnm, mpgd
from rtc.guidance.tweedie import mmps, tmpd, tweedie
from rtc.measurement import Energy, LinearMeasurement
from rtc.path import Time
from rtc.solvers import DDIM

GAIN = (1.0 - TAU) ** 2 / TAU


def slope_of(function: Callable[[Tensor], Tensor]) -> Tensor:
    """The gradient of function(x) [batch] at Z, by central differences."""
    slope, step = torch.zeros_like(Z), 1e-6
    for index in range(Z.shape[1]):
        nudge = torch.zeros_like(Z)
        nudge[:, index] = step
        slope[:, index] = ((function(Z + nudge) - function(Z - nudge)) / (2 * step)).detach()
    return slope


class Curved:
    """A nonlinear operator, A(x) = tanh(a x), and its derivative."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ A.T)

    def linearised(self, x: Tensor) -> Tangent:
        return Tangent(1.0 - self.forward(x) ** 2)


class Tangent:
    def __init__(self, slope: Tensor) -> None:
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return self.slope * (x @ A.T)

    def adjoint(self, y: Tensor) -> Tensor:
        return (self.slope * y) @ A

    def solve(self, residual: Tensor, r2: Time, noise_variance: Time) -> Tensor:
        whole = self.slope[..., None] * (A @ A.T) * self.slope[:, None]
        return torch.linalg.solve(
            r2 * whole + noise_variance * torch.eye(3, dtype=DOUBLE), residual[..., None]
        )[..., 0]


operators = pytest.mark.parametrize("operator", [Matrix(A), Curved()], ids=["linear", "nonlinear"])


@operators
def test_likelihood_guidance_is_the_gradient_that_finite_differences_find(operator) -> None:
    prior, measured = network(), LinearMeasurement(operator, Y, 0.2)
    slope = slope_of(lambda x: measured.log_likelihood(prior.denoise(x, TAU)))
    correction = likelihood_guidance(prior, measured, scale=0.7).denoise(Z, TAU) - prior.denoise(Z, TAU)
    torch.testing.assert_close(correction, 0.7 * GAIN * slope, rtol=1e-6, atol=1e-7)


@operators
@pytest.mark.parametrize(("misfit", "power"), [("norm", 1), ("squared", 2)])
def test_dps_descends_the_misfit_of_each_element(operator, misfit: str, power: int) -> None:
    prior, measured = network(), LinearMeasurement(operator, Y, 0.2)
    slope = slope_of(lambda x: measured.residual(prior.denoise(x, TAU)).norm(dim=1) ** power)
    on, off = (DPS(measured, zeta, misfit, eta=0.0)(prior, Z, TAU, NEXT).x for zeta in (0.3, 0.0))
    torch.testing.assert_close(on - off, -0.3 * slope, rtol=1e-6, atol=1e-7)


@operators
@pytest.mark.parametrize(("misfit", "power"), [("norm", 1), ("squared", 2)])
def test_mpgd_descends_the_misfit_at_the_estimate(operator, misfit: str, power: int) -> None:
    class Nothing:
        path = network().path

        def denoise(self, x: Tensor, tau: Time) -> Tensor:
            return x

    measured = LinearMeasurement(operator, Y, 0.2)
    slope = slope_of(lambda x: measured.residual(x).norm(dim=1) ** power)
    moved = mpgd(Nothing(), measured, step=0.3, misfit=misfit).denoise(Z, TAU)
    torch.testing.assert_close(moved - Z, -0.3 * slope, rtol=1e-6, atol=1e-7)


@operators
def test_loss_guidance_is_the_gradient_that_finite_differences_find(operator) -> None:
    prior, measured, std = network(), LinearMeasurement(operator, Y, 2.0), 0.5
    generator = torch.Generator().manual_seed(9)
    spread = r2(TAU, std) ** 0.5
    offsets = [spread * torch.randn(Z.shape, generator=generator, dtype=DOUBLE) for _ in range(4)]

    def log_mean(x: Tensor) -> Tensor:
        x1_hat = prior.denoise(x, TAU)
        return torch.stack([measured.log_likelihood(x1_hat + o).exp() for o in offsets]).mean(0).log()

    solver = LGD(measured, draws=4, data_std=std, eta=0.0)
    correction = solver(prior, Z, TAU, NEXT, torch.Generator().manual_seed(9)).x1_hat - prior.denoise(Z, TAU)
    torch.testing.assert_close(correction, GAIN * slope_of(log_mean), rtol=1e-6, atol=1e-7)


def test_loss_guidance_without_spread_is_likelihood_guidance() -> None:
    prior = network()
    expected = DDIM()(likelihood_guidance(prior, MEASURED), Z, TAU, NEXT)
    moved = LGD(MEASURED, data_std=1e-9, eta=0.0)(prior, Z, TAU, NEXT)
    torch.testing.assert_close(moved.x, expected.x, rtol=1e-6, atol=1e-6)


def test_loss_guidance_with_many_draws_is_pigdm() -> None:
    prior, one = network(), LinearMeasurement(Matrix(A[:1]), Y[:, :1], 1.0)
    solver = LGD(one, draws=1000, eta=0.0)
    moved = solver(prior, Z, TAU, NEXT, torch.Generator().manual_seed(0)).x1_hat
    exact, x1_hat = pigdm(prior, one).denoise(Z, TAU), prior.denoise(Z, TAU)
    theory = likelihood_guidance(prior, one).denoise(Z, TAU)
    assert float((moved - exact).norm()) < 0.15 * float((exact - x1_hat).norm())
    assert float((theory - exact).norm()) > 0.5 * float((exact - x1_hat).norm())


@operators
def test_an_energy_guides_as_the_measurement_that_it_states(operator) -> None:
    prior, measured = network(), LinearMeasurement(operator, Y, 0.2)
    energy = Energy(lambda x1: measured.residual(x1).square().sum(1) / (2.0 * 0.2))
    torch.testing.assert_close(
        likelihood_guidance(prior, energy).denoise(Z, TAU),
        likelihood_guidance(prior, measured).denoise(Z, TAU),
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize("guided", [pigdm, tweedie, mmps, tmpd, ddnm], ids=lambda method: method.__name__)
def test_a_nonlinear_operator_enters_by_its_derivative_at_the_estimate(guided) -> None:
    prior, curved = network(), Curved()
    x1_hat = prior.denoise(Z, TAU).detach()
    tangent = curved.linearised(x1_hat)
    shifted = Y - curved.forward(x1_hat) + tangent.forward(x1_hat)  # so that the residual is the same
    expected = guided(prior, LinearMeasurement(tangent, shifted, 0.2)).denoise(Z, TAU)
    moved = guided(prior, LinearMeasurement(curved, Y, 0.2)).denoise(Z, TAU)
    torch.testing.assert_close(moved, expected, rtol=1e-9, atol=1e-9)
    assert float((moved - x1_hat).abs().max()) > 1e-3


def test_loss_guidance_in_practice_descends_the_mean_misfit_of_its_draws() -> None:
    prior, x, std = network(), Z, float(r2(TAU, 0.7)) ** 0.5
    step = DPS(MEASURED, 0.3, "norm", 0.0, draws=5, data_std=0.7)
    guided = step(prior, x, TAU, NEXT, torch.Generator().manual_seed(1)).x
    plain = DPS(MEASURED, 0.0, "norm", 0.0)(prior, x, TAU, NEXT).x
    generator = torch.Generator().manual_seed(1)
    offsets = [std * torch.randn(x.shape, generator=generator, dtype=DOUBLE) for _ in range(5)]

    def mean_misfit(point: Tensor) -> Tensor:
        x1_hat = prior.denoise(point, TAU)
        return torch.stack([(Y - (x1_hat + offset) @ A.T).norm(dim=1) for offset in offsets]).mean(0)

    assert torch.allclose(plain - guided, 0.3 * slope_of(mean_misfit), atol=1e-6)
