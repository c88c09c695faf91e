"""The expert of "swinging bar": it comes in time for either gap, and goes on when it is too late to stop."""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's names come from compiled modules that tell a type checker nothing.

from __future__ import annotations

from functools import cache

import mujoco
import numpy as np
import pytest
from swinging_bar import place, still

from envs.arm import CONTROL_HZ, JOINTS
from envs.card import Control
from envs.swinging_bar import PERIOD, SWING_RATE, SwingingBar
from envs.swinging_bar_expert import Expert

EPISODES = 60
AMPLITUDE = SwingingBar.card.knobs["amplitude"].default


def throw(env: SwingingBar, velocity: np.ndarray) -> None:
    """Give the load a velocity, without turning it."""
    jacobian = np.zeros((6, env.model.nv))
    mujoco.mj_jacSite(env.model, env.data, jacobian[:3], jacobian[3:], env.model.site("load").id)
    arm = slice(env.model.nv - JOINTS, env.model.nv)
    env.data.qvel[arm] = np.linalg.pinv(jacobian[:, arm]) @ np.concatenate([velocity, np.zeros(3)])
    mujoco.mj_forward(env.model, env.data)


@cache
def episodes(control: Control) -> list[tuple[str, bool, float]]:
    """Of each episode: the expert's mode, its success, and the angle of the bar as the load came through."""
    env, played = SwingingBar(control=control), []
    for seed in range(EPISODES):
        env.reset(seed=seed)
        expert, over, angle, info = Expert(np.random.default_rng([seed, 1])), False, 0.0, {}
        while not over:
            before = env.position[1]
            _, _, terminated, truncated, info = env.step(expert.act(env))
            over = terminated or truncated
            if before < 0.0 <= env.position[1]:
                angle = env.bar[0]
        played.append((expert.mode, info["is_success"], angle))
    return played


@pytest.mark.parametrize("control", ["force", "position"])
def test_the_expert_succeeds_in_58_of_60_disturbed_episodes(control: Control) -> None:
    assert sum(success for _, success, _ in episodes(control)) >= 58


@pytest.mark.parametrize("control", ["force", "position"])
def test_both_gaps_are_used_as_drawn(control: Control) -> None:
    """Binomial bound: 60 fair coins show fewer than 17 of a side once in 4,000 times."""
    leaning = ["bar left" if angle < 0 else "bar right" for _, _, angle in episodes(control)]
    assert 17 <= leaning.count("bar left") <= EPISODES - 17
    agreement = np.mean([used == mode for used, (mode, *_) in zip(leaning, episodes(control), strict=True)])
    assert agreement > 0.85  # the others were pushed into the next gap


@pytest.mark.parametrize("control", ["force", "position"])
def test_the_drawn_side_decides_which_swing_it_is(control: Control) -> None:
    """From one start, an expert of one side takes this swing; one of the other waits half a period longer."""
    arrivals = {}
    for seed in range(4):
        env = still(control)
        place(
            env, np.array([0.48, -0.25, 0.17]), rate=AMPLITUDE * SWING_RATE
        )  # upright, falling to the right
        expert, ticks = Expert(np.random.default_rng(seed)), 0
        while env.position[1] < 0.0 and ticks < 2 * PERIOD * CONTROL_HZ:
            env.step(expert.act(env))
            ticks += 1
        arrivals.setdefault(expert.mode, []).append(ticks / CONTROL_HZ)
    assert len(arrivals) == 2
    wait = np.mean(arrivals["bar left"]) - np.mean(arrivals["bar right"])
    assert wait == pytest.approx(PERIOD / 2, abs=0.08)


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_load_that_cannot_stop_goes_on_and_a_slower_one_turns_back(side: float) -> None:
    """15 cm before the plane, 0.05 s before the bar's extreme, it is too late for that gap."""
    env = still()
    expert = Expert(np.random.default_rng(0))
    expert.side = side
    for speed, goes_on in ((1.0, True), (0.3, False)):
        phase = np.pi / 2 - 0.05 * SWING_RATE
        place(env, np.array([0.48, -0.15, 0.17]), AMPLITUDE * np.sin(phase))
        env.data.qvel[env._bar_v] = AMPLITUDE * SWING_RATE * np.cos(phase)
        throw(env, np.array([0.0, speed, 0.0]))
        assert (expert.act(env)[1] > 0.0) == goes_on
        for _ in range(15):
            failure = env.step(expert.act(env))[4]["failure"]
            assert failure is None
        assert (env.position[1] > 0.05) == goes_on
