"""The conveyor: the belt, the grip, what counts, what is observed, the expert."""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import mujoco
import numpy as np
import pytest

from envs.arm import CONTROL_HZ, DAMPING, SPRING, load_model, solve_pose
from envs.card import Control
from envs.conveyor import (
    BELT_NOISE,
    GAP_NOISE,
    LIFT,
    OPEN_GAP,
    REACH,
    REST_HEIGHT,
    STRIPES,
    Conveyor,
)
from envs.conveyor_expert import Expert
from envs.task import POSITION_NOISE

GRAVITY = 9.81


def still(control: Control = "velocity", speed: float = 0.0, seed: int = 0) -> Conveyor:
    """A conveyor without disturbances, with a belt of this speed."""
    env = Conveyor(control, disturbances=False, belt_speed=speed, speed_spread=0.0)
    env.reset(seed=seed)
    return env


def put_hand(env: Conveyor, position: np.ndarray, gap: float = OPEN_GAP) -> None:
    """Put the hand at `position`, at rest, with this gap between its pads."""
    solve_pose(env.model, env.data, position)
    env.data.qpos[env._fingers] = gap / 2
    env.data.act[:] = gap
    env.data.qvel[6:] = 0.0
    mujoco.mj_forward(env.model, env.data)


def put_bar(env: Conveyor, height: float = 0.0, along: float = 0.0, lean: float = 0.0) -> None:
    """Put the bar, at rest, `height` above where it lies on the belt, leaning by `lean` degrees."""
    half = np.radians(lean) / 2
    env.data.qpos[:7] = (0.5, along, REST_HEIGHT + height, np.cos(half), 0.0, np.sin(half), 0.0)
    env.data.qvel[:6] = 0.0
    mujoco.mj_forward(env.model, env.data)


def grip(env: Conveyor, handle: int) -> None:
    """Close the fingers round a handle of a bar that stands still."""
    put_hand(env, env.handles[handle])
    for _ in range(15):
        env.step(np.array([0.0, 0.0, 0.0, -1.0]))


def test_a_bar_takes_the_speed_of_the_belt_by_friction() -> None:
    """With a friction of 1 a jump by v leaves the bar v^2 / (2 g) behind the belt."""
    env, jump = still(speed=0.1), 0.4
    start = env.data.qpos[1] - env.tracker
    env.belt_speed += jump
    for _ in range(20):
        env.advance(np.zeros(4))
    lag = start - (env.data.qpos[1] - env.tracker)
    assert lag == pytest.approx(jump**2 / (2 * GRAVITY), rel=0.25)
    assert env.data.qvel[1] == pytest.approx(0.5, abs=0.005)


def test_every_environment_and_every_episode_has_a_belt_of_its_own() -> None:
    slow, fast = still(speed=0.1), still(speed=0.4)
    starts = slow.data.qpos[1], fast.data.qpos[1]
    for _ in range(25):
        slow.advance(np.zeros(4))
        fast.advance(np.zeros(4))
    assert slow.data.qpos[1] - starts[0] == pytest.approx(0.05, abs=1e-3)
    assert fast.data.qpos[1] - starts[1] == pytest.approx(0.20, abs=1e-3)
    assert load_model("conveyor", "velocity").geom_surfacevel.max() == 0.3


def test_the_stripes_go_with_the_belt_and_stay_on_it() -> None:
    env = Conveyor(jump_rate=10.0)
    env.reset(seed=1)
    for _ in range(60):
        offset = float(env.data.mocap_pos[0, 1])
        assert abs(offset) <= STRIPES / 2
        assert (env.tracker - offset) % STRIPES == pytest.approx(STRIPES / 2)
        env.step(np.zeros(4))
        env._move()  # a picture shows where a stripe was when the tick began


def test_an_imagined_belt_keeps_its_present_speed() -> None:
    env = Conveyor(jump_rate=10.0)
    env.reset(seed=0)
    for _ in range(20):
        env.step(np.zeros(4))
    speed, imagined = env.belt_speed, env.imagine()
    start = imagined.data.qpos[1]
    for _ in range(20):
        imagined.advance(np.zeros(4))
    assert imagined.belt_speed == speed == env.belt_speed
    assert imagined.data.qpos[1] - start == pytest.approx(0.4 * speed, abs=0.01)


def test_a_held_target_goes_with_the_belt() -> None:
    env = still("position", speed=0.25)
    where = env.position - [0.0, env.tracker, 0.0]
    hold = np.append(env.action_for_force(np.zeros(3)), 0.8)
    lag = DAMPING / SPRING * 0.25  # metres: the hand is at rest, and falls behind the belt
    np.testing.assert_allclose(env.drive.command(hold)[:3], where - [0.0, lag, 0.0], atol=1e-9)
    tracker = env.tracker
    for _ in range(60):
        env.step(hold)
    assert env.tracker - tracker == pytest.approx(0.25 * 60 / CONTROL_HZ, abs=1e-4)
    np.testing.assert_allclose(env.drive.command(hold)[:3], env.position - [0, env.tracker, 0], atol=3e-3)
    assert env.velocity[1] == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("handle", [0, 1])
def test_either_handle_lifts_the_bar_and_zero_speed_keeps_the_grip(handle: int) -> None:
    env = still()
    grip(env, handle)
    for _ in range(15):
        env.step(np.array([0.0, 0.0, 0.4, -1.0]))
    height = env.data.qpos[2]
    assert height > REST_HEIGHT + LIFT
    for _ in range(CONTROL_HZ):
        env.step(np.zeros(4))
    assert env.data.qpos[2] == pytest.approx(height, abs=0.02)


def test_fingers_that_close_beside_a_handle_lift_nothing() -> None:
    env = still()
    put_hand(env, env.handles[0] - [0.0, 0.022, 0.0])
    for _ in range(15):
        env.step(np.array([0.0, 0.0, 0.0, -1.0]))
    assert env.gap < 1e-3
    for _ in range(15):
        env.step(np.array([0.0, 0.0, 0.4, -1.0]))
    assert env.data.qpos[2] == pytest.approx(REST_HEIGHT, abs=1e-3)


def test_closed_fingers_come_down_on_a_handle_and_stop_there() -> None:
    """A handle is 4 cm high and the tips are 1 cm below the place between the pads."""
    env = still()
    put_hand(env, env.handles[0] + [0.0, 0.0, 0.06], gap=0.0)
    for _ in range(40):
        env.step(np.array([0.0, 0.0, -0.2, -1.0]))
    assert env.position[2] - env.handles[0][2] == pytest.approx(0.03, abs=4e-3)


@pytest.mark.parametrize("speed", [-0.5, -0.25, 0.25])
def test_the_fingers_move_at_the_commanded_speed(speed: float) -> None:
    env, command = still(), np.array([0.0, 0.0, 0.0, speed])
    put_hand(env, np.array([0.5, 0.0, 0.25]), gap=0.04)
    gaps = []
    for _ in range(8):
        env.step(command)
        gaps.append(env.gap)
    assert (gaps[7] - gaps[3]) * CONTROL_HZ / 4 == pytest.approx(0.4 * speed, rel=0.05)


@pytest.mark.parametrize(("height", "held"), [(LIFT - 1e-3, False), (LIFT + 1e-3, True)])
def test_success_is_ten_ticks_in_a_row_at_six_centimetres(
    monkeypatch: pytest.MonkeyPatch, height: float, held: bool
) -> None:
    env = still()
    monkeypatch.setattr(env, "advance", lambda action: None)  # the bar stays where it is put

    def succeeds_at(height: float) -> bool:
        put_bar(env, height)
        return env.step(np.zeros(4))[4]["is_success"]

    before = [False] * (Conveyor.hold_ticks - 1)
    assert [succeeds_at(height) for _ in range(Conveyor.hold_ticks)] == [*before, held]
    assert not succeeds_at(0.0)
    assert not succeeds_at(height)


@pytest.mark.parametrize(
    ("height", "along", "lean", "failure"),
    [
        (0.0, REACH - 1e-3, 0.0, None),
        (0.0, REACH + 1e-3, 0.0, "lost"),
        (0.05, REACH + 1e-3, 0.0, None),
        (-0.02, 0.0, 0.0, "lost"),
        (0.1, 0.0, 59.0, None),
        (0.1, 0.0, 61.0, "knocked"),
    ],
)
def test_failures_begin_where_the_card_says(
    height: float, along: float, lean: float, failure: str | None
) -> None:
    env = still()
    put_bar(env, height, along, lean)
    assert env._judge().failure == failure


def test_a_robot_that_does_nothing_loses_the_bar() -> None:
    env = still(speed=0.4)
    ticks = round((REACH - env.data.qpos[1]) / 0.4 * CONTROL_HZ)
    for _ in range(ticks - 2):
        assert not env.step(np.zeros(4))[2]
    ends = [env.step(np.zeros(4)) for _ in range(4)]
    assert ends[-1][2]
    assert ends[-1][4]["failure"] == "lost"
    assert ends[-1][1] < -0.9


def test_without_disturbances_the_observation_is_the_truth_in_the_documented_order() -> None:
    env = still(speed=0.3)
    action = np.array([0.1, -0.2, -0.3, 0.1])
    env.step(action)
    obs = env.step(action)[0]
    truth = (
        env.position,
        env.velocity,
        [2 * env.data.joint("left").qpos[0]],
        env.data.geom("front").xpos - env.position,
        env.data.geom("rear").xpos - env.position,
        [0.3, env.tracker - env.position[1]],
        env.data.qpos[env._arm_q],
    )
    np.testing.assert_allclose(obs, np.concatenate(truth), atol=1e-5)
    assert env.data.geom("front").xpos[1] > env.data.geom("rear").xpos[1]


def test_noise_has_the_documented_size() -> None:
    env = Conveyor()
    env.reset(seed=0)
    obs = np.array([env._observe() for _ in range(2000)])
    spread = obs.std(axis=0)
    np.testing.assert_allclose(spread[:3], POSITION_NOISE, rtol=0.1)
    np.testing.assert_allclose(spread[6], GAP_NOISE, rtol=0.1)
    np.testing.assert_allclose(spread[7:13], POSITION_NOISE, rtol=0.1)
    np.testing.assert_allclose(spread[13:15], [BELT_NOISE, POSITION_NOISE], rtol=0.1)


def test_jumps_have_the_documented_rate_and_range() -> None:
    env = Conveyor(jump_rate=5.0, belt_speed=0.25, speed_spread=0.15)
    env.reset(seed=0)
    random, speeds, forces = np.random.default_rng(0), [], []
    for _ in range(20_000):
        forces.append(env._disturb(random))
        speeds.append(env.belt_speed)
    jumps = np.flatnonzero(np.diff(speeds))
    assert len(jumps) / 20_000 == pytest.approx(5.0 / CONTROL_HZ, rel=0.1)
    assert min(speeds) == pytest.approx(0.10, abs=0.005)
    assert max(speeds) == pytest.approx(0.40, abs=0.005)
    assert np.std(forces) == pytest.approx(4.0, rel=0.05)


@pytest.mark.parametrize("control", ["velocity", "position"])
def test_the_expert_lifts_the_bar_by_both_handles(control: Control) -> None:
    env, wins, modes = Conveyor(control), 0, []
    for seed in range(60):
        env.reset(seed=seed)
        expert, over, total, info = Expert(np.random.default_rng([seed, 1])), False, 0.0, {}
        while not over:
            _, reward, terminated, truncated, info = env.step(expert.act(env))
            over, total = terminated or truncated, total + reward
        if info["is_success"]:
            wins += 1
            modes.append(int(np.argmin(np.linalg.norm(env.handles - env.position, axis=1))))
            assert 1.8 < total < 2.05
    assert wins >= 58
    assert 0.3 <= np.mean(modes) <= 0.7


def test_a_fresh_expert_goes_along_with_the_handle_that_the_hand_is_at() -> None:
    """High above the middle the draw decides; low at a handle nothing but where the hand is does."""
    env, experts = still(), [Expert(np.random.default_rng(seed)) for seed in range(20)]
    put_hand(env, env.handles.mean(axis=0) + np.array([0.0, 0.0, 0.1]))
    forward = [expert.act(env)[1] > 0 for expert in experts]
    assert forward == [expert.mode == "front" for expert in experts]
    for handle in (0, 1):
        put_hand(env, env.handles[handle] + [0.0, 0.01, 0.02])
        assert all(-0.5 < expert.act(env)[1] < 0 for expert in experts)
