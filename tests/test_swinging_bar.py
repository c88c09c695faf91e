"""Swinging bar: how the bar swings and what it bars, what counts, what is seen and what disturbs."""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's names come from compiled modules that tell a type checker nothing.

from __future__ import annotations

import numpy as np
import pytest
from swinging_bar import place, still

from envs.arm import CONTROL_HZ, JOINTS, solve_pose
from envs.card import Control
from envs.swinging_bar import (
    ANGLE_NOISE,
    AXLE,
    BAR_INERTIA,
    GOAL_RADIUS,
    PERIOD,
    PUSH_CHANCE,
    RATE_NOISE,
    SWING_RATE,
    SwingingBar,
)
from envs.swinging_bar_expert import Expert
from rtc.errors import InvalidArgument

AMPLITUDE = SwingingBar.card.knobs["amplitude"].default
AXLE_HEIGHT, BAR_START, BAR_END, REACH_OF_TOUCH = 0.02, 0.03, 0.36, 0.022 + 0.035  # metres; the radii of both
LANE = (0.37 + 0.035, 0.63 - 0.035)  # x of a load's centre between the walls, metres


def touching(env: SwingingBar) -> set[str]:
    """The names of what touches anything now."""
    return {env.model.geom(geom).name for geom in env.data.contact.geom.ravel()}


def reachable(env: SwingingBar, position: np.ndarray) -> bool:
    """Whether the arm can hold its load there within the limits of its joints."""
    try:
        solve_pose(env.model, env.data, position)
    except InvalidArgument:
        return False
    joint = int(env.model.joint("joint1").id)
    low, high = env.model.jnt_range[joint : joint + JOINTS].T
    angles = env.data.qpos[env._arm_q]
    return bool(((low <= angles) & (angles <= high)).all())


def distance_to_bar(x: float, z: float, angle: float) -> float:
    """Metres from a point in the plane y = 0 to the middle line of the bar."""
    point, along = np.array([x - AXLE, z - AXLE_HEIGHT]), np.array([np.sin(angle), np.cos(angle)])
    return float(np.linalg.norm(point - np.clip(point @ along, BAR_START, BAR_END) * along))


# The bar


def test_the_bar_swings_as_a_sine_of_the_documented_period() -> None:
    env = still()
    assert env.model.joint("bar").stiffness[0] == pytest.approx(BAR_INERTIA * SWING_RATE**2, rel=1e-6)
    place(env, np.array([0.5, -0.36, 0.2]), angle=AMPLITUDE)
    for tick in range(1, round(PERIOD * CONTROL_HZ) + 1):
        env.advance(np.zeros(3))
        phase = SWING_RATE * tick / CONTROL_HZ
        assert env.bar[0] == pytest.approx(AMPLITUDE * np.cos(phase), abs=0.01)
        assert env.bar[1] == pytest.approx(-AMPLITUDE * SWING_RATE * np.sin(phase), abs=0.05)


@pytest.mark.parametrize("factor", [0.5, 1.4])
def test_the_motor_brings_the_swing_back_to_its_amplitude(factor: float) -> None:
    env = still(amplitude=0.7)
    place(env, np.array([0.5, -0.36, 0.2]), angle=factor * 0.7)
    for _ in range(4 * round(PERIOD * CONTROL_HZ)):
        env.advance(np.zeros(3))
    angle, rate = env.bar
    assert np.hypot(angle, rate / SWING_RATE) == pytest.approx(0.7, rel=0.03)


def test_every_swing_starts_at_the_amplitude_and_in_any_phase() -> None:
    env, phases = SwingingBar(amplitude=1.1), []
    for seed in range(40):
        env.reset(seed=seed)
        angle, rate = env.bar
        assert np.hypot(angle, rate / SWING_RATE) == pytest.approx(1.1)
        phases.append(np.arctan2(SWING_RATE * angle, rate))
    assert np.histogram(phases, 4, (-np.pi, np.pi))[0].min() > 0


def test_an_imagined_bar_is_not_jolted() -> None:
    env = SwingingBar()
    env.reset(seed=1)
    angle, rate = env.bar
    phase = np.arctan2(SWING_RATE * angle, rate)
    imagined = env.imagine()
    for tick in range(1, 17):
        imagined.advance(np.zeros(3))
        expected = AMPLITUDE * np.sin(phase + SWING_RATE * tick / CONTROL_HZ)
        assert imagined.bar[0] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(("x", "z"), [(0.5, 0.15), (0.47, 0.18), (0.54, 0.2), (0.42, 0.12)])
def test_load_and_bar_touch_when_their_radii_say_so(x: float, z: float) -> None:
    env = still()
    for angle in np.linspace(-1.2, 1.2, 49):
        place(env, np.array([x, 0.0, z]), angle=float(angle))
        gap = distance_to_bar(x, z, float(angle)) - REACH_OF_TOUCH
        touched = "load" in touching(env)
        assert touched == (gap < 0.0) or abs(gap) < 1e-3


def test_the_bar_sweeps_every_place_of_the_lane() -> None:
    angles = np.linspace(-AMPLITUDE, AMPLITUDE, 101)
    for x in np.linspace(*LANE, 11):
        for z in np.linspace(0.04, 0.38, 18):
            closest = min(distance_to_bar(float(x), float(z), float(angle)) for angle in angles)
            assert closest < REACH_OF_TOUCH


def test_there_is_no_way_round_the_walls() -> None:
    env = still()
    for x in (LANE[0] - 0.01, 0.3, LANE[1] + 0.01, 0.7):
        place(env, np.array([x, 0.05, 0.15]), angle=AMPLITUDE if x < AXLE else -AMPLITUDE)
        assert touching(env) >= {"load", "wall left" if x < AXLE else "wall right"}
    for x, z in (
        (0.065, 0.1),
        (0.065, 0.2),
        (0.905, 0.1),
        (0.905, 0.2),
        (0.905, 0.3),
    ):  # and higher is the base
        assert not reachable(env, np.array([x, 0.05, z]))
    assert reachable(env, np.array([AXLE, 0.05, 0.15]))


# What counts


@pytest.mark.parametrize("control", ["force", "position"])
def test_a_bar_that_meets_the_load_ends_the_episode(control: Control) -> None:
    env = still(control)
    place(env, np.array([0.5, 0.0, 0.17]), angle=-AMPLITUDE)
    hold = env.drive.action(np.array([0.5, 0.0, 0.17])) if control == "position" else np.zeros(3)
    over, ticks, reward, info = False, 0, 0.0, {}
    while not over:
        _, reward, over, _, info = env.step(hold)
        ticks += 1
    assert info["failure"] == "collision"
    assert not info["is_success"]
    assert -1.1 < reward < -0.9
    assert ticks / CONTROL_HZ < PERIOD / 4  # before the bar is upright: the load and the bar have width


@pytest.mark.parametrize(("distance", "ends"), [(GOAL_RADIUS - 0.002, True), (GOAL_RADIUS + 0.002, False)])
def test_success_is_ten_ticks_within_the_radius(distance: float, ends: bool) -> None:
    env = still()
    place(env, env.goal + np.array([0.0, distance, 0.0]), angle=AMPLITUDE)
    outcomes = [env.step(np.zeros(3))[4]["is_success"] for _ in range(SwingingBar.hold_ticks)]
    assert outcomes == [False] * (SwingingBar.hold_ticks - 1) + [ends]


def test_success_needs_ticks_in_a_row() -> None:
    env = still()
    for ticks in (SwingingBar.hold_ticks - 1, SwingingBar.hold_ticks - 1):
        place(env, env.goal, angle=AMPLITUDE)
        assert not any(env.step(np.zeros(3))[2] for _ in range(ticks))
        place(env, env.goal + np.array([0.0, 0.1, 0.0]), angle=AMPLITUDE)
        assert not env.step(np.zeros(3))[2]


def test_the_progress_of_an_episode_is_one() -> None:
    env = SwingingBar()
    env.reset(seed=0)
    expert, over, total, info = Expert(np.random.default_rng(0)), False, 0.0, {}
    while not over:
        _, reward, terminated, truncated, info = env.step(expert.act(env))
        over, total = terminated or truncated, total + reward
    assert info["is_success"]
    assert total == pytest.approx(2.0, abs=0.1)  # progress and success


# What is seen, and what disturbs


def test_without_noise_the_observation_is_the_truth_in_order() -> None:
    env = still()
    for _ in range(5):
        env.step(np.array([0.2, 0.3, -0.1]))
    obs = env.step(np.array([0.2, 0.3, -0.1]))[0]
    truth = (env.position, env.velocity, env.goal - env.position, env.bar, env.data.qpos[env._arm_q])
    np.testing.assert_allclose(obs, np.concatenate(truth), atol=1e-6)
    assert [sensor.size for sensor in env.card.sensors] == [3, 3, 3, 1, 1, 7]


def test_noise_of_the_bar_s_sensors_is_as_documented() -> None:
    env = SwingingBar()
    env.reset(seed=0)
    seen = np.array([env._observe()[9:11] for _ in range(2000)])
    np.testing.assert_allclose(seen.mean(0), env.bar, atol=0.01)
    np.testing.assert_allclose(seen.std(0), [ANGLE_NOISE, RATE_NOISE], rtol=0.06)


def test_pushes_and_jolts_have_the_documented_size() -> None:
    env = SwingingBar(force_noise=0.0, push_impulse=2.0, bar_noise=0.3)
    env.reset(seed=0)
    rates, pushes = [env.bar[1]], []
    for _ in range(4000):
        pushes.append(np.linalg.norm(env._disturb(env.np_random)))
        rates.append(env.bar[1])
    pushes = np.array(pushes)
    np.testing.assert_allclose(pushes[pushes > 0], 2.0 * CONTROL_HZ)
    assert np.mean(pushes > 0) == pytest.approx(PUSH_CHANCE, abs=0.01)
    assert np.diff(rates).std() == pytest.approx(0.3, rel=0.05)
    env = SwingingBar(push_impulse=0.0)
    env.reset(seed=0)
    white = np.array([env._disturb(env.np_random) for _ in range(4000)])
    np.testing.assert_allclose(white.std(0), env.knobs["force_noise"], rtol=0.05)


def test_zero_force_drifts_and_a_held_place_does_not() -> None:
    drift = {}
    for control in ("force", "position"):
        env = SwingingBar(control=control)
        moved = []
        for seed in range(10):
            env.reset(seed=seed)
            start = env.position
            hold = env.drive.action(start) if control == "position" else np.zeros(3)
            for _ in range(40):
                env.advance(hold)
            moved.append(np.linalg.norm(env.position - start))
        drift[control] = np.mean(moved)
    assert drift["position"] < 0.02 < 0.04 < drift["force"]
