"""The expert of "tray": it succeeds, on both sides, and goes along with what is under way."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from envs.card import Control
from envs.tray import Tray
from envs.tray_expert import Expert

CONTROLS: list[Control] = ["force", "position"]
EPISODES = 60


def facing_the_post() -> Tray:
    """A reset env without disturbances, with the post right in the way."""
    env = Tray(disturbances=False)
    env.reset(seed=0)
    env.post = np.array([(env.position[0] + env.goal[0]) / 2, 0.0])
    return env


@cache
def episodes(control: Control) -> list[tuple[dict, float, str]]:
    """Of each expert episode: the last info, the side of passing (+1: larger x), the drawn mode."""
    env, played = Tray(control=control), []
    for seed in range(EPISODES):
        env.reset(seed=seed)
        expert, over, path, info = Expert(np.random.default_rng([seed, 1])), False, [], {}
        while not over:
            action = expert.act(env)
            assert np.abs(action).max() <= 1.0
            _, _, terminated, truncated, info = env.step(action)
            over = terminated or truncated
            path.append(env.position[:2] - env.post)
        beside = min(path, key=lambda offset: abs(offset[1]))
        played.append((info, float(np.sign(beside[0])), expert.mode))
    return played


@pytest.mark.parametrize("control", CONTROLS)
def test_the_expert_carries_nearly_every_ball_round_the_post_on_both_sides(control: Control) -> None:
    """Binomial bound: 60 fair coins show fewer than 15 of a side once in 15,000 times."""
    assert sum(info["is_success"] for info, *_ in episodes(control)) >= 0.97 * EPISODES
    assert 15 <= sum(side > 0 for _, side, _ in episodes(control)) <= 45


def test_the_drawn_side_is_mostly_where_the_tray_passes() -> None:
    """Left, to a tray that moves along +y, is the smaller x; pushes may have it go along on the other one."""
    agreed = [(mode == "left") == (side < 0) for _, side, mode in episodes("force")]
    assert np.mean(agreed) > 0.8


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_an_expert_goes_along_with_a_tray_on_its_way(side: float) -> None:
    """Asked afresh when the tray already moves aside, experts of both minds steer it the same way."""
    env = facing_the_post()
    first = Expert(np.random.default_rng(0))
    first.side, first.decision_distance = side, 0.5
    for _ in range(25):
        env.step(first.act(env))
    assert side * env.velocity[0] < -0.05
    actions = []
    for mind in (1.0, -1.0):
        expert = Expert(np.random.default_rng(0))
        expert.side = mind
        actions.append(expert.act(env))
    assert np.array_equal(*actions)


def test_the_side_is_a_free_choice_at_the_start() -> None:
    env = facing_the_post()
    forces = []
    for mind in (1.0, -1.0):
        expert = Expert(np.random.default_rng(0))
        expert.side, expert.decision_distance = mind, 0.5
        forces.append(expert.act(env)[0])
    assert forces[0] < -0.1 < 0.1 < forces[1]
