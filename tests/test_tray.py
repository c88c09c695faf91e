"""Tray: how a ball rolls on it, what counts, and how large the disturbances are."""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's names come from compiled modules that tell a type checker nothing.

from __future__ import annotations

import math

import mujoco
import numpy as np
import pytest

from envs.arm import CONTROL_HZ, PHYSICS_HZ, solve_pose
from envs.card import Control
from envs.task import POSITION_NOISE, VELOCITY_NOISE
from envs.tray import (
    BALL_RADIUS,
    EVENT_CHANCE,
    GOAL_RADIUS,
    LIFT,
    SLOW,
    TILT_LIMIT,
    TILT_NOISE,
    TILT_RATE_NOISE,
    TRAY_RADIUS,
    Tray,
)
from envs.tray_expert import Expert

GRAVITY = 9.81


def still(control: Control = "force", seed: int = 0) -> Tray:
    """A reset env without disturbances."""
    env = Tray(control=control, disturbances=False)
    env.reset(seed=seed)
    return env


def place(env: Tray, tray: np.ndarray, ball: tuple[float, ...] = (0.0, 0.0, BALL_RADIUS)) -> None:
    """Put the tray and the ball on it, both at rest, where they are wanted."""
    solve_pose(env.model, env.data, tray)
    env.data.qpos[env._ball_q : env._ball_q + 3] = tray + np.array(ball)
    env.data.qvel[:] = 0.0
    mujoco.mj_forward(env.model, env.data)


def push_ball(env: Tray, speed: tuple[float, float]) -> None:
    """Let the ball roll on the tray at `speed`, without slipping; its axes must still be the world's."""
    velocity = env.data.qvel[env._ball_v : env._ball_v + 6]
    velocity[:2] = speed
    velocity[3:5] = -speed[1] / BALL_RADIUS, speed[0] / BALL_RADIUS
    mujoco.mj_forward(env.model, env.data)


def level(env: Tray) -> np.ndarray:
    """The ball's speed on the tray less what the turning of the tray adds at the height of its centre."""
    _, speed, _, rate = env.ball()
    return speed[:2] + BALL_RADIUS * np.array([rate[1], -rate[0]])


def test_a_tray_that_leans_and_swings_rolls_the_ball_by_five_sevenths_of_both() -> None:
    """It gains 5/7 of (g slope - the tray's acceleration), here integrated over 0.2 s.

    Its centre is a radius above the face: to the tray's axes, which still turn, it moves by that much more.
    """
    for roll, pitch in ((0.0, 0.4), (0.4, 0.0), (-0.3, 0.2)):
        env = still()
        place(env, np.array([0.5, -0.3, 0.2]))
        action = np.array([0.0, 0.0, 0.0, roll, pitch])
        for _ in range(8):  # until the tray has nearly stopped turning
            env.advance(action)
        start, velocity, gained = level(env), env.velocity[:2], np.zeros(2)
        for _ in range(10):
            before = env.ball()[2]
            env.advance(action)
            tilt = (before + env.ball()[2]) / 2
            gained += GRAVITY * np.array([tilt[1], -tilt[0]]) / CONTROL_HZ
        gained -= env.velocity[:2] - velocity
        rolled = level(env) - start
        assert math.hypot(*env.ball()[0][:2]) < TRAY_RADIUS
        assert np.linalg.norm(rolled) > 0.1
        assert np.linalg.norm(rolled - 5 / 7 * gained) < 0.02 * np.linalg.norm(rolled)


def test_tilt_targets_are_what_the_tray_turns_to() -> None:
    """A positive roll lowers the side of -y, a positive pitch the side of +x; the ball then goes there."""
    for number, axis, sign in ((3, 1, -1.0), (4, 0, 1.0)):
        env, action = still(), np.zeros(5)
        action[number] = 0.4
        for _ in range(18):
            env.advance(action)
        place_, speed, tilt, _ = env.ball()
        assert abs(tilt[number - 3] / (0.4 * TILT_LIMIT) - 1) < 0.15
        assert abs(tilt[4 - number]) < 0.02
        assert sign * speed[axis] > 0.1
        assert abs(speed[1 - axis]) < 0.05
        assert env.data.site_xmat[env._load_site].reshape(3, 3)[2, axis] * sign < -0.1  # that side is lower
        assert sign * place_[axis] > 0.01


def test_the_balls_velocity_is_the_rate_of_its_place() -> None:
    """Central differences over physics steps of a tray that moves, turns and is kicked under it."""
    env = still()
    expert = Expert(np.random.default_rng(0))
    for _ in range(20):
        env.step(expert.act(env) + np.array([0.2, -0.1, 0.0, 0.3, -0.3]))
    places, tilts, seen = [], [], []
    for _ in range(3):
        mujoco.mj_step(env.model, env.data)
        mujoco.mj_kinematics(env.model, env.data)
        mujoco.mj_comPos(env.model, env.data)
        mujoco.mj_comVel(env.model, env.data)
        ball, speed, tilt, rate = env.ball()
        places.append(ball)
        tilts.append(tilt)
        seen.append((speed, rate))
    speed, rate = seen[1]
    assert np.linalg.norm(rate) > 0.05
    assert np.abs((places[2] - places[0]) * PHYSICS_HZ / 2 - speed).max() < 0.01
    assert np.abs((tilts[2] - tilts[0]) * PHYSICS_HZ / 2 - rate).max() < 0.05


def test_what_is_drawn_is_what_counts() -> None:
    model = still().model
    assert model.geom("tray").size[0] == TRAY_RADIUS
    assert model.geom("ball").size[0] == BALL_RADIUS
    assert model.geom("goal").size[0] == GOAL_RADIUS
    # as the card says in words
    assert (GOAL_RADIUS, SLOW, Tray.hold_ticks, LIFT, EVENT_CHANCE) == (0.05, 0.2, 10, 0.01, 0.02)


def test_the_ball_starts_at_rest_on_the_tray() -> None:
    for seed in range(5):
        env = still(seed=seed)
        for _ in range(10):
            _, _, terminated, _, _ = env.step(np.zeros(5))
            assert not terminated
        ball, speed, _, _ = env.ball()
        assert abs(ball[2] - BALL_RADIUS) < 0.001  # how deep its weight presses it in
        assert np.linalg.norm(ball[:2]) < 0.02
        assert np.linalg.norm(speed) < 0.02


@pytest.mark.parametrize(("radius", "dropped"), [(0.97, False), (1.03, True)])
def test_the_ball_is_dropped_where_the_tray_ends(radius: float, dropped: bool) -> None:
    env = still()
    away = radius * TRAY_RADIUS
    place(env, np.array([0.5, -0.3, 0.2]), (0.8 * away, -0.6 * away, BALL_RADIUS))
    _, reward, terminated, _, info = env.step(np.zeros(5))
    assert terminated is dropped
    assert info["failure"] == ("dropped" if dropped else None)
    assert (reward < -0.9) is dropped


@pytest.mark.parametrize(("height", "dropped"), [(0.5, False), (3.0, True)])
def test_a_ball_in_the_air_is_dropped(height: float, dropped: bool) -> None:
    env = still()
    place(env, np.array([0.5, -0.3, 0.2]), (0.0, 0.0, BALL_RADIUS + height * LIFT))
    assert (env.step(np.zeros(5))[4]["failure"] == "dropped") is dropped


def test_success_is_to_stop_at_the_goal_for_the_time_it_takes() -> None:
    env = still()
    place(env, env.goal)
    ends = [env.step(np.zeros(5)) for _ in range(Tray.hold_ticks)]
    assert [end[2] for end in ends] == [False] * (Tray.hold_ticks - 1) + [True]
    assert ends[-1][4]["is_success"]
    assert ends[-1][1] > 0.9


@pytest.mark.parametrize(("distance", "held"), [(0.97, True), (1.03, False)])
def test_the_goal_ends_at_its_radius(distance: float, held: bool) -> None:
    env = still("position")
    tray = env.goal - distance * GOAL_RADIUS * np.array([0.6, 0.8, 0.0])
    place(env, tray)
    hold = np.append(env.drive.action(np.append(tray, [0.0, 0.0]))[:3], [0.0, 0.0])
    assert any(env.step(hold)[2] for _ in range(Tray.hold_ticks)) is held


@pytest.mark.parametrize(("speed", "counted"), [(0.9 * SLOW, True), (1.15 * SLOW, False)])
def test_a_fast_ball_does_not_count(speed: float, counted: bool) -> None:
    env = still()
    place(env, env.goal)
    push_ball(env, (0.0, speed))
    env.step(np.zeros(5))
    assert (env._held == 1) is counted


@pytest.mark.parametrize(("speed", "counted"), [(0.9 * SLOW, True), (1.2 * SLOW, False)])
def test_a_fast_tray_does_not_count(speed: float, counted: bool) -> None:
    """With the ball on it as fast."""
    env = still()
    place(env, env.goal)
    jacobian = np.zeros((6, env.model.nv))
    mujoco.mj_jacSite(env.model, env.data, jacobian[:3], jacobian[3:], env._load_site)
    env.data.qvel[:] = np.linalg.pinv(jacobian) @ np.array([0.0, speed, 0.0, 0.0, 0.0, 0.0])
    push_ball(env, (0.0, speed))
    env.step(np.zeros(5))
    assert (env._held == 1) is counted


@pytest.mark.parametrize(("gap", "touches"), [(-0.003, True), (0.003, False)])
@pytest.mark.parametrize("bearing", [0.5, 1.6, -1.6])
def test_the_edge_of_the_tray_touches_the_post(gap: float, touches: bool, bearing: float) -> None:
    env = still()
    radii = TRAY_RADIUS + env.model.geom("post").size[0]
    tray = np.array([0.5, 0.0, 0.2])
    env.post = tray[:2] + (radii + gap) * np.array([math.cos(bearing), math.sin(bearing)])
    env._mocap("post", np.array([*env.post, 0.0]))
    place(env, tray)
    assert (env.step(np.zeros(5))[4]["failure"] == "collision") is touches


def test_the_bracket_the_ball_and_the_wrist_touch_the_post() -> None:
    env = still()
    tray, post = np.array([0.5, 0.0, 0.2]), env.model.geom("post").id
    wrist = env.data.xpos[env.model.body("link6").id] - env.position + tray
    for spot, base in (
        (tray - [0.11, 0.0, 0.0], 0.0),
        (tray, 0.21),
        (wrist, wrist[2] - 0.31),
    ):
        place(env, tray)
        env._mocap("post", np.array([spot[0], spot[1], base]))
        mujoco.mj_forward(env.model, env.data)
        assert (env.data.contact.geom == post).any()
        assert env.step(np.zeros(5))[4]["failure"] == "collision"


def test_without_disturbances_the_observation_is_the_truth_in_the_documented_order() -> None:
    env = still(seed=8)
    obs = env.step(np.array([0.3, -0.2, 0.1, 0.4, -0.3]))[0]
    position, (ball, speed, tilt, rate) = env.position, env.ball()
    truth = [
        position,
        env.velocity,
        env.goal - position,
        env.post - position[:2],
        ball[:2],
        speed[:2],
        tilt,
        rate,
    ]
    assert obs.dtype == np.float32
    assert np.array_equal(obs, np.concatenate(truth).astype(np.float32))
    assert [sensor.size for sensor in env.card.sensors] == [len(part) for part in truth]


def test_noise_has_the_documented_size() -> None:
    env, draws = Tray(), 3000
    env.reset(seed=0)
    seen = np.stack([env._observe() for _ in range(draws)])
    ball, speed, tilt, rate = env.ball()
    truth = np.concatenate([env.position, env.velocity, ball[:2], speed[:2], tilt, rate])
    error = seen[:, [*range(6), *range(11, 19)]] - truth
    sizes = [POSITION_NOISE, VELOCITY_NOISE, POSITION_NOISE, VELOCITY_NOISE, TILT_NOISE, TILT_RATE_NOISE]
    expected = np.repeat(sizes, [3, 3, 2, 2, 2, 2])
    assert np.abs(error.std(0) / expected - 1).max() < 5 / math.sqrt(2 * draws)
    assert np.abs(error.mean(0) / expected).max() < 5 / math.sqrt(draws)
    noises = [sensor.noise for sensor in env.card.sensors for _ in range(sensor.size)]
    assert np.array_equal([noises[i] for i in [*range(6), *range(11, 19)]], expected)


def test_pushes_and_kicks_have_the_documented_size() -> None:
    env, ticks = Tray(), 6000
    knobs = env.knobs
    env.reset(seed=0)
    forces, kicks = [], []
    for _ in range(ticks):
        env.data.qvel[:] = 0.0
        forces.append(env._disturb(env.np_random))
        kicks.append(env.data.qvel.copy())
    strength = np.linalg.norm(forces, axis=1)
    pushed = strength > 6 * knobs["force_noise"]
    kicks = np.array(kicks)
    kicked = kicks.any(1)
    for events in (pushed, kicked):
        assert abs(events.mean() - EVENT_CHANCE) < 5 * math.sqrt(EVENT_CHANCE * (1 - EVENT_CHANCE) / ticks)
    assert abs(np.array(forces)[~pushed].std() / knobs["force_noise"] - 1) < 0.03
    assert abs(strength[pushed].mean() / CONTROL_HZ / knobs["push_impulse"] - 1) < 0.05
    assert np.allclose(np.linalg.norm(kicks[kicked, :2], axis=1), 7 / 5 * knobs["kick_speed"])
    assert not kicks[:, 2:].any()  # level, and the ball's alone


def test_a_kicked_ball_rolls_off_at_the_documented_speed() -> None:
    """What friction takes from a blow to the centre of a solid ball is 2/7."""
    env = Tray(force_noise=0.0, push_impulse=0.0, kick_speed=0.3)
    env.reset(seed=1)
    place(env, np.array([0.5, -0.3, 0.2]))
    random = np.random.default_rng(0)
    while not env.data.qvel.any():
        env._disturb(random)
    quiet = env.imagine()
    for _ in range(6):
        quiet.advance(np.zeros(5))
    assert abs(np.linalg.norm(quiet.ball()[1][:2] + quiet.velocity[:2]) / 0.3 - 1) < 0.06
