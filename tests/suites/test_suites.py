"""Meta-World, gym-pusht and gym-aloha themselves, in the environment that `make suites` makes."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from envs.meta_world import ScriptedExpert
from envs.outside import AnyTask, make_outside
from envs.outside_demos import expert_succeeds, record_outside
from envs.render import choose_backend
from policies.flow import FlowPolicy
from rtc.cli import main
from rtc.dataset import read_demonstrations
from rtc.errors import InvalidArgument, RenderUnavailable
from rtc.runtime.latency import ConstantDelay
from rtc.runtime.rollout import rollout
from rtc.runtime.strategies import make_strategy

for module in ("metaworld", "gym_pusht", "gym_aloha"):
    pytest.importorskip(module)

REACH = "metaworld:reach-v3"
PUSHT = "gymnasium:gym_pusht/PushT-v0"
SMALL = "obs_type=pixels_agent_pos&observation_width=96&observation_height=96"
ALOHA = f"gymnasium:gym_aloha/AlohaInsertion-v0?{SMALL}"

with suppress(RenderUnavailable):  # gym-aloha draws at every step; its test says that it cannot
    choose_backend()


def untrained(env: AnyTask) -> FlowPolicy:
    """A tiny policy for the numbers of the observation, in the limits of the action space."""
    torch.manual_seed(0)
    space: Any = env.action_space
    (obs_dim,), (action_dim,) = env.observation_space.shape or (0,), space.shape
    policy = FlowPolicy(
        env.name,
        obs_dim,
        action_dim,
        8,
        16,
        blocks=1,
        action_low=space.low.tolist(),
        action_high=space.high.tolist(),
    )
    policy.action_mean.copy_(torch.from_numpy((space.low + space.high) / 2))
    policy.action_std.copy_(torch.from_numpy((space.high - space.low) / 4))
    return policy.eval()


@pytest.mark.parametrize(
    ("name", "hz", "obs_dim", "actions"),
    [(REACH, 80.0, 39, 4), (PUSHT, 10.0, 5, 2), (ALOHA, 50.0, 14, 14)],
)
def test_a_suite_runs_through_the_runtime_with_its_delays_counted(
    name: str, hz: float, obs_dim: int, actions: int
) -> None:
    if name == ALOHA:
        choose_backend()
    env = make_outside(name, cameras=())
    assert env.metadata["control_hz"] == hz
    assert (env.observation_space.shape, env.action_space.shape) == ((obs_dim,), (actions,))
    assert env.assumed == []
    env._time_limit = 20  # a short episode; drawing is slow
    policy = untrained(env)
    episode = rollout(env, make_strategy("naive", policy), execution_horizon=4, delay=ConstantDelay(2))
    assert episode.ticks == 20
    assert set(episode.delays) == {2}
    assert len(episode.delays) == 4
    assert episode.failure == "timeout"
    space: Any = env.action_space
    assert ((episode.actions >= space.low) & (episode.actions <= space.high)).all()
    env.close()


def test_images_of_a_suite_keep_their_names() -> None:
    choose_backend()
    env = make_outside(ALOHA)
    obs, _ = env.reset(seed=0)
    assert isinstance(obs, dict)
    assert obs["pixels_top"].shape == (96, 96, 3)
    assert obs["pixels_top"].std() > 10
    assert obs["state"].shape == (14,)
    env.close()


def test_pusht_starts_where_its_seed_says() -> None:
    env = make_outside(PUSHT)
    first, again, other = (np.asarray(env.reset(seed=seed)[0]) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_episode_of_meta_world_is_a_function_of_its_seed_and_action() -> None:
    env, expert = make_outside(REACH), ScriptedExpert("reach-v3")

    def play(seed: int) -> np.ndarray:
        obs, seen = env.reset(seed=seed)[0], []
        for _ in range(20):
            seen.append(obs)
            obs = env.step(expert.act(obs))[0]
        return np.stack(seen)  # type: ignore[arg-type]

    first, other, again = play(5), play(6), play(5)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], other[0])


def test_the_chunks_of_a_demonstration_are_the_actions_that_the_expert_took_next() -> None:
    recording = record_outside(REACH, [0, 1, 2], horizon=16, noise=0.0)
    data = recording.demonstrations()
    assert data.success.tolist() == [1.0, 1.0, 1.0]
    assert data.obs.shape == (len(data.episode), 39)
    assert (data.obs.dtype, data.chunks.dtype) == (np.float32, np.float32)
    for seed in (0, 1, 2):
        chunks = data.chunks[data.episode == seed]
        assert chunks.shape[1:] == (16, 4)
        np.testing.assert_array_equal(chunks[1:, :-1], chunks[:-1, 1:])
        np.testing.assert_array_equal(chunks[:, 0], recording.action[recording.episode == seed])
    # Played open loop, the first rows do what the expert did: they lead from one observation to the next.
    env, rows = make_outside(REACH), data.episode == 1
    env.reset(seed=1)
    for chunk, after in zip(data.chunks[rows], data.obs[rows][1:], strict=False):
        np.testing.assert_array_equal(env.step(chunk[0])[0], after)


def test_noise_moves_the_states_and_not_the_labels_and_seeds_are_independent() -> None:
    clean, noisy = (record_outside(REACH, [1], 8, noise).demonstrations() for noise in (0.0, 0.2))
    np.testing.assert_array_equal(clean.obs[0], noisy.obs[0])
    np.testing.assert_array_equal(clean.chunks[0, 0], noisy.chunks[0, 0])
    assert np.abs(clean.obs[5] - noisy.obs[5]).max() > 1e-4
    both = record_outside(REACH, [0, 1], 8, 0.2).demonstrations()
    np.testing.assert_array_equal(both.chunks[both.episode == 1], noisy.chunks)


def test_the_last_frames_of_an_episode_that_runs_out_of_time_have_no_chunk() -> None:
    recording = record_outside("metaworld:soccer-v3", [0], horizon=16, noise=0.0)
    assert recording.success.tolist() == [0.0]
    assert len(recording.state) == len(recording.replanned) == 500
    assert recording.replanned.tolist() == [True] * 485 + [False] * 15
    assert len(recording.chunks) == 485


def test_a_policy_learns_from_the_expert_what_the_expert_does() -> None:
    # Reach is linear feedback on the goal: a ridge regression of the labels drives the hand there.
    data = record_outside(REACH, range(20), 4).demonstrations()
    features = np.column_stack([data.obs, np.ones(len(data.obs))]).astype(np.float64)
    gram = features.T @ features + 1e-6 * np.eye(40)
    weights = np.linalg.solve(gram, features.T @ data.chunks[:, 0].astype(np.float64))
    env, reached = make_outside(REACH), 0
    for seed in range(1000, 1010):
        obs, info = env.reset(seed=seed)
        over = False
        while not over:
            obs, _, terminated, truncated, info = env.step(np.append(np.asarray(obs), 1.0) @ weights)
            over = terminated or truncated
        reached += info["is_success"]
    assert reached >= 8


def test_stopping_to_think_costs_nothing_where_the_world_stands_still() -> None:
    env, expert = make_outside(REACH), ScriptedExpert("reach-v3")
    assert all(expert_succeeds(env, expert, seed, pause=8) for seed in range(3))


def test_what_meta_world_does_not_have_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"no task 'teleport-v3'; choose from assembly-v3, "):
        make_outside("metaworld:teleport-v3")
    with pytest.raises(InvalidArgument, match=r"PushT-v0 ships no expert"):
        record_outside(PUSHT, [0], 8)


def test_the_command_line_runs_a_suite_by_its_name(tmp_path: Path) -> None:
    untrained(make_outside(REACH)).save_pretrained(tmp_path / "policy")
    arguments = [
        "rollout",
        "--env",
        REACH,
        "--policy",
        str(tmp_path / "policy"),
        "--out",
        str(tmp_path / "out"),
    ]
    more = ["--episodes", "1", "--delays", "4", "--strategies", "synchronous,naive", "--workers", "1"]
    result = CliRunner().invoke(main, [*arguments, *more, "--no-video"])
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "out" / "results.json").read_text())
    assert document["tick_seconds"] == pytest.approx(1 / 80)
    assert [cell["episodes"][0]["ticks"] for cell in document["cells"]] == [500, 500]


def test_the_command_line_records_the_experts_that_meta_world_ships(tmp_path: Path) -> None:
    command = ["demos", "--env", REACH, "--episodes", "3", "--seed", "7", "--format", "plain"]
    result = CliRunner().invoke(main, [*command, "--workers", "1", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "succeeded in 100.0 % of them (modes: script 3)" in result.stderr
    assert "variance" not in result.stderr  # it cannot be measured in a world that is not copied
    data, manifest = read_demonstrations(tmp_path, REACH, horizon=16)
    expected = record_outside(REACH, [7, 8, 9], 16).demonstrations()
    np.testing.assert_array_equal(data.chunks, expected.chunks)
    np.testing.assert_array_equal(data.obs, expected.obs)
    assert manifest["expert"] == "metaworld.policies"
    assert manifest["recipe"] == {"horizon": 16, "noise": 0.1}
    assert (manifest["task"], manifest["spread"]) == (REACH, None)
    refused = CliRunner().invoke(main, ["demos", "--env", PUSHT, "--out", str(tmp_path / "pusht")])
    assert (refused.exit_code, "ships no expert" in refused.stderr) == (2, True)
