"""The network held to the released one: its numbers, its parts, and what it is told."""

from __future__ import annotations

import re

import pytest
import torch
from oracle import DOUBLE, GoldenPolicy, relative_error
from torch import Tensor

from policies.embedding import time_embedding
from policies.mixer import Mixer, MixerBlock
from rtc.guidance.pigdm import guide
from rtc.measurement import SoftMask
from rtc.prior import Prior, from_velocity
from rtc.runtime.mask import prefix_weights
from rtc.sample import sample

GOLDEN = GoldenPolicy()
CONFIG = GOLDEN.cases["config"]
CASES = GOLDEN.cases["realtime_cases"]
PRECISIONS = [pytest.param(DOUBLE, 1e-9, id="float64"), pytest.param(torch.float32, 1e-5, id="float32")]

NAMES = [
    (r"^time_in\.(\d)", r"time_mlp.layers.\1"),
    (r"^blocks", "mlp_stack"),
    (r"row_modulation", "adaln_1"),
    (r"channel_modulation", "adaln_2"),
    (r"row_in", "token_mix_in"),
    (r"row_out", "token_mix_out"),
    (r"channel_in", "channel_mix_in"),
    (r"channel_out", "channel_mix_out"),
    (r"^modulation", "final_adaln"),
    (r"^action_out", "out_proj"),
    (r"^(action|obs)_in", "in_proj"),
]
"""Ours -> the released name; `in_proj` takes [action, obs], ours takes them apart."""


def stored(name: str) -> Tensor:
    """The stored value of one of our parameters, in our layout."""
    module, kind = name.rsplit(".", 1)
    for ours, theirs in NAMES:
        module = re.sub(ours, theirs, module)
    if kind == "bias":
        return GOLDEN[f"param/{module}.bias"]
    kernel = GOLDEN[f"param/{module}.kernel"]
    if module == "in_proj":
        action_dim = CONFIG["action_dim"]
        kernel = kernel[:action_dim] if name.startswith("action") else kernel[action_dim:]
    return kernel.T.contiguous()


def released(dtype: torch.dtype) -> Mixer:
    """Our network with the released parameters."""
    network = Mixer(
        CONFIG["obs_dim"],
        CONFIG["action_dim"],
        CONFIG["action_chunk_size"],
        CONFIG["channel_dim"],
        CONFIG["token_hidden_dim"],
        CONFIG["channel_hidden_dim"],
        CONFIG["num_layers"],
    ).to(dtype)
    network.load_state_dict({name: stored(name) for name in network.state_dict()})
    return network.requires_grad_(False)


def prior(dtype: torch.dtype) -> Prior:
    network = released(dtype)
    context = network.encode(GOLDEN["obs"].to(dtype))
    return from_velocity(lambda x, tau: network(x, torch.as_tensor(tau, dtype=x.dtype).reshape(-1), context))


def test_no_parameter_of_the_released_network_is_left_over() -> None:
    ours = sum(parameter.numel() for parameter in released(DOUBLE).parameters())
    theirs = sum(array.numel() for name, array in GOLDEN.arrays.items() if name.startswith("param/"))
    assert ours == theirs


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_the_time_embedding_is_the_released_one(dtype: torch.dtype, tolerance: float) -> None:
    embedded = time_embedding(GOLDEN["t_eval"].to(dtype), CONFIG["channel_dim"])
    assert embedded.dtype == dtype
    # at the shortest period, 0.004, an error in tau grows 1571-fold: float32 holds 1e-4 there
    assert relative_error(embedded, GOLDEN["posemb"]) < (tolerance if dtype == DOUBLE else 2e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_the_velocity_is_the_released_one_at_every_time(dtype: torch.dtype, tolerance: float) -> None:
    network = released(dtype)
    context = network.encode(GOLDEN["obs"].to(dtype))
    for tau, velocity in zip(GOLDEN["t_eval"].tolist(), GOLDEN["velocity"], strict=True):
        given = network(GOLDEN["x_eval"].to(dtype), torch.tensor([tau], dtype=dtype), context)
        assert given.dtype == dtype
        assert relative_error(given, velocity) < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("num_steps", GOLDEN.cases["action_steps"])
def test_unguided_chunks_are_the_released_ones(dtype: torch.dtype, tolerance: float, num_steps: int) -> None:
    out = sample(prior(dtype), GOLDEN["noise"].to(dtype), num_steps)
    assert relative_error(out, GOLDEN[f"action/n{num_steps}"]) < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"case{case['case']:02d}")
def test_guided_chunks_are_the_released_ones(dtype: torch.dtype, tolerance: float, case: dict) -> None:
    horizon, end = CONFIG["action_chunk_size"], case["prefix_attention_horizon"]
    weights = prefix_weights(horizon, case["inference_delay"], horizon - end, case["schedule"], dtype=DOUBLE)
    mask = SoftMask(GOLDEN["prev_chunk"].to(dtype), weights)
    guided = guide(prior(dtype), mask, max_weight=case["max_guidance_weight"])
    out = sample(guided, GOLDEN["noise"].to(dtype), case["num_steps"])
    assert out.dtype == dtype
    assert relative_error(out, GOLDEN[f"realtime/{case['case']:02d}"]) < tolerance


def test_encoding_once_is_giving_every_row_the_observation() -> None:
    network, obs, x = released(DOUBLE), GOLDEN["obs"], GOLDEN["x_eval"]
    weight = torch.cat([network.action_in.weight, network.obs_in.weight], 1)
    joined = torch.cat([x, obs[:, None].expand(-1, x.shape[1], -1)], -1)
    expected = joined @ weight.T + network.action_in.bias
    assert torch.allclose(network.action_in(x) + network.encode(obs), expected, atol=1e-13)


def test_one_time_for_the_batch_is_that_time_for_each() -> None:
    network, x = released(DOUBLE), GOLDEN["x_eval"]
    context = network.encode(GOLDEN["obs"])
    one = network(x, torch.tensor([0.3], dtype=DOUBLE), context)
    each = network(x, torch.full((len(x),), 0.3, dtype=DOUBLE), context)
    assert torch.allclose(one, each, atol=1e-14)
    times = torch.linspace(0.1, 0.9, len(x), dtype=DOUBLE)
    together = network(x, times, context)
    for row in range(len(x)):
        alone = network(x[row : row + 1], times[row : row + 1], context[row : row + 1])
        assert torch.allclose(together[row], alone[0], atol=1e-13)
    assert not torch.allclose(together, each, atol=1e-3)


def test_a_time_embedding_is_sines_then_cosines_from_the_shortest_period_to_the_longest() -> None:
    tau = torch.tensor([0.0, 0.3], dtype=DOUBLE)
    embedded = time_embedding(tau, 8, shortest=0.5, longest=4.0)
    assert torch.equal(embedded[0], torch.tensor([0.0] * 4 + [1.0] * 4, dtype=DOUBLE))
    angles = 2 * torch.pi * 0.3 / torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=DOUBLE)
    assert torch.allclose(embedded[1], torch.cat([angles.sin(), angles.cos()]), atol=1e-12)


def test_a_new_block_is_the_identity_and_learns_from_its_first_step() -> None:
    torch.manual_seed(0)
    block = MixerBlock(horizon=8, channels=16, row_hidden=12, channel_hidden=24)
    hidden, condition = torch.randn(2, 8, 16), torch.randn(1, 1, 16)
    assert torch.equal(block(hidden, condition), hidden)
    block(hidden, condition).square().sum().backward()
    gradient = block.row_modulation.weight.grad
    assert gradient is not None
    assert gradient.abs().max() > 0
