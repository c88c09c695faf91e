"""Peg into a wandering socket: the block's motion, where the peg fits, what counts, and the expert."""

from __future__ import annotations

import mujoco  # pyright: ignore[reportMissingImports]
import numpy as np
import pytest

from envs.arm import CONTROL_HZ, solve_pose
from envs.card import Control
from envs.peg import (
    APART,
    BLOCK_VELOCITY_NOISE,
    CORRELATION_TIME,
    DEPTH,
    HALF_WIDTH,
    MIDDLE,
    PUSH_CHANCE,
    RETURN_RATE,
    TOP,
    Peg,
)
from envs.peg_expert import COMMITTED, Expert

PEG_RADIUS = 0.012
HOLES = np.array([[0.0, APART / 2], [0.0, -APART / 2]])


def still_peg(control: Control = "velocity", tip: tuple[float, float, float] | None = None) -> Peg:
    """No disturbances, the block at rest in the middle; the tip at `tip` (metres) from the left hole."""
    env = Peg(control=control, disturbances=False, block_speed=0.0)
    env.reset(seed=0)
    if tip is not None:
        solve_pose(env.model, env.data, np.array([*(MIDDLE + HOLES[0]), TOP]) + tip)
        mujoco.mj_forward(env.model, env.data)  # pyright: ignore[reportAttributeAccessIssue]
    return env


def touches(env: Peg) -> bool:
    return bool((env.data.contact.geom == env.model.geom("peg").id).any())


def succeeds(env: Peg, seed: int, late: int = 0) -> tuple[bool, str]:
    env.reset(seed=seed)
    expert = env.make_expert(np.random.default_rng([seed, 1]))
    queue = [np.zeros(3)] * late
    while True:
        queue.append(expert.act(env))
        _, _, terminated, truncated, info = env.step(queue.pop(0))
        if terminated or truncated:
            return bool(info["is_success"]), expert.mode


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_peg_fits_into_a_hole_with_5_mm_to_spare_on_every_side(axis: int, sign: float) -> None:
    spare = HALF_WIDTH - PEG_RADIUS
    for beside, expected in ((spare - 5e-4, False), (spare + 5e-4, True)):
        tip = np.array([0.0, 0.0, -0.03])
        tip[axis] = sign * beside
        assert touches(still_peg(tip=tuple(tip))) == expected


def test_beside_the_holes_the_block_ends_at_its_top() -> None:
    assert not touches(still_peg(tip=(0.0, -0.08, 5e-4)))
    assert touches(still_peg(tip=(0.0, -0.08, -5e-4)))


@pytest.mark.parametrize(
    ("beside", "failure"), [(0.0, None), (0.015, None), (0.019, "missed"), (0.08, "missed")]
)
def test_coming_down_beside_the_holes_is_a_miss(beside: float, failure: str | None) -> None:
    env = still_peg(tip=(0.0, -beside, 0.004))
    outcomes = [env.step(np.array([0.0, 0.0, -0.2]))[4]["failure"] for _ in range(8)]
    assert env._touched == (beside > 0.0)
    assert outcomes[-1] == failure


def test_touching_the_side_of_the_block_is_a_miss() -> None:
    env = still_peg(tip=(-0.06, -0.08, -0.03))
    outcomes = [env.step(np.array([0.3, 0.0, 0.0]))[4]["failure"] for _ in range(12)]
    assert "missed" in outcomes


@pytest.mark.parametrize("side", [0, 1])
def test_success_is_a_tenth_of_a_second_deep_in_either_hole(side: int) -> None:
    env = still_peg(tip=(*(HOLES[side] - HOLES[0]), -DEPTH - 0.001))
    ended = [env.step(np.zeros(3))[2] for _ in range(Peg.hold_ticks)]
    assert ended == [False] * (Peg.hold_ticks - 1) + [True]


def test_less_deep_is_no_success() -> None:
    env = still_peg(tip=(0.0, 0.0, -DEPTH + 0.001))
    assert not any(env.step(np.zeros(3))[2] for _ in range(3 * Peg.hold_ticks))


def test_beside_the_block_the_same_height_is_no_success() -> None:
    env = still_peg(tip=(-0.15, 0.0, -DEPTH - 0.01))
    assert not any(env.step(np.zeros(3))[2] for _ in range(3 * Peg.hold_ticks))


def test_the_block_wanders_with_the_documented_speed_about_the_middle() -> None:
    env = Peg(block_speed=0.1)
    env.reset(seed=0)
    velocities, places = np.zeros((2, 20_000, 2))
    for tick in range(len(places)):
        env._move()
        velocities[tick] = env.data.ctrl[env._block_drive]
        env.data.qpos[env._block_q] += velocities[tick] / CONTROL_HZ
        places[tick] = env.data.qpos[env._block_q]
    assert velocities.std() == pytest.approx(0.1, rel=0.1)
    assert places.std() == pytest.approx(0.1 / RETURN_RATE, rel=0.1)
    assert np.abs(places.mean(axis=0)).max() < 0.01


def test_the_block_goes_where_it_is_steered_also_with_the_peg_against_its_wall() -> None:
    env = still_peg(tip=(0.0, 0.0, -0.03))
    env._move = lambda: None  # no spring
    env._steer_block(np.array([0.1, 0.0]))
    for _ in range(25):
        env.step(np.zeros(3))
    assert touches(env)
    assert env.block_velocity == pytest.approx([0.1, 0.0], abs=0.015)
    assert env.position[0] - env.block[0] == pytest.approx(PEG_RADIUS - HALF_WIDTH, abs=0.001)


def test_imagined_the_block_goes_on_as_a_damped_spring() -> None:
    env = Peg()
    env.reset(seed=4)
    place, velocity = env.block - MIDDLE, env.block_velocity
    seconds, decay = 0.4, 0.5 / CORRELATION_TIME
    rate = np.sqrt(RETURN_RATE**2 - decay**2)
    cosine, sine = np.cos(rate * seconds), np.sin(rate * seconds) / rate
    expected = np.exp(-decay * seconds) * (place * cosine + (velocity + decay * place) * sine)
    imagined = env.imagine()
    for _ in range(round(seconds * CONTROL_HZ)):
        imagined.advance(np.zeros(3))
    assert np.linalg.norm(imagined.block - env.block) > 0.006
    assert imagined.block - MIDDLE == pytest.approx(expected, abs=1e-3)


def test_pushes_are_level_and_have_the_documented_size_and_rate() -> None:
    env = Peg(force_noise=0.0, push_impulse=1.5)
    pushes = np.array([env._disturb(env.np_random) for _ in range(10_000)])
    sizes = np.linalg.norm(pushes, axis=1) / CONTROL_HZ
    assert np.all(pushes[:, 2] == 0.0)
    assert (sizes > 0).mean() == pytest.approx(PUSH_CHANCE, rel=0.2)
    assert sizes[sizes > 0] == pytest.approx(1.5)
    white = Peg(force_noise=6.0, push_impulse=0.0)
    forces = np.array([white._disturb(white.np_random) for _ in range(10_000)])
    assert forces.std(axis=0) == pytest.approx(6.0, rel=0.05)


def test_the_observation_is_the_documented_truth_and_the_block_velocity_is_noisy() -> None:
    env = Peg(disturbances=False)
    obs, _ = env.reset(seed=2)
    for _ in range(3):
        obs, *_ = env.step(np.array([0.5, 0.2, -0.3]))
    parts = (env.position, env.velocity, env.block - env.position[:2], env.block_velocity)
    assert obs == pytest.approx(np.concatenate((*parts, env.data.qpos[2:])), abs=1e-6)
    noisy = Peg()
    noisy.reset(seed=2)
    seen = np.array([noisy._observe() for _ in range(2_000)])
    assert seen[:, 8:10].std(axis=0) == pytest.approx(BLOCK_VELOCITY_NOISE, rel=0.1)
    assert seen[:, 8:10].mean(axis=0) == pytest.approx(noisy.block_velocity, abs=0.003)


@pytest.mark.parametrize("control", ["velocity", "position"])
def test_the_expert_succeeds_through_both_holes(control: Control) -> None:
    env = Peg(control=control)
    outcomes, modes = zip(*(succeeds(env, seed) for seed in range(60)), strict=True)
    assert np.mean(outcomes) >= 0.95
    assert 0.3 <= np.mean([mode == "left" for mode in modes]) <= 0.7


def test_an_expert_that_is_six_ticks_late_misses() -> None:
    env = Peg()
    assert np.mean([succeeds(env, seed, late=6)[0] for seed in range(20)]) < 0.5


def test_experts_disagree_until_the_motion_is_committed() -> None:
    left, right = Expert(np.random.default_rng(0)), Expert(np.random.default_rng(0))
    left.side, right.side = 1.0, -1.0
    near = still_peg(tip=(-0.08, -0.08, 0.05))
    assert left.act(near)[1] > 0.2
    assert right.act(near)[1] == pytest.approx(-left.act(near)[1], abs=1e-6)
    committed = still_peg(tip=(-0.04, -0.08 + COMMITTED + 0.005, 0.05))
    assert np.array_equal(left.act(committed), right.act(committed))
