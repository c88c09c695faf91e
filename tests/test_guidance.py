from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import (
    DOUBLE,
    PATHS,
    Counted,
    golden,
    isotropic,
    relative_error,
)
from torch import Tensor, nn

from rtc.errors import InvalidArgument
from rtc.guidance.pigdm import guidance_weight, guide, r2
from rtc.measurement import SoftMask
from rtc.prior import from_velocity
from rtc.sample import sample

WEIGHTS = golden("guidance_weights")
INSIDE = st.floats(0.001, 0.999)
DTYPES = [torch.float32, torch.float64, torch.bfloat16]


class Network(nn.Module):
    """A small random velocity field over chunks [B, 6, 2], curved in x and tau, with trainable weights."""

    def __init__(self, dtype: torch.dtype = DOUBLE) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(13, 16), nn.Tanh(), nn.Linear(16, 16), nn.SiLU(), nn.Linear(16, 12)
        )
        generator = torch.Generator().manual_seed(3)
        for parameter in self.parameters():
            parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator)
        self.to(dtype)

    def forward(self, x: Tensor, tau) -> Tensor:
        time = torch.as_tensor(tau, dtype=x.dtype).expand(len(x))[:, None]
        counted: Any = Counted.apply(self.layers(torch.cat([x.flatten(1), time], 1)).reshape(x.shape))
        return counted


def network_inputs(dtype: torch.dtype = DOUBLE) -> tuple[Tensor, SoftMask]:
    noise, target = torch.randn(2, 3, 6, 2, generator=torch.Generator().manual_seed(4), dtype=DOUBLE).to(
        dtype
    )
    return noise, SoftMask(target, torch.tensor([1.0, 1.0, 0.6, 0.2, 0.0, 0.0], dtype=dtype))


@pytest.mark.parametrize(
    "case", WEIGHTS["in_loop"], ids=lambda c: f"n{c['num_steps']}-beta{c['max_guidance_weight']}"
)
def test_weights_are_those_inside_the_released_loop(case: dict) -> None:
    weights = [
        guidance_weight(k / case["num_steps"], case["max_guidance_weight"]) for k in range(case["num_steps"])
    ]
    assert weights == pytest.approx(case["weight"], rel=1e-9)


def test_unclipped_weights_are_the_reference_ones() -> None:
    weights = [guidance_weight(tau, math.inf) for tau in WEIGHTS["tau"]]
    assert weights == pytest.approx(WEIGHTS["unclipped"], rel=1e-9)


@pytest.mark.parametrize("case", WEIGHTS["data_scaled"], ids=lambda c: f"v{c['data_variance']}")
def test_weights_and_variances_scale_with_the_data(case: dict) -> None:
    std = math.sqrt(case["data_variance"])
    assert [r2(tau, std) for tau in WEIGHTS["tau"]] == pytest.approx(case["r2"], rel=1e-9)
    assert [guidance_weight(tau, math.inf, std) for tau in WEIGHTS["tau"]] == pytest.approx(
        case["weight"], rel=1e-9
    )


@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_the_weight_at_the_ends_is_the_clip(tau: float) -> None:
    assert guidance_weight(tau, 5.0) == 5.0
    assert float(guidance_weight(torch.tensor(tau), 5.0)) == 5.0
    assert guidance_weight(tau, math.inf) == math.inf


@given(tau=INSIDE, std=st.floats(0.1, 10.0), path=st.sampled_from(sorted(PATHS)))
def test_r2_is_the_variance_of_isotropic_data_given_the_point(tau: float, std: float, path: str) -> None:
    along = PATHS[path]
    x = torch.zeros(1, 1, dtype=DOUBLE, requires_grad=True)
    isotropic(0.3, std**2, path=along).denoise(x, tau).backward()
    jacobian = float(x.grad) if x.grad is not None else math.nan
    # Tweedie: Cov[x1 | x] = (sigma^2 / alpha) J.
    assert r2(tau, std, along) == pytest.approx(
        float(along.sigma(tau) ** 2 / along.alpha(tau)) * jacobian, rel=1e-9
    )


@pytest.mark.parametrize("tau", [0.0, 0.1, 0.37, 0.8, 0.95])
def test_the_correction_is_the_gradient_that_finite_differences_find(tau: float) -> None:
    prior = from_velocity(Network())
    x, mask = network_inputs()
    x1_hat = prior.denoise(x, tau).detach()
    cotangent = mask.pull(x1_hat, 1.0)
    gradient, step = torch.zeros_like(x), 1e-6
    for index in range(x[0].numel()):
        nudge = torch.zeros_like(x[0]).flatten()
        nudge[index] = step
        slope = (prior.denoise(x + nudge.view(6, 2), tau) - prior.denoise(x - nudge.view(6, 2), tau)) / (
            2 * step
        )
        gradient.flatten(1)[:, index] = (slope * cotangent).detach().sum((1, 2))
    correction = guide(prior, mask, max_weight=5.0).denoise(x, tau) - x1_hat
    expected = (1.0 - tau) * guidance_weight(tau, 5.0) * gradient
    torch.testing.assert_close(correction, expected, rtol=1e-6, atol=1e-7)


def test_the_identity_in_place_of_the_jacobian_is_the_pull_itself() -> None:
    prior, tau = from_velocity(Network()), 0.3
    x, mask = network_inputs()
    x1_hat = prior.denoise(x, tau)
    expected = x1_hat + (1.0 - tau) * guidance_weight(tau, 5.0) * mask.pull(x1_hat, 1.0)
    torch.testing.assert_close(
        guide(prior, mask, max_weight=5.0, jacobian="identity").denoise(x, tau), expected
    )


def test_a_guided_prior_can_be_guided_again() -> None:
    x, first = network_inputs()
    second = SoftMask(first.target.flip(0), torch.full((6,), 0.5, dtype=DOUBLE))
    inner = guide(from_velocity(Network()), first, max_weight=5.0)
    cotangent = second.pull(inner.denoise(x, 0.3), 1.0)
    direction, step = torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=DOUBLE), 1e-6
    slope = (inner.denoise(x + step * direction, 0.3) - inner.denoise(x - step * direction, 0.3)) / (2 * step)
    correction = guide(inner, second, max_weight=5.0).denoise(x, 0.3) - inner.denoise(x, 0.3)
    expected = 0.7 * guidance_weight(0.3, 5.0) * (slope * cotangent).sum()
    assert float((correction * direction).sum()) == pytest.approx(float(expected), rel=1e-6)


def test_weights_of_zero_leave_the_sample_as_it_was_to_the_bit() -> None:
    x, mask = network_inputs()
    prior = from_velocity(Network())
    nothing = SoftMask(torch.full_like(mask.target, math.nan), torch.zeros(6, dtype=DOUBLE))
    assert torch.equal(sample(guide(prior, nothing, max_weight=5.0), x, 5), sample(prior, x, 5))


def test_a_chunk_does_not_depend_on_the_others_of_its_batch() -> None:
    x, mask = network_inputs()
    prior = from_velocity(Network())
    together = sample(guide(prior, mask, max_weight=5.0), x, 5)
    for row in range(len(x)):
        alone = sample(guide(prior, SoftMask(mask.target[[row]], mask.weights), max_weight=5.0), x[[row]], 5)
        torch.testing.assert_close(alone[0], together[row], rtol=1e-12, atol=1e-12)


def test_a_chunk_that_is_not_finite_spoils_no_other() -> None:
    x, mask = network_inputs()
    guided = guide(from_velocity(Network()), mask, max_weight=5.0)
    spoilt = x.clone()
    spoilt[1] = math.nan
    out, clean = sample(guided, spoilt, 5), sample(guided, x, 5)
    assert out[1].isnan().any()
    torch.testing.assert_close(out[[0, 2]], clean[[0, 2]], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("jacobian", ["exact", "identity"])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("trainable", [True, False])
def test_no_graph_is_left_and_no_parameter_touched(mode, jacobian: str, trainable: bool) -> None:
    network = Network().requires_grad_(trainable)
    before = [parameter.clone() for parameter in network.parameters()]
    x, mask = network_inputs()
    guided = guide(from_velocity(network), mask, max_weight=5.0, jacobian=jacobian)
    with mode():
        for out in (guided.denoise(x, 0.3), sample(guided, x, 3)):
            assert (out.grad_fn, out.requires_grad) == (None, False)
    reference = guided.denoise(x, 0.3)
    with mode():
        torch.testing.assert_close(guided.denoise(x, 0.3), reference, rtol=1e-13, atol=1e-13)
    for parameter, earlier in zip(network.parameters(), before, strict=True):
        assert parameter.grad is None
        assert parameter.requires_grad == trainable
        assert torch.equal(parameter, earlier)


@pytest.mark.parametrize(("jacobian", "vjps"), [("exact", 7), ("identity", 0)])
def test_a_step_costs_one_forward_and_at_most_one_vjp(jacobian: str, vjps: int) -> None:
    x, mask = network_inputs()
    guided = guide(from_velocity(Network()), mask, max_weight=5.0, jacobian=jacobian)
    Counted.clear()
    sample(guided, x, 7)
    assert (Counted.forwards, Counted.vjps) == (7, vjps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("jacobian", ["exact", "identity"])
def test_every_precision_stays_what_it_is(dtype: torch.dtype, jacobian: str) -> None:
    x, mask = network_inputs(dtype)
    guided = guide(from_velocity(Network(dtype)), mask, max_weight=5.0, jacobian=jacobian)
    out = sample(guided, x, 5)
    assert out.dtype == dtype
    full, full_mask = network_inputs()
    expected = sample(guide(from_velocity(Network()), full_mask, max_weight=5.0, jacobian=jacobian), full, 5)
    assert (
        relative_error(out, expected)
        < {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 0.1}[dtype]
    )


@pytest.mark.parametrize("max_weight", [5.0, math.inf])
def test_a_time_for_each_row_guides_each_row_at_its_time(max_weight: float) -> None:
    x, mask = network_inputs()
    guided = guide(from_velocity(Network()), mask, max_weight=max_weight)
    times = torch.tensor([0.0, 0.4, 0.9], dtype=DOUBLE)
    together = guided.denoise(x, times)
    for row, tau in enumerate(times):
        expected = guided.denoise(x, float(tau))[row]
        torch.testing.assert_close(together[row], expected, rtol=1e-12, atol=1e-12)


def test_where_the_weight_is_infinite_nothing_is_added() -> None:
    x, mask = network_inputs()
    prior = from_velocity(Network())
    assert torch.equal(guide(prior, mask, max_weight=math.inf).denoise(x, 0.0), prior.denoise(x, 0.0))


def test_the_weight_called_steps_is_their_number() -> None:
    x, mask = network_inputs()
    prior = from_velocity(Network())
    by_name = guide(prior, mask, max_weight="steps", num_steps=9)
    assert torch.equal(by_name.denoise(x, 0.0), guide(prior, mask, max_weight=9.0).denoise(x, 0.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_weight": -1.0}, 'a number >= 0 .* or "steps"'),
        ({"max_weight": math.nan}, "max_weight is nan"),
        ({"max_weight": "n"}, "max_weight is 'n'"),
        ({"max_weight": "steps"}, "num_steps is None"),
        ({"max_weight": "steps", "num_steps": 0}, "num_steps is 0"),
        ({"max_weight": 5.0, "jacobian": "none"}, "choose one of exact, identity"),
        ({"max_weight": 5.0, "data_std": 0.0}, "data_std is 0"),
        ({"max_weight": 5.0, "data_std": math.inf}, "data_std is inf"),
    ],
)
def test_guidance_that_makes_no_sense_is_refused_when_it_is_made(options: dict, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        guide(isotropic(0.0, 1.0), SoftMask(torch.zeros(1, 1), torch.ones(1)), **options)
