"""The policy around the network: normalisation at the border, one folder that holds all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import envs
from policies.checkpoint import load_policy, shipped_checkpoint
from policies.flow import FlowPolicy
from rtc.sample import sample

ROOT = Path(__file__).parents[1]
OBS, ACTION, HORIZON = 5, 3, 8


def small(seed: int = 0) -> FlowPolicy:
    """A small policy in which every weight counts, and whose normalisation is not trivial."""
    torch.manual_seed(seed)
    policy = FlowPolicy(
        "ReachPastPost-v0", OBS, ACTION, HORIZON, channels=16, row_hidden=8, channel_hidden=16, blocks=2
    )
    for parameter in policy.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    policy.fit_normalisation(3.0 + 2.0 * torch.randn(200, OBS), 0.2 + 0.1 * torch.randn(200, HORIZON, ACTION))
    return policy.eval().requires_grad_(False)


def chunk_of(policy: FlowPolicy, obs: torch.Tensor) -> torch.Tensor:
    noise = torch.randn(len(obs), HORIZON, ACTION, generator=torch.Generator().manual_seed(1))
    return policy.denormalize(sample(policy.condition(obs), noise, 4))


def test_a_saved_policy_comes_back_to_the_bit(tmp_path: Path) -> None:
    policy, obs = small(), torch.randn(4, OBS)
    policy.save_pretrained(tmp_path)
    for other in (FlowPolicy.from_pretrained(tmp_path), load_policy(tmp_path, "ReachPastPost-v0")):
        assert torch.equal(chunk_of(other, obs), chunk_of(policy, obs))
        state = policy.state_dict()
        assert state.keys() == other.state_dict().keys()
        for name, value in other.state_dict().items():
            assert torch.equal(value, state[name])


def test_a_saved_policy_says_what_it_is(tmp_path: Path) -> None:
    small().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["task"], config["obs_dim"], config["horizon"]) == ("ReachPastPost-v0", OBS, HORIZON)
    assert (tmp_path / "model.safetensors").stat().st_size < 100_000


def test_loading_needs_no_network(tmp_path: Path) -> None:
    policy, obs = small(), torch.ones(1, OBS)
    policy.save_pretrained(tmp_path)
    program = f"""
import socket
def refuse(*args, **kwargs): raise AssertionError("a network was asked")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import torch
from policies.flow import FlowPolicy
policy = FlowPolicy.from_pretrained({str(tmp_path)!r})
print(policy.condition(torch.ones(1, {OBS})).denoise(torch.ones(1, {HORIZON}, {ACTION}), 0.5).sum().item())
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    expected = policy.condition(obs).denoise(torch.ones(1, HORIZON, ACTION), 0.5).sum().item()
    assert float(done.stdout.splitlines()[-1]) == pytest.approx(expected, rel=1e-6)


def test_normalisation_is_fitted_per_observation_and_per_action_and_is_in_the_checkpoint() -> None:
    policy, random = small(), torch.Generator().manual_seed(3)
    obs = 3.0 + torch.tensor([1.0, 2.0, 3.0, 4.0, 0.0]) * torch.randn(500, OBS, generator=random)
    chunks = torch.randn(500, HORIZON, ACTION, generator=random) * torch.tensor([0.1, 0.2, 0.3]) - 0.1
    policy.fit_normalisation(obs, chunks)
    assert torch.allclose(policy.obs_mean, obs.mean(0))
    assert torch.allclose(policy.obs_std[:4], obs[:, :4].std(0))
    assert policy.obs_std[4] == pytest.approx(1e-3)  # what never varies is not blown up
    assert torch.allclose(policy.action_mean, chunks.reshape(-1, ACTION).mean(0))
    assert torch.allclose(policy.action_std, chunks.reshape(-1, ACTION).std(0), rtol=1e-5)
    normalised = policy.normalize(chunks)
    assert normalised.mean((0, 1)).abs().max() < 1e-5
    assert (normalised.std((0, 1)) - 1).abs().max() < 1e-3
    assert {"obs_mean", "obs_std", "action_mean", "action_std"} <= set(policy.state_dict())


def test_the_network_sees_normalised_observations() -> None:
    policy, obs = small(), torch.randn(3, OBS)
    expected = policy.network.encode((obs - policy.obs_mean) / policy.obs_std)
    assert torch.equal(policy.encode(obs), expected)


def test_denormalising_undoes_normalising_and_keeps_to_the_limits() -> None:
    policy = small()
    actions = torch.linspace(-1.0, 1.0, 2 * HORIZON * ACTION).reshape(2, HORIZON, ACTION)
    assert torch.allclose(policy.denormalize(policy.normalize(actions)), actions, atol=1e-6)
    wild = policy.denormalize(torch.tensor([[-1e3, 0.0, 1e3]]))
    assert (wild[0, 0], wild[0, 2]) == (-1.0, 1.0)


def test_limits_may_differ_by_action_and_are_kept(tmp_path: Path) -> None:
    low, high = [-1.0, -2.0, 0.0], [1.0, 2.0, 0.5]
    policy = FlowPolicy("X-v0", OBS, ACTION, HORIZON, 16, 8, 16, 1, action_low=low, action_high=high)
    policy.save_pretrained(tmp_path)
    for one in (policy, FlowPolicy.from_pretrained(tmp_path), policy.double()):
        dtype = one.action_mean.dtype
        assert one.denormalize(torch.full((3,), -9.0, dtype=dtype)).tolist() == low
        assert one.denormalize(torch.full((3,), 9.0, dtype=dtype)).tolist() == high
    assert "action_low" not in policy.state_dict()  # an argument, not a weight


@pytest.mark.parametrize("tau", [0.3, torch.tensor(0.3), torch.tensor([0.3]), torch.full((4,), 0.3)], ids=str)
def test_a_flow_time_may_be_a_number_or_one_each(tau: float | torch.Tensor) -> None:
    policy, x = small(), torch.randn(4, HORIZON, ACTION)
    obs = torch.randn(4, OBS)
    context = policy.encode(obs)
    expected = x + 0.7 * policy.velocity(x, torch.full((4,), 0.3), context)
    assert torch.allclose(policy.condition(obs).denoise(x, tau), expected, atol=1e-6)


def test_rows_of_a_batch_do_not_see_each_other() -> None:
    policy, x, obs = small(), torch.randn(4, HORIZON, ACTION), torch.randn(4, OBS)
    tau = torch.tensor([0.0, 0.2, 0.5, 0.9])
    together = policy.condition(obs).denoise(x, tau)
    for row in range(4):
        one = slice(row, row + 1)
        alone = policy.condition(obs[one]).denoise(x[one], tau[one])
        assert torch.allclose(together[one], alone, atol=1e-6)
    others = obs.clone()
    others[1:] += 1.0
    changed = policy.condition(others).denoise(x, tau)
    assert torch.equal(changed[0], together[0])
    assert not torch.allclose(changed[1:], together[1:], atol=1e-3)


def test_observations_are_encoded_once_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, calls = small(), []
    encode = FlowPolicy.encode
    monkeypatch.setattr(FlowPolicy, "encode", lambda self, obs: calls.append(1) or encode(self, obs))
    sample(policy.condition(torch.randn(2, OBS)), torch.randn(2, HORIZON, ACTION), 5)
    assert len(calls) == 1


@pytest.mark.parametrize("task", [*envs.CLASSES])
def test_an_observation_alone_gives_to_the_bit_what_it_gives_among_others(task: str) -> None:
    policy = load_policy(shipped_checkpoint(f"{task}-v0"))
    random = torch.Generator().manual_seed(0)
    obs = torch.randn(5, policy.obs_dim, generator=random)
    noise = torch.randn(5, policy.horizon, policy.action_dim, generator=random)
    together = sample(policy.condition(obs), noise, 5)
    for rows in (slice(0, 1), slice(2, 4)):
        assert torch.equal(sample(policy.condition(obs[rows]), noise[rows], 5), together[rows])
