"""The expert of "reach past a post": it succeeds, on both sides, and keeps its choice to itself."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from envs.card import Control
from envs.reach_past_post import ReachPastPost
from envs.reach_past_post_expert import Expert

EPISODES = 100
POST_AND_LOAD = 0.04 + 0.035  # metres between the axes when they touch


@cache
def episodes(control: Control) -> list[tuple[dict, float, float]]:
    """Of each episode: the last info, the side of passing (+1: larger x), the closest distance."""
    env, played = ReachPastPost(control=control), []
    for seed in range(EPISODES):
        env.reset(seed=seed)
        expert, over, path, info = Expert(np.random.default_rng([seed, 1])), False, [], {}
        while not over:
            _, _, terminated, truncated, info = env.step(expert.act(env))
            over = terminated or truncated
            path.append(env.position[:2] - env.post)
        beside = min(path, key=lambda offset: abs(offset[1]))
        played.append((info, float(np.sign(beside[0])), min(np.linalg.norm(path, axis=1))))
    return played


@pytest.mark.parametrize("control", ["force", "position"])
def test_the_expert_succeeds_in_95_of_100_disturbed_episodes(control: Control) -> None:
    assert sum(info["is_success"] for info, *_ in episodes(control)) >= 95


@pytest.mark.parametrize("control", ["force", "position"])
def test_success_is_without_touching_the_post(control: Control) -> None:
    for info, _, distance in episodes(control):
        if info["is_success"]:
            assert info["failure"] is None
            assert distance > POST_AND_LOAD


@pytest.mark.parametrize("control", ["force", "position"])
def test_both_sides_are_used(control: Control) -> None:
    """Binomial bound: 100 fair coins show fewer than 30 of a side once in 30,000 times."""
    left = sum(side > 0 for _, side, _ in episodes(control))
    assert 30 <= left <= 70


def test_from_one_start_the_drawn_side_decides() -> None:
    sides = set()
    for seed in range(6):
        env = ReachPastPost(disturbances=False)
        env.reset(seed=3)
        env.post[0] = (env.position[0] + env.goal[0]) / 2  # in the way
        env._place()
        expert, beside = Expert(np.random.default_rng(seed)), 0.0
        while env.position[1] < env.post[1] + 0.05:
            env.step(expert.act(env))
            if abs(env.position[1] - env.post[1]) < 0.02:
                beside = env.position[0] - env.post[0]
        assert np.sign(beside) == -expert.side  # left of a load that moves along +y is the smaller x
        sides.add(np.sign(beside))
    assert sides == {1.0, -1.0}


def test_an_action_depends_on_the_true_state_only() -> None:
    env = ReachPastPost()
    env.reset(seed=0)
    expert = Expert(np.random.default_rng(0))
    before = env.np_random.bit_generator.state
    assert np.array_equal(expert.act(env), expert.act(env))
    assert np.array_equal(expert.act(env), expert.act(env.imagine()))
    assert env.np_random.bit_generator.state == before


def test_actions_are_within_limits() -> None:
    env = ReachPastPost()
    for seed in range(5):
        env.reset(seed=seed)
        expert = Expert(np.random.default_rng(seed))
        for _ in range(30):
            action = expert.act(env)
            assert np.abs(action).max() <= 1.0
            env.step(action)
