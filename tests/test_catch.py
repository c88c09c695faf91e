"""Catch: how the ball flies, what a gust does to it, what counts as caught, and that the expert does it."""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's names come from compiled modules that tell a type checker nothing.

from __future__ import annotations

import math

import mujoco
import numpy as np
import pytest

from envs.arm import CONTROL_HZ, JOINTS, PHYSICS_HZ, Vector, solve_pose
from envs.card import Control
from envs.catch import (
    BALL_RADIUS,
    BALL_VELOCITY_NOISE,
    CUP_DEPTH,
    CUP_RADIUS,
    DROPPED,
    GRAVITY,
    GUST_TICKS,
    MIDDLE,
    Catch,
)
from envs.task import JOINT_NOISE, POSITION_NOISE, VELOCITY_NOISE

CONTROLS: list[Control] = ["velocity", "position"]
AWAY = np.array([1.5, 1.0, 2.0])  # metres: a place for the ball where it meets nothing


def still(control: Control = "velocity", seed: int = 0) -> Catch:
    """A reset env without disturbances."""
    env = Catch(control=control, disturbances=False)
    env.reset(seed=seed)
    return env


def place_ball(env: Catch, position: Vector, velocity: Vector | None = None) -> None:
    """Put the ball where it is wanted, at rest unless `velocity` says otherwise."""
    env.data.qpos[env._ball_q : env._ball_q + 3] = position
    env.data.qvel[env._ball_v : env._ball_v + 6] = 0.0
    if velocity is not None:
        env.data.qvel[env._ball_v : env._ball_v + 3] = velocity
    mujoco.mj_forward(env.model, env.data)


def place_cup(env: Catch, position: Vector) -> None:
    """Put the mouth of the cup, at rest, where it is wanted."""
    solve_pose(env.model, env.data, position)
    env.data.qvel[-JOINTS:] = 0.0
    mujoco.mj_forward(env.model, env.data)


def tick(env: Catch) -> dict:
    """One tick of a cup that does not move, and what became of it."""
    return env.step(np.zeros(3))[4]


@pytest.mark.parametrize("seed", range(3))
def test_a_throw_is_a_parabola_through_its_aim(seed: int) -> None:
    """MuJoCo's step adds the velocity of the step's end: z falls by g dt^2 n (n + 1) / 2 in n steps."""
    env = still(seed=seed)
    start, velocity = env.ball, env.ball_velocity
    forward = velocity[:2] / np.linalg.norm(velocity[:2])
    seconds = (velocity[2] + math.sqrt(velocity[2] ** 2 + 2 * GRAVITY * (start[2] - MIDDLE))) / GRAVITY
    aim = start[:2] + seconds * velocity[:2]
    assert 0.75 <= seconds <= 0.95
    assert 1.2 <= np.linalg.norm(aim - start[:2]) <= 1.8
    assert -forward[0] > math.cos(math.radians(50))
    assert np.all(aim >= [0.58, -0.18])
    assert np.all(aim <= [0.70, 0.18])
    place_cup(env, np.array([0.5, 0.4, 0.3]))  # out of its way
    for count in range(1, round(0.7 * CONTROL_HZ)):
        tick(env)
        steps, step = count * PHYSICS_HZ // CONTROL_HZ, 1 / PHYSICS_HZ
        fallen = GRAVITY * step**2 * steps * (steps + 1) / 2
        expected = start + steps * step * velocity - [0.0, 0.0, fallen]
        assert np.abs(env.ball - expected).max() < 1e-9


def test_gusts_have_the_documented_size_share_and_time() -> None:
    env = Catch()
    gusts, shares = [], []
    for seed in range(250):
        env.reset(seed=seed)
        size, flight = float(np.linalg.norm(env._gust)), env.ball_velocity[:2]
        gusts.append(size)
        assert abs(env._gust[:2] @ flight) < 1e-9  # sideways
        assert env._gust[2] == 0.0
        fall = env.ball_velocity[2]
        seconds = (fall + math.sqrt(fall**2 + 2 * GRAVITY * (env.ball[2] - MIDDLE))) / GRAVITY
        shares.append(env._gust_tick / CONTROL_HZ / seconds)
    met = np.array(gusts) > 0
    largest, chance = env.knobs["gust"], env.knobs["gust_chance"]
    assert abs(met.mean() - chance) < 5 * math.sqrt(chance * (1 - chance) / 250)
    assert 0.5 * largest <= np.array(gusts)[met].min() < 0.55 * largest
    assert 0.95 * largest < np.array(gusts)[met].max() <= largest
    rounding = 0.5 / CONTROL_HZ / 0.75
    assert 0.3 - rounding <= min(shares) < max(shares) <= 0.5 + rounding


def test_a_gust_turns_the_ball_by_its_size_and_is_over_after_80_ms() -> None:
    env = Catch(gust_chance=1.0)
    env.reset(seed=0)
    place_cup(env, np.array([0.5, 0.4, 0.3]))
    before = env.ball_velocity[:2]
    turned = []
    for _ in range(env._gust_tick + GUST_TICKS + 3):
        tick(env)
        turned.append(env.ball_velocity[:2] - before)
    start = env._gust_tick
    assert np.abs(turned[:start]).max() < 1e-9
    assert np.allclose(turned[start], env._gust[:2] / GUST_TICKS)
    assert np.allclose(turned[start + GUST_TICKS - 1 :], env._gust[:2])


def test_nobody_foresees_a_gust_not_even_one_that_has_begun() -> None:
    env = Catch(gust_chance=1.0)
    env.reset(seed=0)
    for ahead in (2, -2):  # ticks until the gust
        while env._tick < env._gust_tick - ahead:
            tick(env)
        imagined, before = env.imagine(), env.ball_velocity[:2]
        for _ in range(6):
            imagined.advance(np.zeros(3))
        assert np.array_equal(imagined.ball_velocity[:2], before)


def test_a_ball_that_falls_from_any_throw_s_height_stays_in_the_cup() -> None:
    """It comes to rest on the floor of the cup: as deep as the constants that XML and Python share say."""
    env = still()
    for aside in (0.0, 0.02):
        env.reset(seed=0)
        place_ball(env, env.position + np.array([aside, aside, 0.1]), np.array([0.0, 0.0, -5.0]))
        for _ in range(CONTROL_HZ):
            assert env.ball[2] - env.position[2] < 0.11
            env.advance(np.zeros(3))
        offset = env.ball - env.position
        assert offset[2] == pytest.approx(BALL_RADIUS - CUP_DEPTH, abs=1e-3)
        assert np.hypot(*offset[:2]) < (CUP_RADIUS - BALL_RADIUS) / math.cos(math.pi / 8) + 1e-3


def test_the_wall_and_the_rim_are_solid() -> None:
    env = still()
    place_ball(env, env.position + np.array([0.15, 0.0, -0.03]), np.array([-3.0, 0.0, 0.0]))  # from outside
    for _ in range(10):
        env.advance(np.zeros(3))
        assert env.ball[0] - env.position[0] > CUP_RADIUS + BALL_RADIUS
    env.reset(seed=0)
    place_ball(
        env, env.position + np.array([0.0, CUP_RADIUS + 0.005, 0.1]), np.array([0.0, 0.0, -3.0])
    )  # on the rim
    lowest = BALL_RADIUS
    for _ in range(3 * PHYSICS_HZ // CONTROL_HZ):
        mujoco.mj_step(env.model, env.data)
        lowest = min(lowest, float(env.ball[2] - env.position[2]))
    assert lowest > 0.5 * BALL_RADIUS


def test_the_ball_meets_the_arm() -> None:
    env = still()
    hand = env.data.xpos[env.model.body("link7").id]
    place_ball(env, hand + np.array([0.5, 0.0, -0.05]), np.array([-5.0, 0.0, 0.0]))
    assert any((env.advance(np.zeros(3)), env.ball_velocity[0] > -2.0)[1] for _ in range(8))
    assert env.ball[0] > hand[0]


def test_success_needs_ten_ticks_in_a_row_in_the_cup() -> None:
    env = still()
    for _ in range(2):
        place_ball(env, env.position - np.array([0.0, 0.0, 0.045]))
        assert not any(tick(env)["is_success"] for _ in range(Catch.hold_ticks - 1))
        place_ball(env, AWAY)
        assert not tick(env)["is_success"]
    place_ball(env, env.position - np.array([0.0, 0.0, 0.045]))
    rewards = [env.step(np.zeros(3))[1] for _ in range(Catch.hold_ticks - 1)]
    _, reward, terminated, _, info = env.step(np.zeros(3))
    assert terminated
    assert info["is_success"]
    assert max(rewards[1:]) < 0.1  # the first one is for bringing the ball here
    assert 0.9 < reward < 1.1


@pytest.mark.parametrize(
    ("offset", "caught"),
    [
        ((0.99 * CUP_RADIUS, 0.0, -0.01), True),
        ((1.01 * CUP_RADIUS, 0.0, -0.01), False),
        ((0.0, 0.99 * CUP_RADIUS, -0.01), True),
        ((0.0, 0.0, 0.001), False),
        ((0.0, 0.0, 0.01 - CUP_DEPTH), True),
        ((0.0, 0.0, -0.01 - CUP_DEPTH), False),
    ],
)
def test_the_cup_ends_at_its_wall_mouth_and_floor(offset: tuple, caught: bool) -> None:
    env = still()
    place_ball(env, env.position + np.array(offset))
    assert env.caught is caught


def test_a_ball_is_dropped_where_it_can_no_longer_be_caught() -> None:
    env = still()
    fall = GRAVITY * (1 / PHYSICS_HZ) ** 2 * 10 * 11 / 2  # in one tick, from rest
    place_ball(env, np.array([1.2, 0.8, DROPPED + fall + 0.001]))  # beside the table
    assert tick(env)["failure"] is None
    env.reset(seed=0)
    place_ball(env, np.array([1.2, 0.8, DROPPED + fall - 0.001]))
    _, reward, terminated, _, info = env.step(np.zeros(3))
    assert terminated
    assert (info["failure"], info["is_success"]) == ("dropped", False)
    assert reward < -0.5
    env.reset(seed=0)
    place_cup(env, np.array([0.6, 0.0, 0.09]))
    place_ball(env, env.position - np.array([0.0, 0.0, 0.045]))
    ends = [tick(env) for _ in range(Catch.hold_ticks)]  # lower than that, but in the cup
    assert env.ball[2] < DROPPED
    assert [end["failure"] for end in ends] == [None] * Catch.hold_ticks
    assert ends[-1]["is_success"]


def test_a_ball_on_the_table_is_dropped() -> None:
    env = still()
    place_ball(env, np.array([0.7, 0.4, 0.2]))
    ends = [tick(env)["failure"] for _ in range(20)]
    assert "dropped" in ends
    assert env.ball[2] == pytest.approx(BALL_RADIUS, abs=5e-3)  # and the table bears it


def test_without_disturbances_the_observation_is_the_truth_in_the_documented_order() -> None:
    env = still(seed=8)
    obs = env.step(np.array([0.3, -0.2, 0.1]))[0]
    position = env.position
    truth = [position, env.velocity, env.ball - position, env.ball_velocity, env.data.qpos[7:]]
    assert np.array_equal(obs, np.concatenate(truth).astype(np.float32))


def test_noise_has_the_documented_size() -> None:
    env = Catch()
    env.reset(seed=0)
    seen = np.stack([env._observe() for _ in range(1500)])
    truth = [env.position, env.velocity, env.ball - env.position, env.ball_velocity, env.data.qpos[7:]]
    error = seen - np.concatenate(truth)
    sizes = [POSITION_NOISE, VELOCITY_NOISE, POSITION_NOISE, BALL_VELOCITY_NOISE, JOINT_NOISE]
    expected = np.repeat(sizes, [3, 3, 3, 3, 7])
    assert [sensor.noise for sensor in env.card.sensors] == sizes
    # a standard deviation from n draws errs by 1 / sqrt(2 n), a mean by 1 / sqrt(n), of the deviation
    assert np.abs(error.std(0) / expected - 1).max() < 5 / math.sqrt(2 * 1500)
    assert np.abs(error.mean(0) / expected).max() < 5 / math.sqrt(1500)
    forces = np.stack([env._disturb(env.np_random) for _ in range(2000)])
    assert abs(forces.std() / env.knobs["force_noise"] - 1) < 5 / math.sqrt(2 * forces.size)
