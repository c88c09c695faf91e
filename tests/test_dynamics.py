"""Learned dynamics: exact where the world is known, independent of the batch, and whole on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from policies.checkpoint import DYNAMICS, find_dynamics, load_dynamics
from policies.dynamics import FORMAT, Dynamics
from policies.dynamics_training import (
    DynamicsRecipe,
    DynamicsTraining,
    prediction_errors,
    rollout_loss,
)
from rtc.checkpoint import CONFIG, WEIGHTS
from rtc.errors import CheckpointError, InvalidArgument

A = torch.tensor([[0.0, 0.1, 0.0], [-0.1, -0.05, 0.0], [0.05, 0.0, -0.1]])
B = torch.tensor([[0.0, 0.0], [0.2, 0.0], [0.0, 0.1]])
C = torch.tensor([0.05, 0.0, -0.02])


def linear(obs: Tensor, action: Tensor) -> Tensor:
    """x' = x + A x + B u + c, a world that is known."""
    return obs + obs @ A.T + action @ B.T + C


def episodes(count: int, ticks: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """States and actions of that world, episode after episode."""
    generator = torch.Generator().manual_seed(seed)
    obs, states = torch.randn(count, 3, generator=generator), []
    actions = torch.randn(count, ticks, 2, generator=generator)
    for action in actions.unbind(1):
        states.append(obs)
        obs = linear(obs, action)
    return torch.stack(states, 1).flatten(0, 1), actions.flatten(0, 1)


def some(batch: int, ticks: int, seed: int = 1) -> tuple[Dynamics, Tensor, Tensor]:
    """Dynamics that are not at rest, observations and actions."""
    torch.manual_seed(seed)
    dynamics = Dynamics("X-v0", 5, 2, (16, 16)).eval()
    for parameter in dynamics.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    dynamics.fit_normalisation(torch.randn(50, 5) + 2, 3 * torch.randn(50, 2), torch.randn(50, 5))
    return dynamics, torch.randn(batch, 5), torch.randn(batch, ticks, 2)


@pytest.fixture(scope="module")
def trained() -> Dynamics:
    """What 600 steps make of the linear world."""
    torch.manual_seed(0)
    count, ticks, recipe = 200, 12, DynamicsRecipe(steps=600, batch_size=128, warmup=50, ahead=4)
    states, actions = episodes(count, ticks)
    first = torch.arange(count * ticks).reshape(count, ticks)[:, : ticks - recipe.ahead].flatten()
    dynamics = Dynamics("Linear-v0", 3, 2, (64, 64))
    dynamics.fit_normalisation(states[first], actions[first], states[first + 1])
    training = DynamicsTraining(dynamics, recipe, states, actions)
    for _ in range(recipe.steps):
        training.advance(first)
    kept = training.kept()
    assert isinstance(kept, Dynamics)
    return kept


def test_a_linear_world_is_learnt_to_a_twentieth_of_its_spread(trained: Dynamics) -> None:
    states, actions = episodes(100, 10, seed=7)
    now = 10 * torch.arange(100) + 1
    for later in (1, 4, 8):
        errors = prediction_errors(trained, states, actions, now, later)
        assert errors["learned"] < 0.05, later
        assert errors["nothing changes"] > 0.15, later


def test_what_the_others_predict_is_the_present_and_the_present_with_the_last_change() -> None:
    states = torch.cumsum(torch.full((8, 2), 0.5), 0)  # a world that moves on evenly
    dynamics = Dynamics("X-v0", 2, 1)
    dynamics.obs_std.fill_(2.0)
    errors = prediction_errors(dynamics, states, torch.zeros(8, 1), torch.tensor([1, 2]), 4)
    assert errors == {"learned": 1.0, "nothing changes": 1.0, "last change goes on": 0.0}


def test_the_loss_is_that_of_every_tick_of_a_rollout_on_its_own_predictions() -> None:
    dynamics, _, _ = some(1, 1)
    states, actions = torch.randn(20, 5), torch.randn(20, 2)
    loss = rollout_loss(dynamics, torch.tensor([3, 9]), states=states, actions=actions, ahead=3)
    squares = []
    for first in (3, 9):
        obs = states[first : first + 1]
        for tick in range(first, first + 3):
            obs = dynamics.step(obs, actions[tick : tick + 1])
            squares.append(((obs - states[tick + 1]) / dynamics.obs_std).square())
    torch.testing.assert_close(loss, torch.cat(squares).mean())


def test_after_no_action_the_observation_is_what_it_was_to_the_bit() -> None:
    dynamics, obs, actions = some(4, 3)
    assert torch.equal(dynamics.predict(obs, actions, torch.zeros(4, dtype=torch.int64)), obs)
    assert torch.equal(dynamics.predict(obs, actions[:, :0], torch.zeros(4, dtype=torch.int64)), obs)


def test_untrained_dynamics_stand_still() -> None:
    obs = torch.randn(3, 5)
    assert torch.equal(
        Dynamics("X-v0", 5, 2).predict(obs, torch.randn(3, 4, 2), torch.tensor([4, 1, 2])), obs
    )


def test_each_of_a_batch_runs_through_its_own_rows_and_what_follows_them_does_not_count() -> None:
    dynamics, obs, actions = some(4, 3)
    predicted = dynamics.predict(obs, actions, torch.tensor([0, 1, 2, 3]))
    for index in range(4):
        expected = obs[index : index + 1]
        for tick in range(index):
            expected = dynamics.step(expected, actions[index : index + 1, tick])
        torch.testing.assert_close(predicted[index : index + 1], expected)
    assert not torch.allclose(predicted[3], predicted[2])
    other = actions.clone()
    other[1, 1:] = 9.0
    assert torch.equal(dynamics.predict(obs, other, torch.tensor([0, 1, 2, 3]))[1], predicted[1])


def test_a_prediction_does_not_depend_on_the_others_of_its_batch() -> None:
    dynamics, obs, actions = some(64, 5)
    rows = torch.arange(64) % 6
    together = dynamics.double().predict(obs, actions, rows)  # as they are loaded
    assert together.dtype == obs.dtype
    for size in (1, 2, 3, 8, 31):
        apart = dynamics.predict(obs[:size], actions[:size], rows[:size])
        assert torch.equal(apart, together[:size]), size


def test_a_checkpoint_gives_the_same_predictions(tmp_path: Path) -> None:
    dynamics, obs, actions = some(4, 3)
    dynamics.save_pretrained(tmp_path)
    loaded, rows = load_dynamics(tmp_path, "rtc/X-v0"), torch.tensor([3, 2, 1, 0])
    assert torch.equal(loaded.predict(obs, actions, rows), dynamics.double().predict(obs, actions, rows))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_a_damaged_or_foreign_checkpoint_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint folder .*rtc train-dynamics -h"):
        load_dynamics(tmp_path / "none")
    dynamics, _, _ = some(1, 1)
    dynamics.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="was trained for X-v0, not for Catch-v0"):
        load_dynamics(tmp_path, "Catch-v0")
    config = json.loads((tmp_path / CONFIG).read_text())
    for change, message in (
        ({"format": FORMAT + 1}, r"config\.json: format 2 was written by a newer version"),
        ({"hidden": [8]}, "do not describe one dynamics"),
        ({"obs_dim": 0}, "do not describe one dynamics"),
    ):
        (tmp_path / CONFIG).write_text(json.dumps(config | change))
        with pytest.raises(CheckpointError, match=message):
            load_dynamics(tmp_path)
    (tmp_path / CONFIG).write_text(json.dumps(config))
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_dynamics(tmp_path)


def test_what_does_not_fit_the_dynamics_is_refused() -> None:
    dynamics, obs, actions = some(2, 3)
    with pytest.raises(InvalidArgument, match=r"observations have 4 numbers and actions 2; .* take 5 and 2"):
        dynamics.predict(obs[:, :4], actions, torch.tensor([1, 1]))
    with pytest.raises(InvalidArgument, match=r"rows=\[1, 4\]; they must be 0\.\.3"):
        dynamics.predict(obs, actions, torch.tensor([1, 4]))
    with pytest.raises(InvalidArgument, match="ahead is 0"):
        DynamicsRecipe(ahead=0)


def test_a_policy_told_of_its_prefix_has_the_dynamics_of_the_plain_one_unless_it_has_its_own(
    tmp_path: Path,
) -> None:
    dynamics, _, _ = some(1, 1)
    plain, told = tmp_path / "policy", tmp_path / "policy-prefix"
    assert find_dynamics(plain) is find_dynamics(told) is None
    dynamics.save_pretrained(plain / DYNAMICS)
    assert find_dynamics(plain) == find_dynamics(told) == plain / DYNAMICS
    (told / DYNAMICS).mkdir(parents=True)  # begun, not finished
    assert find_dynamics(told) == plain / DYNAMICS
    dynamics.save_pretrained(told / DYNAMICS)
    assert find_dynamics(told) == told / DYNAMICS
