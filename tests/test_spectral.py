from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import DOUBLE, GaussianPrior, golden, law_of
from torch import Tensor

from rtc.errors import InvalidArgument, Unsupported
from rtc.inverse.replacement import Replacement
from rtc.inverse.spectral import DDRM, DDNMPlus, ddnm_plus, ddrm, ddrm_start
from rtc.measurement import LinearMeasurement
from rtc.operators import Blur, Downsample, Hadamard, Mask, Matrix, gaussian
from rtc.path import STRAIGHT, VE, VP, Path
from rtc.prior import from_denoiser, on
from rtc.table import Table

ROWS = golden("spectral")["ddrm_scalar"]
SETTINGS = [
    (grid, eta, eta_b)
    for grid in ("geom80", "geom80_50")
    for eta, eta_b in ((0.85, 1.0), (0.85, 0.5), (1.0, 1.0), (0.0, 1.0))
]
PATHS: dict[str, Path] = {"ot": STRAIGHT, "vp": VP(), "ve": Table((50.0, 10.0, 2.0, 0.5, 0.1, 0.0), False)}


@contextmanager
def given_noise(draw: Callable[[int], Tensor]) -> Iterator[None]:
    """The k-th call of torch.randn returns draw(k)."""
    calls = count()
    with patch("torch.randn", lambda *size, **how: draw(next(calls))):
        yield


def problem(noise: float, seed: int = 0) -> LinearMeasurement:
    """Three observations of five values, one of them twice, so that A has rank 2 of 3."""
    a = torch.randn(3, 5, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    a[2] = -0.5 * a[0]
    y = torch.randn(5, generator=torch.Generator().manual_seed(seed + 1), dtype=DOUBLE)
    return LinearMeasurement(Matrix(a), Matrix(a).forward(y), noise**2)


def correlated(path: Path, *event: int) -> GaussianPrior:
    """A Gaussian over values [*event], (5,) if not given, each as large as the others and tied to them."""
    event = event or (5,)
    size = math.prod(event)
    root = torch.randn(size, size, generator=torch.Generator().manual_seed(9), dtype=DOUBLE)
    return GaussianPrior(
        torch.linspace(-1.0, 1.0, size, dtype=DOUBLE).reshape(event), root @ root.T / size, path
    )


@pytest.mark.parametrize(("grid", "eta", "eta_b"), SETTINGS)
def test_ddrms_law_on_a_standard_normal_is_the_closed_form_recursion(
    grid: str, eta: float, eta_b: float
) -> None:
    rows = [row for row in ROWS if (row["sigmas"], row["eta"], row["eta_b"]) == (grid, eta, eta_b)]
    last, levels = {"geom80": (1e-3, 1000), "geom80_50": (1e-2, 50)}[grid]
    rho = torch.logspace(math.log10(80.0), math.log10(last), levels, dtype=DOUBLE).tolist()
    path = Table((*rho, 0.0), preserving=False)
    prior = from_denoiser(lambda x, tau: x / (1.0 + path.sigma(tau) ** 2), path)
    # one coordinate a row, with sigma_y = 1 and y = s, so that y / s = 1
    s = torch.tensor([row["singular_value"] / row["sigma_y"] for row in rows], dtype=DOUBLE)
    step = DDRM(LinearMeasurement(Matrix(s.diag()), s, 1.0), eta, eta_b)
    law = law_of(lambda noise: ddrm_start(step, path, tuple(noise.shape)), (len(rows),))
    mean, variance = law.mean, law.cov.diagonal()
    noise = torch.tensor([0.0, 0.0, 1.0], dtype=DOUBLE)[:, None].expand(-1, len(rows))
    for k in range(levels):  # a step is affine: p x + r n + q, each coordinate on its own
        with given_noise(lambda call: noise):
            ends = step(prior, torch.stack([mean, mean + 1.0, mean]), k / levels, (k + 1) / levels).x
        mean, variance = ends[0], (ends[1] - ends[0]) ** 2 * variance + (ends[2] - ends[0]) ** 2
    for row, reached, spread in zip(rows, mean.tolist(), variance.tolist(), strict=True):
        assert reached == pytest.approx(row["slope"] * row["singular_value"], rel=1e-9, abs=1e-12)
        assert spread == pytest.approx(row["var"], rel=1e-9, abs=1e-12)


@settings(max_examples=60)
@given(
    tau=st.floats(0.0, 0.95),
    part=st.floats(0.05, 1.0),
    noise=st.floats(0.0, 2.0),
    eta=st.floats(0.0, 1.0),
    path=st.sampled_from(sorted(PATHS)),
)
def test_ddnm_plus_is_ddrm_with_eta_b_one_step_for_step(
    tau: float, part: float, noise: float, eta: float, path: str
) -> None:
    measurement, prior = problem(noise), correlated(PATHS[path])
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(3), dtype=DOUBLE)
    tau_next = tau + part * (1.0 - tau)
    moves = [
        solver(prior, x, tau, tau_next, torch.Generator().manual_seed(5))
        for solver in (DDRM(measurement, eta), DDNMPlus(measurement, eta))
    ]
    torch.testing.assert_close(moves[0].x, moves[1].x, rtol=2e-14, atol=2e-14)
    assert torch.equal(moves[0].x1_hat, moves[1].x1_hat)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", [ddrm, ddnm_plus])
def test_without_noise_the_output_satisfies_the_measurement(method, path: str) -> None:
    measurement = problem(0.0)
    out = method(correlated(PATHS[path]), measurement, (6, 5), 5, generator=torch.Generator().manual_seed(0))
    assert measurement.residual(out).abs().max() < 1e-12
    assert out.std(0).max() > 0.05  # and what is not seen is drawn, not fixed


@pytest.mark.parametrize("method", [ddrm, ddnm_plus])
@pytest.mark.parametrize(
    "operator",
    [
        Mask.box((1, 8, 8), 3, 3),
        Downsample((1, 8, 8), 2),
        Downsample((1, 8, 8), 2, "bicubic"),
        Blur((1, 8, 8), gaussian(0.7)),
        Hadamard((1, 8, 8), 0.25, torch.Generator().manual_seed(0)),
    ],
    ids=["box", "average", "bicubic", "blur", "hadamard"],
)
def test_images_are_restored_to_satisfy_the_measurement_of_every_operator(operator, method) -> None:
    truth = correlated(STRAIGHT, 1, 8, 8).mean
    measurement = LinearMeasurement(operator, operator.forward(truth[None]))
    out = method(correlated(STRAIGHT, 1, 8, 8), measurement, (2, 1, 8, 8), 5)
    assert measurement.residual(out).abs().max() < 1e-10


@pytest.mark.parametrize("step", [DDRM, DDNMPlus])
def test_a_step_depends_on_noise_to_signal_and_not_on_the_path(step: type) -> None:
    measurement, base = problem(0.4), correlated(VE(50.0, 0.01))
    rho, rho_next, ends = 1.3, 0.6, []
    z = torch.randn(4, 5, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    for path in (VE(50.0, 0.01), STRAIGHT, VP()):
        tau, tau_next = float(path.tau_at(rho)), float(path.tau_at(rho_next))
        move = step(measurement)(
            on(base, path), path.alpha(tau) * z, tau, tau_next, torch.Generator().manual_seed(2)
        )
        ends.append(move.x / path.alpha(tau_next))
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(ends[2], ends[0], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("path", [STRAIGHT, VP(), VE(50.0, 0.01)])
def test_ddrm_starts_at_the_law_of_a_noisy_point_given_y(path: Path) -> None:
    """Conditionally: alpha y / s + N(0, sigma^2 - alpha^2 nsr^2), which with the noise of y makes sigma^2."""
    step = DDRM(problem(0.3))
    v_t, alpha, sigma = step.spectrum.svd.v_t, path.alpha(0.0), path.sigma(0.0)
    law = law_of(lambda noise: v_t(ddrm_start(step, path, tuple(noise.shape))), (5,))
    torch.testing.assert_close(law.mean, alpha * step.spectrum.data)
    of_y = (alpha * step.spectrum.nsr).square().diag()
    torch.testing.assert_close(law.cov + of_y, sigma**2 * torch.eye(5, dtype=DOUBLE))


def test_ddrm_refuses_a_path_that_starts_below_the_noise_of_y_and_names_the_remedy() -> None:
    measurement = LinearMeasurement(Matrix(torch.diag(torch.tensor([1.0, 0.1]))), torch.zeros(2), 0.25)
    prior = from_denoiser(lambda x, tau: x, VE(2.0, 0.01))
    with pytest.raises(InvalidArgument, match=r"s = 0\.1; give an operator with s >= 0\.25.*ddnm_plus"):
        ddrm(prior, measurement, (1, 2), 5)
    assert ddnm_plus(prior, measurement, (1, 2), 5).isfinite().all()


@pytest.mark.parametrize("method", [ddrm, ddnm_plus])
def test_elements_of_a_batch_do_not_see_each_other(method) -> None:
    measurement, prior = problem(0.3), correlated(STRAIGHT)
    noise = torch.randn(50, 3, 5, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    ends = []
    for rows in (slice(0, 3), slice(1, 2)):
        ys = torch.stack([measurement.y * (k + 1) for k in range(3)])[rows]
        with given_noise(lambda call, rows=rows: noise[call, rows]):
            ends.append(method(prior, replace(measurement, y=ys), (len(ys), 5), 6))
    torch.testing.assert_close(ends[0][1:2], ends[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", [ddrm, ddnm_plus])
def test_the_result_has_the_dtype_of_y_and_each_step_is_seen_once(method, dtype: torch.dtype) -> None:
    a, seen = torch.tensor([[1.0, 0.5]], dtype=dtype), []
    measurement = LinearMeasurement(Matrix(a), torch.ones(1, dtype=dtype), 0.01)
    prior = from_denoiser(lambda x, tau: 0.5 * x)
    out = method(prior, measurement, (3, 2), 4, callback=lambda step, tau, x, e: seen.append((step, tau)))
    assert (out.dtype, out.shape) == (dtype, (3, 2))
    assert seen == [(k, k / 4) for k in range(4)]


@pytest.mark.parametrize("step", [DDRM, DDNMPlus])
def test_a_point_keeps_its_dtype_whatever_that_of_y(step: type) -> None:
    x = torch.zeros(2, 5, dtype=torch.float32)
    assert step(problem(0.3))(from_denoiser(lambda x, tau: 0.5 * x), x, 0.2, 0.4).x.dtype == torch.float32


def test_time_travel_walks_each_stretch_again() -> None:
    seen: list[float] = []
    ddnm_plus(
        correlated(STRAIGHT), problem(0.3), (1, 5), 10, jump=2, repeats=2,
        callback=lambda step, tau, x, e: seen.append(round(10 * tau)),
    )  # fmt: skip
    assert seen == [0, 1, 2, 1, 2, 3, 4, 3, 4, 5, 6, 5, 6, 7, 8, 7, 8, 9]


def test_the_noise_has_the_precision_of_y() -> None:
    spectrum = DDRM(problem(0.3)).spectrum
    observed = spectrum.observed
    torch.testing.assert_close(
        spectrum.nsr[observed] * spectrum.svd.values.to(DOUBLE)[observed],
        torch.full((2,), 0.3, dtype=DOUBLE),
        rtol=1e-14,
        atol=0.0,
    )


def test_what_spectral_methods_cannot_use_is_refused_in_one_line() -> None:
    measurement, prior = problem(0.3), correlated(STRAIGHT)
    with pytest.raises(InvalidArgument, match="one number"):
        ddrm(prior, replace(measurement, noise_variance=torch.tensor([0.1, 0.2, 0.3])), (1, 5), 5)
    with pytest.raises(InvalidArgument, match="y has shape"):
        ddrm(prior, replace(measurement, y=torch.zeros(2, 1, 1, 3, dtype=DOUBLE)), (1, 5), 5)
    with pytest.raises(InvalidArgument, match=r"eta_b is 1\.5"):
        DDRM(measurement, eta_b=1.5)
    with pytest.raises(InvalidArgument, match=r"eta is -0\.1"):
        DDNMPlus(measurement, -0.1)

    class NoSVD:
        def forward(self, x):
            return x[..., :3]

        def adjoint(self, y):
            return y

        def solve(self, residual, r2, noise_variance):
            return residual

    with pytest.raises(Unsupported, match=r"NoSVD has no svd\(\)"):
        DDRM(replace(measurement, operator=NoSVD()))
    Replacement(replace(measurement, operator=NoSVD()))  # which does without
