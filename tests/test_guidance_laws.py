"""Guidance of priors that are known exactly: closed forms at a point, and the law of the sampler."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import (
    DOUBLE,
    PATHS,
    GaussianPrior,
    Law,
    Matrix,
    golden,
    isotropic,
    law_of_sampler,
    relative_error,
    tensor,
)
from torch import Tensor

from rtc.guidance.pigdm import guide
from rtc.measurement import LinearMeasurement, SoftMask
from rtc.prior import velocity

RTC = golden("rtc_gaussian")
GAUSSIAN = golden("gaussian")
INSIDE = st.floats(0.001, 0.999)
VALUE = st.floats(-5.0, 5.0)


def chunk(values) -> Tensor:
    """Values [H] as a chunk [H, 1]."""
    return tensor(values)[:, None]


def freeze(target: Tensor) -> SoftMask:
    """Every action held to the target with weight 1."""
    return SoftMask(target, torch.ones(len(target), dtype=DOUBLE))


@given(tau=INSIDE, x=VALUE, y=VALUE, mean=VALUE, std=st.floats(0.1, 3.0))
def test_a_frozen_chunk_is_approached_in_a_straight_line(
    tau: float, x: float, y: float, mean: float, std: float
) -> None:
    guided = guide(isotropic(mean, std**2), freeze(chunk([y])), max_weight=math.inf, data_std=std)
    moved = velocity(guided, chunk([x]), tau)
    torch.testing.assert_close(moved, chunk([(y - x) / (1.0 - tau)]), rtol=1e-9, atol=1e-9)


@given(tau=INSIDE, x=VALUE, y=VALUE, std=st.floats(0.1, 3.0), path=st.sampled_from(sorted(PATHS)))
def test_on_every_path_a_frozen_chunk_is_what_is_estimated(
    tau: float, x: float, y: float, std: float, path: str
) -> None:
    guided = guide(
        isotropic(0.3, std**2, path=PATHS[path]), freeze(chunk([y])), max_weight=math.inf, data_std=std
    )
    torch.testing.assert_close(guided.denoise(chunk([x]), tau), chunk([y]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("row", RTC["scalar"], ids=lambda row: f"tau{row['tau']}-W{row['W']}")
def test_true_and_identity_guidance_of_a_standard_normal_are_the_reference_ones(row: dict) -> None:
    prior, mask = isotropic(0.0, 1.0), SoftMask(chunk([row["Y"]]), tensor([row["W"]]))
    for jacobian, key in (("exact", "guided_true_vjp"), ("identity", "guided_identity_jacobian")):
        guided = guide(prior, mask, max_weight=math.inf, jacobian=jacobian)
        assert float(velocity(guided, chunk([row["x"]]), row["tau"])) == pytest.approx(row[key], rel=1e-9)


@pytest.mark.parametrize("kind", ["unit", "data"])
@pytest.mark.parametrize(
    "point", [p for p in GAUSSIAN["points"] if p["path"] in PATHS], ids=lambda p: f"{p['path']}-{p['tau']}"
)
def test_pigdm_with_any_operator_and_path_is_the_reference_one(point: dict, kind: str) -> None:
    prior = GaussianPrior(tensor(GAUSSIAN["mean"]), tensor(GAUSSIAN["cov"]), PATHS[point["path"]])
    measured = LinearMeasurement(
        Matrix(tensor(GAUSSIAN["A"])), tensor(GAUSSIAN["y"]), GAUSSIAN["sigma_y"] ** 2
    )
    data_std = math.sqrt(GAUSSIAN["data_variance"]) if kind == "data" else 1.0
    guided = guide(prior, measured, max_weight=math.inf, data_std=data_std)
    moved = velocity(guided, tensor(point["x"]), point["tau"])
    assert relative_error(moved, tensor(point[f"velocity_pigdm_{kind}"])) < 1e-9


def guided_law(num_steps: int, mask: str = "W_hard", **options) -> Law:
    prior = GaussianPrior(chunk(RTC["mean"]), tensor(RTC["cov"]))
    known = SoftMask(chunk(RTC["Y"]), tensor(RTC[mask]))
    return law_of_sampler(guide(prior, known, **options), num_steps, (8, 1))


def prefix_rms(law: Law) -> float:
    error = law.mean[:3] - tensor(RTC["Y"])[:3]
    return float((error**2 + law.cov.diagonal()[:3]).mean().sqrt())


def assert_law(law: Law, row: dict) -> None:
    assert relative_error(law.mean, tensor(row["mean"])) < 1e-9
    assert relative_error(law.cov.diagonal(), tensor(row["var"])) < 1e-9
    assert prefix_rms(law) == pytest.approx(row["prefix_rms"], rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(
    "row", RTC["runs"], ids=lambda r: f"{r['mask']}-n{r['num_steps']}-beta{r['max_guidance_weight']:g}"
)
def test_the_law_of_the_guided_sampler_is_the_reference_one(row: dict) -> None:
    law = guided_law(row["num_steps"], f"W_{row['mask']}", max_weight=row["max_guidance_weight"])
    assert_law(law, row)
    if "Phi" in row:
        assert relative_error(law.factor, tensor(row["Phi"])) < 1e-9


@pytest.mark.parametrize("row", RTC["extra"], ids=lambda r: f"{r['kind']}-n{r['num_steps']}")
def test_the_law_with_another_data_scale_or_jacobian_is_the_reference_one(row: dict) -> None:
    jacobian = "identity" if row["kind"] == "identity_jacobian" else "exact"
    options = {"max_weight": row["max_guidance_weight"], "data_std": math.sqrt(row["data_variance"])}
    assert_law(guided_law(row["num_steps"], jacobian=jacobian, **options), row)


@pytest.mark.parametrize(
    "row", RTC["isotropic"], ids=lambda r: f"v{r['prior_variance']}-w{r['weight_variance']}-n{r['num_steps']}"
)
def test_the_prefix_error_of_isotropic_data_is_the_reference_one(row: dict) -> None:
    prior = isotropic(row["prior_mean"], row["prior_variance"], size=8)
    mask = SoftMask(chunk(RTC["Y"]), tensor(RTC["W_hard"]))
    std = math.sqrt(row["weight_variance"])
    guided = guide(prior, mask, max_weight=row["max_guidance_weight"], data_std=std)
    rms = prefix_rms(law_of_sampler(guided, row["num_steps"], (8, 1)))
    assert rms == pytest.approx(row["prefix_rms"], rel=1e-6, abs=1e-14)


def test_the_prefix_converges_with_beta_equal_to_the_steps_and_not_with_a_fixed_beta() -> None:
    fixed, growing = [], []
    for num_steps in (5, 10, 50):
        fixed.append(prefix_rms(guided_law(num_steps, max_weight=5.0)))
        prior = GaussianPrior(chunk(RTC["mean"]), tensor(RTC["cov"]))
        known = SoftMask(chunk(RTC["Y"]), tensor(RTC["W_hard"]))
        by_steps = guide(prior, known, max_weight="steps", num_steps=num_steps)
        growing.append(prefix_rms(law_of_sampler(by_steps, num_steps, (8, 1))))
    assert fixed == pytest.approx([2.44e-2, 6.72e-2, 8.33e-2], rel=5e-3)  # methods.md 3.4.5: it even grows
    assert growing == pytest.approx([2.44e-2, 3.06e-3, 1.98e-5], rel=5e-3)


def conditional_errors(row: dict, start: float = 1e-3) -> tuple[float, float]:
    """Relative errors of mean and covariance, PiGDM against the posterior (golden/README.md section 6)."""
    a, y, noise = tensor(GAUSSIAN["A"]), tensor(GAUSSIAN["y"]), GAUSSIAN["sigma_y"] ** 2
    identity, is_unit = torch.eye(6, dtype=DOUBLE), row["prior"] == "N(0,I)"
    mean = torch.zeros(6, dtype=DOUBLE) if is_unit else tensor(GAUSSIAN["mean"])
    cov = identity if is_unit else tensor(GAUSSIAN["cov"])
    data_std = math.sqrt(GAUSSIAN["data_variance"]) if row["cov"] == "data" else 1.0
    measured = LinearMeasurement(Matrix(a), y, noise)
    guided = guide(GaussianPrior(mean, cov), measured, max_weight=math.inf, data_std=data_std)
    # The law at `start` is that of the unguided path; its root carries it, column by column, through the ODE.
    root = torch.linalg.cholesky(start**2 * cov + (1.0 - start) ** 2 * identity)
    x = start * mean + torch.cat([torch.zeros(1, 6, dtype=DOUBLE), root.T])
    times = torch.linspace(start, 1.0 - 1e-6, row["n"] + 1, dtype=DOUBLE).tolist()
    for tau, tau_next in pairwise(times):
        step, slope = tau_next - tau, velocity(guided, x, tau)
        if row["solver"] == "midpoint":
            slope = velocity(guided, x + 0.5 * step * slope, tau + 0.5 * step)
        x = x + step * slope
    gain = cov @ a.T @ torch.linalg.inv(a @ cov @ a.T + noise * torch.eye(3, dtype=DOUBLE))
    posterior_mean, posterior_cov = mean + gain @ (y - a @ mean), cov - gain @ a @ cov
    law = Law(x[0], (x[1:] - x[0]).T)
    return (
        float((law.mean - posterior_mean).norm() / posterior_mean.norm()),
        float((law.cov - posterior_cov).norm() / posterior_cov.norm()),
    )


# The rows for other covariance models and late starts belong to samplers that come later.
CONVERGENCE = [row for row in GAUSSIAN["convergence"] if row["cov"] in ("unit", "data") and "t0" not in row]


@pytest.mark.parametrize("row", CONVERGENCE, ids=lambda r: f"{r['prior']}-{r['cov']}-{r['solver']}-n{r['n']}")
def test_conditional_sampling_has_the_reference_error(row: dict) -> None:
    mean_error, cov_error = conditional_errors(row)
    assert mean_error == pytest.approx(row["mean_error"], rel=1e-6)
    assert cov_error == pytest.approx(row["cov_error"], rel=1e-6)


def test_conditional_sampling_converges_to_the_posterior() -> None:
    row = {"prior": "N(0,I)", "cov": "unit", "solver": "euler"}
    errors = [conditional_errors(row | {"n": n}, start=1e-6) for n in (25, 50, 100, 200)]
    covariance = [cov for _, cov in errors]
    assert all(later < 0.55 * earlier for earlier, later in pairwise(covariance))
    assert errors[-1][0] < 1e-5  # what is left of the mean's error is the start after tau = 0
