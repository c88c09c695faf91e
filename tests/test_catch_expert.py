"""The expert of catch: it catches, in both modes; late it misses; asked afresh it goes along."""

from __future__ import annotations

import math

import numpy as np
import pytest

from envs.arm import solve_pose
from envs.card import Control
from envs.catch import GRAVITY, Catch
from envs.catch_expert import HEIGHTS, Expert

CONTROLS: list[Control] = ["velocity", "position"]


def still(control: Control = "velocity", seed: int = 0) -> Catch:
    """A reset env without disturbances."""
    env = Catch(control=control, disturbances=False)
    env.reset(seed=seed)
    return env


def play(env: Catch, seed: int, expert: Expert, delay: int = 0) -> bool:
    """Whether the expert succeeds in an episode when every action comes `delay` ticks late."""
    env.reset(seed=seed)
    queue = [np.zeros(3)] * delay
    while True:
        queue.append(expert.act(env))
        _, _, terminated, truncated, info = env.step(queue.pop(0))
        if terminated or truncated:
            return info["is_success"]


def success(env: Catch, episodes: int, delay: int = 0) -> float:
    """The expert's success over some episodes."""
    experts = [Expert(np.random.default_rng([seed, 1])) for seed in range(episodes)]
    return sum(play(env, seed, expert, delay) for seed, expert in enumerate(experts)) / episodes


def expert_in(mode: str) -> Expert:
    """An expert that drew `mode`."""
    return next(e for e in (Expert(np.random.default_rng(seed)) for seed in range(99)) if e.mode == mode)


@pytest.mark.parametrize("control", CONTROLS)
def test_the_expert_catches_in_both_modes(control: Control) -> None:
    drawn = [Expert(np.random.default_rng([seed, 1])).mode for seed in range(60)]
    assert min(drawn.count(mode) for mode in HEIGHTS) >= 18
    assert success(Catch(control=control), 60) >= 0.97


def test_a_late_expert_misses() -> None:
    env = Catch()
    assert success(env, 20, delay=4) < 0.5
    assert success(env, 20, delay=8) < 0.2


@pytest.mark.parametrize(("gust_chance", "low", "high"), [(1.0, 0.0, 0.1), (0.0, 0.9, 1.0)])
def test_the_gust_must_be_seen_to_catch_the_ball(gust_chance: float, low: float, high: float) -> None:
    """A cup that waits where the ball would have come down without a gust misses it, and only then."""
    env, caught = Catch(gust_chance=gust_chance), 0
    for seed in range(20):
        env.reset(seed=seed)
        solve_pose(env.model, env.data, expert_in("late")._place(env))
        ended, info = False, {}
        while not ended:
            _, _, terminated, truncated, info = env.step(np.zeros(3))
            ended = terminated or truncated
        caught += info["is_success"]
    assert low <= caught / 20 <= high


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("begun", list(HEIGHTS))
def test_an_expert_asked_in_mid_motion_goes_along(control: Control, begun: str) -> None:
    env = still(control, seed=2)
    ways = {mode: expert_in(mode).act(env)[2] for mode in HEIGHTS}
    assert ways["early"] > 0.1 + ways["late"]  # at rest the two go apart
    for _ in range(4):
        env.advance(expert_in(begun).act(env))
    for mode in HEIGHTS:
        fresh = expert_in(mode)
        imagined = env.imagine()
        for _ in range(15):
            imagined.advance(fresh.act(imagined))
        assert imagined.position[2] == pytest.approx(HEIGHTS[begun], abs=0.05)


@pytest.mark.parametrize("mode", list(HEIGHTS))
def test_the_expert_waits_where_the_ball_comes_down(mode: str) -> None:
    env, expert = still(seed=3), expert_in(mode)
    while env.ball_velocity[2] > 0.0 or env.ball[2] > HEIGHTS[mode] + 0.15:
        env.advance(expert.act(env))
    height, speed = env.ball[2] - HEIGHTS[mode], -env.ball_velocity[2]
    seconds = (math.sqrt(speed**2 + 2 * GRAVITY * height) - speed) / GRAVITY
    landing = env.ball[:2] + seconds * env.ball_velocity[:2]
    assert np.abs(env.position - [*landing, HEIGHTS[mode]]).max() < 0.005


def test_a_caught_ball_earns_about_two() -> None:
    """One for the way of ball and cup towards each other, and one for success."""
    env, expert = still(seed=4), expert_in("early")
    rewards, info = [], {"failure": None, "is_success": False}
    while not info["is_success"]:
        assert info["failure"] is None
        _, reward, _, _, info = env.step(expert.act(env))
        rewards.append(reward)
    assert 1.9 < sum(rewards) < 2.0
