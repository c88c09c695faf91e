"""The losses: one error in four units, least at the closed form, and the released value."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from oracle import DOUBLE, GoldenPolicy
from scipy.stats import beta, kstest, uniform
from torch import Generator, Tensor

from rtc import losses
from rtc.errors import InvalidArgument
from rtc.path import OT, VE, VP, Cosine, Path, Time, spread, wronskian
from rtc.prior import Prior, eps, from_denoiser, score, velocity

PATHS: list[Path] = [OT(), VP(), Cosine(), VE(5.0, 0.05)]
paths = pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
VARIANCE = 0.3
DRAWS = 200_000


def draw(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def bent(x: Tensor, tau: Time) -> Tensor:
    """Some denoiser that is no data's."""
    return (1.3 * x + spread(tau, x)).sin()


def each(prior: Prior, x1: Tensor, path: Path, seed: int) -> tuple[float, ...]:
    """All four losses of what one denoiser says, on the same draws."""
    return tuple(
        float(loss(lambda x, tau, view=view: view(prior, x, tau), x1, path, draw(seed)))
        for loss, view in (
            (losses.data_loss, lambda prior, x, tau: prior.denoise(x, tau)),
            (losses.flow_matching_loss, velocity),
            (losses.ddpm_loss, eps),
            (losses.denoising_score_matching_loss, score),
        )
    )


@paths
@pytest.mark.parametrize("seed", range(5))
def test_the_losses_are_one_error_in_four_units(path: Path, seed: int) -> None:
    """On one row, thus at one time: v-error = (w / sigma) e, eps-error = -(alpha / sigma) e, ..."""
    x1 = torch.randn(1, 4, 3, dtype=DOUBLE, generator=draw(100 + seed))
    of_data, of_velocity, of_eps, of_score = each(from_denoiser(bent, path), x1, path, seed)
    tau = losses.noisy(x1, path, draw(seed)).tau
    to_velocity = float(wronskian(path, tau) / path.sigma(tau)) ** 2
    to_eps = float(path.alpha(tau) / path.sigma(tau)) ** 2
    assert of_data > 0.01
    assert of_velocity == pytest.approx(to_velocity * of_data, rel=1e-9)
    assert of_eps == pytest.approx(to_eps * of_data, rel=1e-9)
    assert of_score == pytest.approx(to_eps * of_data, rel=1e-9)  # sigma^2 (alpha / sigma^2)^2


def gaussian(path: Path, shrink: float = 1.0) -> Prior:
    """The exact prior of N(0, VARIANCE), times `shrink`."""

    def denoise(x: Tensor, tau: Time) -> Tensor:
        alpha, sigma = path.alpha(tau), path.sigma(tau)
        return spread(shrink * alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2), x) * x

    return from_denoiser(denoise, path)


def least(path: Path) -> tuple[float, ...]:
    """The four losses of the exact prior: E over tau of r2, and of r2 in the other units."""
    tau = (torch.arange(100_000, dtype=DOUBLE) + 0.5) / 100_000
    alpha2 = torch.as_tensor(path.alpha(tau)) ** 2
    sigma2 = torch.as_tensor(path.sigma(tau)) ** 2
    total = alpha2 * VARIANCE + sigma2
    r2, as_eps = sigma2 * VARIANCE / total, alpha2 * VARIANCE / total
    as_velocity = torch.as_tensor(wronskian(path, tau)) ** 2 * VARIANCE / total
    return tuple(float(value.mean()) for value in (r2, as_velocity, as_eps, as_eps))


@paths
def test_the_exact_prior_of_a_gaussian_attains_the_least_loss_and_its_closed_form(path: Path) -> None:
    x1 = VARIANCE**0.5 * torch.randn(DRAWS, 1, dtype=DOUBLE, generator=draw(1))
    attained, bound = each(gaussian(path), x1, path, 2), least(path)
    assert attained == pytest.approx(bound, rel=0.02)
    for shrink in (0.9, 1.1):
        worse = each(gaussian(path, shrink), x1, path, 2)
        assert all(other > best for other, best in zip(worse, attained, strict=True))


@paths
def test_the_implicit_loss_of_a_linear_score_is_its_closed_form(path: Path) -> None:
    """For score -k x and points of variance V: -k + k^2 V / 2, least at k = 1 / V, where it is -1 / (2 V)."""
    x1 = VARIANCE**0.5 * torch.randn(DRAWS, 1, dtype=DOUBLE, generator=draw(3))
    tau = (torch.arange(100_000, dtype=DOUBLE) + 0.5) / 100_000
    total = torch.as_tensor(path.alpha(tau)) ** 2 * VARIANCE + torch.as_tensor(path.sigma(tau)) ** 2
    for k in (0.5, 2.0):
        given = losses.implicit_score_matching_loss(lambda x, tau, k=k: -k * x, x1, path, draw(4))
        square = float((k**2 * total / 2).mean())
        assert float(given) == pytest.approx(-k + square, abs=0.015 * square)
    exact = losses.implicit_score_matching_loss(
        lambda x, tau: score(gaussian(path), x, tau), x1, path, draw(4)
    )
    assert float(exact) == pytest.approx(float((-0.5 / total).mean()), rel=0.05)


def test_the_probe_measures_the_trace_of_a_score_that_mixes_values() -> None:
    """For score A x the loss is tr A + |A x|^2 / 2 per value; only the diagonal of A is in the trace."""
    a = torch.tensor([[-1.0, 0.8, 0.0], [-0.5, -2.0, 0.3], [0.2, 0.9, 0.7]], dtype=DOUBLE)
    x1 = torch.zeros(DRAWS, 3, dtype=DOUBLE)
    given = losses.implicit_score_matching_loss(lambda x, tau: x @ a.T, x1, VE(0.2, 0.1), draw())
    x = losses.noisy(x1, VE(0.2, 0.1), draw()).x
    expected = (a.trace() + (x @ a.T).square().sum(-1).mean() / 2) / 3
    assert float(given) == pytest.approx(float(expected), abs=0.01)


def test_implicit_and_explicit_score_matching_differ_by_the_same_constant() -> None:
    """Hyvarinen 2005, theorem 1: E |s - true|^2 / 2 = implicit + constant, whatever s is."""
    path = VE(1.0, 0.9)
    x1 = VARIANCE**0.5 * torch.randn(DRAWS, 1, dtype=DOUBLE, generator=draw(5))
    x, _, tau = losses.noisy(x1, path, draw(6))
    true = score(gaussian(path), x, tau)
    fields: list[Callable[[Tensor, Tensor], Tensor]] = [
        lambda x, tau: -x,
        lambda x, tau: -0.2 * x**3,
        lambda x, tau: x.cos(),
    ]
    gaps = [
        float((field(x, tau) - true).square().mean() / 2)
        - float(losses.implicit_score_matching_loss(field, x1, path, draw(6)))
        for field in fields
    ]
    assert gaps == pytest.approx([sum(gaps) / 3] * 3, abs=0.01)


def test_the_flow_loss_is_the_released_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the stored times and noise, with the stored velocity field."""
    golden = GoldenPolicy()
    drawn = {"rand": golden["loss_time"], "randn": golden["loss_noise"]}
    for name, value in drawn.items():
        monkeypatch.setattr(torch, name, lambda *shape, value=value, **settings: value)
    given = losses.flow_matching_loss(golden.velocity, golden["loss_action"])
    assert float(given) == pytest.approx(float(golden["loss_value"]), rel=1e-12)


@paths
def test_noisy_points_lie_on_the_path_at_times_drawn_before_the_noise(path: Path) -> None:
    x1 = torch.randn(5, 2, 3, dtype=DOUBLE, generator=draw(7))
    x, x0, tau = losses.noisy(x1, path, draw(8))
    again = draw(8)
    assert torch.equal(tau, torch.rand(5, generator=again, dtype=DOUBLE))
    assert torch.equal(x0, torch.randn(5, 2, 3, generator=again, dtype=DOUBLE))
    for row in range(5):
        time = float(tau[row])
        expected = float(path.alpha(time)) * x1[row] + float(path.sigma(time)) * x0[row]
        assert torch.allclose(x[row], expected, rtol=1e-12, atol=0)


def test_flow_times_are_uniform_or_dwell_on_the_noise() -> None:
    """Against scipy's own distributions; 0.999 (1 - tau') with tau' ~ Beta(1.5, 1)."""
    x1 = torch.zeros(20_000, 1, dtype=DOUBLE)
    for times, law in (("uniform", uniform()), ("beta", beta(1, 1.5, scale=0.999))):
        tau = losses.noisy(x1, OT(), draw(3), times=times).tau
        assert kstest(tau.numpy(), law.cdf).pvalue > 0.01
    with pytest.raises(InvalidArgument, match="'gamma'; choose from uniform, beta"):
        losses.noisy(x1, OT(), times="gamma")


@paths
def test_clean_rows_are_data_and_only_valid_rows_that_are_not_count(path: Path) -> None:
    x1 = torch.randn(5, 4, 2, dtype=DOUBLE, generator=draw(1))
    clean, valid = torch.arange(4) < torch.tensor([[0], [1], [2], [3], [4]]), torch.rand(5, 4) < 2.0
    valid[1:, 3] = False
    x, x0, tau = losses.noisy(x1, path, draw(2), clean=clean)
    plain = losses.noisy(x1, path, draw(2))
    assert torch.equal(tau[clean], torch.ones_like(tau[clean]))
    assert torch.equal(x[~clean], plain.x[~clean])
    ends = path.alpha(1.0) * x1 + path.sigma(1.0) * x0
    assert torch.allclose(x[clean], ends[clean])

    def error(x: Tensor, tau: Tensor) -> Tensor:
        return (1.3 * x).sin() + tau[..., None]

    target = spread(path.alpha_dot(tau), x1) * x1 + spread(path.sigma_dot(tau), x1) * x0
    counted = ~clean & valid
    expected = (error(x, tau) - target)[counted].square().mean()
    given = losses.flow_matching_loss(error, x1, path, draw(2), clean=clean, valid=valid)
    assert given.item() == pytest.approx(expected.item(), rel=1e-9)
    nothing = losses.flow_matching_loss(error, x1, path, draw(2), clean=clean, valid=valid & False)
    assert nothing == 0.0
