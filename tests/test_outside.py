"""Environments from outside: any Gymnasium one with a Box action space runs, and says what it cannot."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from gymnasium import spaces

from envs.outside import AnyTask, make_outside
from policies.flow import FlowPolicy
from rtc.cli import main
from rtc.errors import InvalidArgument
from rtc.runtime.episode import Episode
from rtc.runtime.latency import ConstantDelay
from rtc.runtime.rollout import rollout
from rtc.runtime.strategies import InferenceInfo, make_strategy

PENDULUM, CAR = "gymnasium:Pendulum-v1", "gymnasium:MountainCarContinuous-v0"


class Odd(gymnasium.Env):
    """Nested observations with two images, actions in a box of two axes, success and limits of its own."""

    metadata = {"render_modes": []}  # noqa: RUF012
    image = spaces.Box(0, 255, (4, 6, 3), np.uint8)
    observation_space = spaces.Dict(
        {
            "arm": spaces.Dict({"joints": spaces.Box(-1, 1, (2, 2)), "grip": spaces.Discrete(3)}),
            "pixels": spaces.Dict({"top": image, "side": image}),
        }
    )
    action_space = spaces.Box(np.array([[0.0, -3.0]]), np.array([[512.0, 3.0]]), dtype=np.float64)

    def __init__(self, infos: Sequence[dict[str, Any]] = (), metadata: dict[str, Any] | None = None) -> None:
        self.infos, self.tick, self.action = infos, 0, np.zeros(0)
        self.metadata = {"render_modes": []} | (metadata or {})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.tick = 0
        return self._obs(), {}

    def step(self, action: np.ndarray):
        self.tick, self.action = self.tick + 1, action
        info = self.infos[self.tick - 1] if self.infos else {}
        return self._obs(), 1.0, False, False, info

    def _obs(self) -> dict[str, Any]:
        joints = np.array([[0.1, 0.2], [0.3, self.tick]], np.float32)
        top, side = np.full((4, 6, 3), self.tick, np.uint8), np.full((4, 6, 3), 200, np.uint8)
        return {"arm": {"joints": joints, "grip": 1}, "pixels": {"top": top, "side": side}}


class Played:
    """A strategy that plays `act(obs)` over the whole chunk and keeps what it was shown."""

    name, waits, horizon, privileged, expected = "played", False, 4, False, "longest"
    max_delay = None

    def __init__(self, act: Any, history: int = 1) -> None:
        self.act, self.history, self.seen = act, history, []

    def __call__(self, obs: Any, requests: Any, noise: torch.Tensor) -> tuple[np.ndarray, InferenceInfo]:
        self.seen.append(obs)
        actions = np.asarray(self.act(obs), np.float32)
        chunks = np.repeat(actions[:, None], self.horizon, axis=1)
        return chunks, InferenceInfo(1, 0, np.zeros(len(requests), bool), np.full(len(requests), -1))


def save_policy(folder: Path, task: str, **settings: Any) -> FlowPolicy:
    torch.manual_seed(0)
    policy = FlowPolicy(task, **settings, horizon=8, channels=16, blocks=1)
    policy.action_std.fill_(3.0)
    policy.save_pretrained(folder)
    return policy.eval()


def play(env: gymnasium.Env, act: Any, **options: Any) -> Episode:
    strategy = options.pop("strategy", None) or Played(act)
    return rollout(
        env, strategy, execution_horizon=4, delay=ConstantDelay(options.pop("delay", 0)), **options
    )


@pytest.mark.parametrize("strategy", ["synchronous", "naive", "realtime"])
def test_an_environment_from_outside_runs_in_its_own_limits_with_its_delays_counted(
    strategy: str, tmp_path: Path
) -> None:
    policy = save_policy(tmp_path, PENDULUM, obs_dim=3, action_dim=1, action_low=-2.0, action_high=2.0)
    env = make_outside(f"{PENDULUM}?max_episode_steps=26")
    episode = play(env, None, strategy=make_strategy(strategy, policy), delay=2)
    assert set(episode.delays) == {2}
    assert episode.ticks == 26
    assert episode.failure == "nothing says what success is"
    assert episode.positions is None
    assert 1.0 < np.abs(episode.actions).max() <= 2.0
    assert episode.starved_ticks == (2 * len(episode.delays) if strategy == "synchronous" else 0)


def test_success_is_the_return_that_the_id_calls_solved() -> None:
    solved = play(make_outside(CAR), lambda obs: np.sign(obs[:, 1:]))  # push where it moves
    assert (solved.success, solved.failure) == (True, None)
    assert solved.total_reward >= 90.0
    assert play(make_outside(CAR), lambda obs: 0 * obs[:, 1:]).failure == "timeout"


@pytest.mark.parametrize(
    ("said", "success"),
    [
        ({"is_success": True}, True),
        ({"success": np.float64(1.0)}, True),
        ({"is_success": False, "success": 1.0}, False),
        ({}, False),
    ],
)
def test_success_is_what_the_environment_says(said: dict[str, Any], success: bool) -> None:
    env = AnyTask(Odd([said], {"time_limit": 1}), "odd")
    env.reset(seed=0)
    _, _, terminated, truncated, info = env.step(np.zeros(2))
    assert (terminated, truncated, info["is_success"]) == (success, True, success)


def test_an_episode_ends_with_its_first_success() -> None:
    env = AnyTask(Odd([{"success": tick == 3} for tick in range(1, 10)]), "odd")
    assert play(env, lambda obs: np.zeros((1, 2))).ticks == 3


def test_an_image_keeps_its_name_and_everything_else_is_one_vector() -> None:
    env = AnyTask(Odd(), "odd")
    obs, _ = env.reset(seed=0)
    assert isinstance(obs, dict)
    assert env.observation_space.contains(obs)
    np.testing.assert_allclose(obs["state"], [0, 1, 0, 0.1, 0.2, 0.3, 0.0])  # keys in Gymnasium's order
    assert (obs["pixels_side"] == 200).all()
    obs, *_ = env.step(np.zeros(2))
    assert (obs["pixels_top"] == 1).all()
    assert obs["state"][-1] == 1.0
    chosen, _ = AnyTask(Odd(), "odd", cameras=("pixels_side",)).reset(seed=0)
    assert list(chosen) == ["state", "pixels_side"]
    vector, _ = AnyTask(Odd(), "odd", cameras=()).reset(seed=0)
    assert isinstance(vector, np.ndarray)
    with pytest.raises(InvalidArgument, match="no image 'front'; it has pixels_side, pixels_top"):
        AnyTask(Odd(), "odd", cameras=("front",))


def test_a_batch_of_dicts_reaches_the_strategy_as_a_dict_of_batches() -> None:
    strategy = Played(lambda obs: np.zeros((len(obs["state"]), 2)))
    play(AnyTask(Odd(metadata={"time_limit": 6}), "odd"), None, strategy=strategy)
    assert strategy.seen[0]["state"].shape == (1, 7)
    assert strategy.seen[1]["pixels_top"].shape == (1, 4, 6, 3)
    assert (strategy.seen[1]["pixels_top"] == 4).all()  # asked at tick 4


def test_a_strategy_with_a_history_sees_the_last_observations_the_present_one_last() -> None:
    strategy = Played(lambda obs: np.zeros((len(obs["state"]), 2)), history=3)
    play(AnyTask(Odd(metadata={"time_limit": 6}), "odd"), None, strategy=strategy)
    assert strategy.seen[0]["state"][0, :, -1].tolist() == [0, 0, 0]  # the first one repeats
    assert strategy.seen[1]["state"][0, :, -1].tolist() == [2, 3, 4]
    assert strategy.seen[1]["pixels_top"].shape == (1, 4, 6, 3)  # of images the present one
    vectors = Played(lambda obs: np.zeros((len(obs), 2)), history=2)
    play(AnyTask(Odd(metadata={"time_limit": 6}), "odd", cameras=()), None, strategy=vectors)
    assert vectors.seen[1][0, :, -1].tolist() == [3, 4]


def test_an_action_arrives_in_the_shape_type_and_limits_of_the_environment() -> None:
    odd = Odd()
    env = AnyTask(odd, "odd")
    env.reset(seed=0)
    env.step(np.array([300.0, -9.0], np.float32))
    assert (odd.action.shape, odd.action.dtype) == ((1, 2), np.float64)
    assert odd.action.tolist() == [[300.0, -3.0]]


@pytest.mark.parametrize(
    ("metadata", "rate", "assumed"),
    [
        ({"control_hz": 20, "render_fps": 60, "time_limit": 9}, 20.0, []),
        ({"render_fps": 60, "time_limit": 9}, 60.0, []),
        ({"time_limit": 9}, 50.0, ["odd does not say its control rate: 50 Hz is assumed"]),
        ({"control_hz": 20}, 20.0, ["odd has no time limit: episodes are cut after 1000 ticks"]),
    ],
)
def test_what_an_environment_does_not_say_is_assumed_and_said(
    metadata: dict[str, Any], rate: float, assumed: list[str]
) -> None:
    env = AnyTask(Odd(metadata=metadata), "odd")
    assert env.metadata["control_hz"] == rate
    assert env.metadata["starvation"] == "hold"
    assert env.assumed == assumed
    assert AnyTask(Odd(metadata={"starvation": "zero"}), "odd").metadata["starvation"] == "zero"


def test_arguments_of_an_environment_follow_a_question_mark() -> None:
    light, heavy = make_outside(f"{PENDULUM}?g=0.0"), make_outside(f"{PENDULUM}?g=20")
    for env in (light, heavy):
        env.reset(seed=0)
    speeds = [np.asarray(env.step(np.zeros(1))[0])[2] for env in (light, heavy)]
    assert speeds[0] != pytest.approx(speeds[1])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gymnasium:CartPole-v1", r"action space Discrete\(2\); a Box of floats is needed"),
        ("gymnasium:Nonsense-v7", "cannot be made .*Nonsense"),
        ("gymnasium:nonsense_suite/Nonsense-v7", "cannot be made .*nonsense_suite"),
        ("gymnasium:nonsense_suite:Nonsense-v7", "needs nonsense_suite, which is not installed: install it"),
        (f"{PENDULUM}?colour=red", "cannot be made .*colour"),
        (f"{PENDULUM}?g", "cannot be made .*as in .key=value"),
    ],
)
def test_an_environment_that_cannot_run_is_refused_with_the_reason(name: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        make_outside(name)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("metaworld:reach-v3", "metaworld", "metaworld"),
        ("gymnasium:gym_pusht/PushT-v0", "gym_pusht", "pusht"),
        ("gymnasium:gym_aloha/AlohaInsertion-v0", "gym_aloha", "aloha"),
    ],
)
def test_a_suite_that_is_not_installed_is_named_with_its_extra(name: str, module: str, extra: str) -> None:
    if importlib.util.find_spec(module):
        pytest.skip(f"{module} is installed here")
    with pytest.raises(InvalidArgument, match=rf"needs {module}, .*pip install 'rtc\[{extra}\]'"):
        make_outside(name)


@pytest.mark.parametrize("action", [np.zeros(3), np.array([np.nan, 0.0]), np.zeros((1, 2))])
def test_an_action_that_cannot_be_executed_is_refused_with_the_limits(action: np.ndarray) -> None:
    env = AnyTask(Odd(), "odd")
    env.reset(seed=0)
    with pytest.raises(InvalidArgument, match=r"odd takes \(2,\) finite numbers .* within -3\.\.512"):
        env.step(action)


def test_infos_that_mean_something_else_are_left_out() -> None:
    info = {"failure": 3, "position": 0.5, "coverage": 0.1}
    env = AnyTask(Odd([info, {"failure": "dropped", "position": np.zeros(3)}]), "odd")
    env.reset(seed=0)
    assert env.step(np.zeros(2))[-1] == {"coverage": 0.1, "is_success": False}
    assert {"failure", "position"} <= env.step(np.zeros(2))[-1].keys()


def test_the_command_line_compares_strategies_on_an_environment_from_outside(tmp_path: Path) -> None:
    name = f"{CAR}?max_episode_steps=12"
    save_policy(tmp_path / "policy", name, obs_dim=2, action_dim=1)
    out = tmp_path / "out"
    common = ["--policy", str(tmp_path / "policy"), "--out", str(out), "--workers", "1", "--no-video"]
    rest = ["--episodes", "1", "--delays", "2", "--strategies", "naive,realtime"]
    result = CliRunner().invoke(main, ["rollout", "--env", name, *common, *rest])
    assert result.exit_code == 0, result.output
    document = json.loads((out / "results.json").read_text())
    assert [cell["strategy"] for cell in document["cells"]] == ["naive", "realtime"]
    assert document["tick_seconds"] == pytest.approx(1 / 30)  # render_fps
    assert document["settings"]["task"] == name
    assert set(document["cells"][0]["episodes"][0]["delays"]) == {2}


@pytest.mark.skipif(
    mujoco.__version__.startswith("3.3"), reason="our tasks need a newer MuJoCo than Meta-World's"
)
def test_the_oracle_succeeds_at_a_delay_at_which_an_untrained_policy_does_not(tmp_path: Path) -> None:
    name = "ReachPastPost-v0"
    save_policy(tmp_path / "policy", name, obs_dim=18, action_dim=3)
    common = ["--policy", str(tmp_path / "policy"), "--out", str(tmp_path / "out"), "--workers", "1"]
    rest = ["--episodes", "4", "--delays", "3", "--strategies", "naive,oracle", "--no-video"]
    result = CliRunner().invoke(main, ["rollout", "--task", name, *common, *rest])
    assert result.exit_code == 0, result.output
    cells = json.loads((tmp_path / "out" / "results.json").read_text())["cells"]
    naive, oracle = (sum(episode["success"] for episode in cell["episodes"]) for cell in cells)
    assert naive == 0
    assert oracle >= 3  # of 4: it is not perfect


def test_the_oracle_needs_a_world_that_it_can_copy(tmp_path: Path) -> None:
    save_policy(tmp_path / "policy", CAR, obs_dim=2, action_dim=1)
    common = ["--policy", str(tmp_path / "policy"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, ["rollout", "--env", CAR, *common, "--strategies", "oracle"])
    assert result.exit_code == 2
    assert "cannot be copied" in result.stderr


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("gymnasium:CartPole-v1", "Discrete(2)"),
        (PENDULUM, "has observations (3,)"),
        ("Nonsense-v0", "or give gymnasium:ID"),
    ],
)
def test_the_command_line_refuses_in_one_line(env: str, message: str, tmp_path: Path) -> None:
    save_policy(tmp_path / "policy", env, obs_dim=2, action_dim=1)
    common = ["--policy", str(tmp_path / "policy"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, ["rollout", "--env", env, *common])
    assert result.exit_code == 2
    assert result.stderr.startswith("rtc: error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert not (tmp_path / "out").exists()
