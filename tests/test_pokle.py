from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from oracle import DOUBLE, GaussianPrior, golden, law_of, tensor
from torch import Tensor

from rtc.errors import InvalidArgument, Unsupported
from rtc.inverse.pokle import algorithm_1, algorithm_2, algorithm_3
from rtc.measurement import LinearMeasurement
from rtc.operators import Matrix, Nonlinear
from rtc.path import OT, STRAIGHT, VE, VP, Cosine, Path, Time
from rtc.prior import Prior, from_denoiser, from_velocity, velocity

REFERENCE = golden("gaussian")
PINV = [row for row in REFERENCE["convergence"] if row.get("init") == "pinv"]
A, Y = tensor(REFERENCE["A"]), tensor(REFERENCE["y"])
MEASUREMENT = LinearMeasurement(Matrix(A), Y, REFERENCE["sigma_y"] ** 2)
SIZE = A.shape[1]


def prior_on(path: Path) -> GaussianPrior:
    return GaussianPrior(tensor(REFERENCE["mean"]), tensor(REFERENCE["cov"]), path)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@dataclass(frozen=True)
class Stretched(OT):
    """The straight path times (1 + tau) / 2: as noisy at each tau, but of another scale, and data at 1."""

    def alpha(self, tau: Time) -> Time:
        return tau * 0.5 * (1.0 + tau)

    def sigma(self, tau: Time) -> Time:
        return (1.0 - tau) * 0.5 * (1.0 + tau)

    def alpha_dot(self, tau: Time) -> Time:
        return 0.5 + tau

    def sigma_dot(self, tau: Time) -> Time:
        return -tau


@pytest.mark.parametrize(
    "trained_on", [VP(), VE(80.0, 1e-4), Cosine(), STRAIGHT], ids=lambda p: type(p).__name__
)
def test_algorithms_1_and_2_are_one_method_on_matched_times(trained_on: Path) -> None:
    """Lemma 2: with the exact step between levels (DDIM), only the noise levels matter, not the path."""
    prior = prior_on(trained_on)
    first = algorithm_1(prior, MEASUREMENT, (4, SIZE), 20, solver="ddim", generator=seeded())
    second = algorithm_2(
        prior, MEASUREMENT, (4, SIZE), 20, path=Stretched(), solver="ddim", generator=seeded()
    )
    torch.testing.assert_close(second, first, rtol=1e-11, atol=1e-11)


def test_algorithms_1_and_2_converge_to_one_result() -> None:
    """On their own times, the straight path's and VP's, they differ by a first-order error only."""
    prior, gaps = prior_on(VP()), []
    for num_steps in (25, 50, 100):
        first, second = (
            method(prior, MEASUREMENT, (4, SIZE), num_steps, generator=seeded())
            for method in (algorithm_1, algorithm_2)
        )
        gaps.append(float((first - second).abs().max()))
    assert gaps[-1] < 0.02
    assert gaps[0] / gaps[1] == pytest.approx(2.0, abs=0.3)
    assert gaps[1] / gaps[2] == pytest.approx(2.0, abs=0.3)


@pytest.mark.parametrize("row", PINV, ids=lambda row: f"tau0={row['t0']}")
def test_algorithm_3_has_the_reference_law_from_its_own_start(row: dict) -> None:
    """Prior N(0, I), midpoint; errors against the exact posterior, 2000 steps there and 50 here."""
    prior = GaussianPrior(torch.zeros(SIZE, dtype=DOUBLE), torch.eye(SIZE, dtype=DOUBLE))

    def run(noise: Tensor) -> Tensor:
        return algorithm_3(prior, MEASUREMENT, tuple(noise.shape), 50, tau0=row["t0"], solver="midpoint")

    law = law_of(run, (SIZE,))
    gain = A.T @ torch.linalg.inv(A @ A.T + REFERENCE["sigma_y"] ** 2 * torch.eye(len(A), dtype=DOUBLE))
    mean, cov = gain @ Y, torch.eye(SIZE, dtype=DOUBLE) - gain @ A
    assert float((law.mean - mean).norm() / mean.norm()) == pytest.approx(row["mean_error"], rel=2e-3)
    assert float((law.cov - cov).norm() / cov.norm()) == pytest.approx(row["cov_error"], rel=1e-3)
    assert float(law.cov.trace() / cov.trace()) == pytest.approx(row["trace_ratio"], rel=1e-5)


def test_algorithm_3_takes_a_velocity_and_is_algorithm_1_on_it() -> None:
    exact = prior_on(STRAIGHT)
    flow = from_velocity(lambda x, tau: velocity(exact, x, tau))
    third = algorithm_3(flow, MEASUREMENT, (2, SIZE), 10, generator=seeded())
    first = algorithm_1(exact, MEASUREMENT, (2, SIZE), 10, generator=seeded())
    torch.testing.assert_close(third, first, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("path", [STRAIGHT, VP(), VE(80.0, 1e-4)], ids=lambda p: type(p).__name__)
def test_the_start_is_the_back_projected_measurement_as_noisy_on_every_path(path: Path) -> None:
    """alpha A^+ y + sigma eps at the time where sigma / alpha = (1 - tau0) / tau0 = 4."""
    points: list[Tensor] = []

    def run(noise: Tensor) -> Tensor:
        points.clear()
        algorithm_2(
            prior_on(path), MEASUREMENT, tuple(noise.shape), 1, callback=lambda s, t, x, e: points.append(x)
        )  # fmt: skip
        return points[0]

    law, alpha = law_of(run, (SIZE,)), float(path.alpha(path.tau_at(4.0)))
    torch.testing.assert_close(law.mean, alpha * (torch.linalg.pinv(A) @ Y))
    torch.testing.assert_close(law.cov, (4.0 * alpha) ** 2 * torch.eye(SIZE, dtype=DOUBLE))


def test_gamma_scales_the_guidance() -> None:
    """In one step the point moves by the velocity, which has gamma times the guidance added to it."""
    out = [
        algorithm_3(prior_on(STRAIGHT), MEASUREMENT, (1, SIZE), 1, gamma=gamma, generator=seeded())
        for gamma in (0.0, 1.0, 3.0)
    ]
    torch.testing.assert_close(out[2] - out[0], 3.0 * (out[1] - out[0]))
    assert (out[1] - out[0]).abs().max() > 0.1


def test_without_guidance_it_is_the_prior_from_that_start() -> None:
    seen: list[Tensor] = []
    prior = prior_on(STRAIGHT)
    algorithm_3(prior, MEASUREMENT, (1, SIZE), 3, gamma=0.0, callback=lambda s, t, x, e: seen.extend([x, e]))
    assert torch.equal(seen[1], prior.denoise(seen[0], 0.2))


def test_each_step_costs_one_call() -> None:
    calls: list[float] = []

    def denoise(x: Tensor, tau: Time) -> Tensor:
        calls.append(float(tau))
        return 0.5 * x

    out = algorithm_3(from_denoiser(denoise), MEASUREMENT, (2, SIZE), 4, tau0=0.2)
    assert calls == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert not out.requires_grad


REFUSED = {
    "0 is noise only": (dict(tau0=0.0), "tau0 is 0"),
    "1 is data": (dict(tau0=1.0), "tau0 is 1"),
    "against the measurement": (dict(gamma=-1.0), "gamma is -1"),
    "no steps": (dict(num_steps=0), "num_steps is 0"),
    "no such solver": (dict(solver="rk9"), "'rk9'"),
    "no scale": (dict(data_std=0.0), "data_std is 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_algorithms_cannot_use_is_refused_in_one_line(case: str) -> None:
    knobs, message = REFUSED[case]
    for method in (algorithm_1, algorithm_2, algorithm_3):
        with pytest.raises(InvalidArgument, match=message):
            method(prior_on(STRAIGHT), MEASUREMENT, (1, SIZE), **{"num_steps": 3, **knobs})


def test_algorithm_3_refuses_a_prior_of_another_path_and_names_algorithm_1() -> None:
    with pytest.raises(InvalidArgument, match="algorithm_1 brings any prior there"):
        algorithm_3(prior_on(VP()), MEASUREMENT, (1, SIZE), 3)


@pytest.mark.parametrize("method", [algorithm_1, algorithm_2])
def test_a_start_noisier_than_the_prior_ever_was_is_refused_with_the_earliest_one(method) -> None:
    prior: Prior = prior_on(VE(2.0, 0.01))
    with pytest.raises(InvalidArgument, match=r"start at tau"):
        method(prior, MEASUREMENT, (1, SIZE), 3, tau0=0.2)
    method(prior, MEASUREMENT, (1, SIZE), 3, tau0=0.34)


def test_an_operator_without_a_pseudo_inverse_is_refused() -> None:
    square = Nonlinear(lambda x: x**2, (SIZE,), torch.zeros(1, dtype=DOUBLE))
    with pytest.raises(Unsupported, match="is not linear"):
        algorithm_3(
            prior_on(STRAIGHT), LinearMeasurement(square, torch.ones(SIZE, dtype=DOUBLE)), (1, SIZE), 3
        )
