"""Every number of the released sampler on the small policy of golden/README.md section 3."""

from __future__ import annotations

import pytest
import torch
from oracle import DOUBLE, GoldenPolicy, relative_error
from torch import Tensor

from rtc.guidance.pigdm import guidance_weight, guide
from rtc.measurement import SoftMask
from rtc.prior import Prior, from_velocity
from rtc.runtime.mask import prefix_weights
from rtc.sample import sample

EXACT, SINGLE = GoldenPolicy(), GoldenPolicy(torch.float32)
PRECISIONS = [pytest.param(EXACT, 1e-9, id="float64"), pytest.param(SINGLE, 1e-5, id="float32")]
TIMES = EXACT["t_eval"].tolist()
CASES = EXACT.cases["realtime_cases"]


def assert_same(given: Tensor, name: str, tolerance: float, index: int | None = None) -> None:
    expected = EXACT[name] if index is None else EXACT[name][index]
    assert relative_error(given, expected) < tolerance


def guided_prior(policy: GoldenPolicy, case: dict) -> Prior:
    horizon = policy.cases["config"]["action_chunk_size"]
    delay, execution_horizon = case["inference_delay"], horizon - case["prefix_attention_horizon"]
    weights = prefix_weights(horizon, delay, execution_horizon, case["schedule"], dtype=DOUBLE)
    mask = SoftMask(policy["prev_chunk"], weights)
    return guide(from_velocity(policy.velocity), mask, max_weight=case["max_guidance_weight"])


@pytest.mark.parametrize(("policy", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("index", range(len(TIMES)), ids=[f"tau{tau}" for tau in TIMES])
def test_velocity_estimate_and_vjp_are_the_released_ones(
    policy: GoldenPolicy, tolerance: float, index: int
) -> None:
    tau, x = TIMES[index], policy["x_eval"]
    prior = from_velocity(policy.velocity)
    assert_same(policy.position_embedding(torch.tensor(tau, dtype=DOUBLE)), "posemb", 1e-9, index)
    assert_same(policy.velocity(x, tau), "velocity", tolerance, index)
    assert_same(prior.denoise(x, tau), "x1hat", tolerance, index)
    mask = SoftMask(policy["prev_chunk"], torch.ones(8, dtype=x.dtype))
    shift = guide(prior, mask, max_weight=5.0).denoise(x, tau) - prior.denoise(x, tau)
    if policy is EXACT:  # the difference of two float32 estimates has no 1e-5 left to compare
        assert_same(shift / ((1.0 - tau) * guidance_weight(tau, 5.0)), "vjp_of_error", tolerance, index)
    _, pullback, *_ = torch.func.vjp(lambda point: prior.denoise(point, tau), x)
    assert_same(pullback(mask.pull(prior.denoise(x, tau), 1.0))[0], "vjp_of_error", tolerance, index)


@pytest.mark.parametrize(("policy", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("num_steps", EXACT.cases["action_steps"])
def test_unguided_chunks_are_the_released_ones(
    policy: GoldenPolicy, tolerance: float, num_steps: int
) -> None:
    out = sample(from_velocity(policy.velocity), policy["noise"], num_steps)
    assert_same(out, f"action/n{num_steps}", tolerance)


@pytest.mark.parametrize(("policy", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"case{case['case']:02d}")
def test_guided_chunks_are_the_released_ones(policy: GoldenPolicy, tolerance: float, case: dict) -> None:
    out = sample(guided_prior(policy, case), policy["noise"], case["num_steps"])
    assert out.dtype == policy["noise"].dtype
    assert_same(out, f"realtime/{case['case']:02d}", tolerance)


@pytest.mark.parametrize(("policy", "tolerance"), PRECISIONS)
def test_every_point_on_the_way_is_the_released_one(policy: GoldenPolicy, tolerance: float) -> None:
    case, points = CASES[EXACT.cases["trajectory_case"]], []
    end = sample(
        guided_prior(policy, case),
        policy["noise"],
        case["num_steps"],
        callback=lambda step, tau, x, x1_hat: points.append(x),
    )
    assert_same(torch.stack([*points, end]), "trajectory", tolerance)


def test_a_prefix_of_no_actions_is_no_guidance() -> None:
    case = next(case for case in CASES if case["prefix_attention_horizon"] == 0)
    guided = sample(guided_prior(EXACT, case), EXACT["noise"], case["num_steps"])
    assert torch.equal(guided, sample(from_velocity(EXACT.velocity), EXACT["noise"], case["num_steps"]))


@pytest.mark.parametrize(("policy", "tolerance"), PRECISIONS)
def test_the_training_loss_is_the_released_one(policy: GoldenPolicy, tolerance: float) -> None:
    action, noise, tau = policy["loss_action"], policy["loss_noise"], policy["loss_time"]
    at = tau[:, None, None]
    error = policy.velocity((1 - at) * noise + at * action, tau) - (action - noise)
    assert_same((error**2).mean(), "loss_value", tolerance)
