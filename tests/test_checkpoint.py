"""Checkpoints of policies: their format, and what half precision costs."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from policies.checkpoint import halve, load_policy, shipped_checkpoint
from policies.flow import FORMAT, FlowPolicy
from rtc.checkpoint import CONFIG, WEIGHTS
from rtc.errors import CheckpointError
from rtc.sample import sample

TASK = "ReachPastPost-v0"


def chunks_of(policy: FlowPolicy) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    obs = policy.obs_mean + policy.obs_std * torch.randn(64, policy.obs_dim, generator=generator)
    return sample(policy.condition(obs), torch.randn(64, policy.horizon, 3, generator=generator), 5)


def test_a_checkpoint_says_its_format() -> None:
    assert json.loads((shipped_checkpoint(TASK) / CONFIG).read_text())["format"] == FORMAT


def test_a_newer_format_is_refused_by_every_loader(tmp_path: Path) -> None:
    policy = FlowPolicy("X-v0", 3, 2, 4, 8, 4, 8, 1)
    policy.save_pretrained(tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    assert config["format"] == FORMAT
    config |= {"format": FORMAT + 1, "network": "from the future", "unheard": 1}
    (tmp_path / CONFIG).write_text(json.dumps(config))
    says = f"format {FORMAT + 1} was written by a newer version of rtc; .*upgrade rtc"
    with pytest.raises(CheckpointError, match=r"config\.json: " + says):
        load_policy(tmp_path)
    with pytest.raises(CheckpointError, match=says):
        FlowPolicy.from_pretrained(tmp_path)


def test_half_the_file_gives_nearly_the_same_chunks_in_float32(tmp_path: Path) -> None:
    whole = load_policy(shipped_checkpoint(TASK), TASK)
    half = copy.deepcopy(whole)
    halve(half)
    half.save_pretrained(tmp_path)
    with safe_open(tmp_path / WEIGHTS, "pt") as file:
        assert file.get_tensor("network.action_out.weight").dtype == torch.float16
        assert torch.equal(file.get_tensor("obs_mean"), whole.obs_mean)  # normalisation is whole
    size = (tmp_path / WEIGHTS).stat().st_size
    assert size < 0.51 * (shipped_checkpoint(TASK) / WEIGHTS).stat().st_size + 4000
    expected = chunks_of(whole)
    for loaded in (load_policy(tmp_path, TASK), FlowPolicy.from_pretrained(tmp_path)):
        assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}
        assert (chunks_of(loaded) - expected).abs().max() < 0.01


def test_float16_loses_less_than_bfloat16() -> None:
    whole = load_policy(shipped_checkpoint(TASK), TASK)
    lost = {}
    for dtype in (torch.float16, torch.bfloat16):
        rounded = copy.deepcopy(whole)
        for parameter in rounded.parameters():
            parameter.data = parameter.data.to(dtype).float()
        lost[dtype] = (chunks_of(rounded) - chunks_of(whole)).square().mean().sqrt()
    assert lost[torch.float16] < 0.3 * lost[torch.bfloat16]


def test_weights_that_float16_cannot_hold_are_refused() -> None:
    policy = FlowPolicy("X-v0", 3, 2, 4, 8, 4, 8, 1)
    torch.nn.init.constant_(policy.network.action_out.bias, 1e5)
    with pytest.raises(CheckpointError, match=r"action_out.bias has weights beyond .* without --half"):
        halve(policy)
