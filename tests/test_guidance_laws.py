"""Guidance of priors that are known exactly: closed forms at a point, and the law of the sampler."""

from __future__ import annotations

import math

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
    assert fixed == pytest.approx([2.44e-2, 6.72e-2, 8.33e-2], rel=5e-3)  # it even grows
    assert growing == pytest.approx([2.44e-2, 3.06e-3, 1.98e-5], rel=5e-3)
