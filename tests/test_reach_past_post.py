"""Reach past a post: what counts, what it looks like, and the physics that makes waiting costly."""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's names come from compiled modules that tell a type checker nothing.

from __future__ import annotations

import math

import mujoco
import numpy as np
import pytest

from envs import reach_past_post
from envs.arm import CONTROL_HZ, DAMPING, PHYSICS_HZ, SPRING, solve_pose
from envs.card import Control
from envs.reach_past_post import GOAL_RADIUS, ReachPastPost
from envs.reach_past_post_expert import Expert
from envs.task import JOINT_NOISE, POSITION_NOISE, VELOCITY_NOISE
from rtc.errors import InvalidArgument

CONTROLS: list[Control] = ["force", "position"]
CARD = ReachPastPost.card
MAX_FORCE = CARD.drives["force"].scale[0]
TARGET_CENTRE = np.array(CARD.drives["position"].centre)
TARGET_RANGE = np.array(CARD.drives["position"].scale)
TIME_LIMIT = 150


def still(control: Control = "force", seed: int = 0) -> ReachPastPost:
    """A reset env without disturbances."""
    env = ReachPastPost(control=control, disturbances=False)
    env.reset(seed=seed)
    return env


def state(env: ReachPastPost) -> np.ndarray:
    """Everything that physics goes on from, and the load's exact position and velocity."""
    size = mujoco.mj_stateSize(env.model, int(mujoco.mjtState.mjSTATE_INTEGRATION))
    numbers = np.zeros(size)
    mujoco.mj_getState(env.model, env.data, numbers, int(mujoco.mjtState.mjSTATE_INTEGRATION))
    return np.concatenate([numbers, env.position, env.velocity, env.goal, env.post])


def place(env: ReachPastPost, position: np.ndarray) -> None:
    """Put the load, at rest, where it is wanted."""
    solve_pose(env.model, env.data, position)
    env.data.qvel[:] = 0.0
    mujoco.mj_forward(env.model, env.data)


def test_success_needs_consecutive_ticks_in_the_goal() -> None:
    env = still()
    outside = env.goal + np.array([0.0, 2 * GOAL_RADIUS, 0.0])
    for ticks in (ReachPastPost.hold_ticks - 1, 1):  # short of it, then from the start again
        place(env, env.goal)
        for _ in range(ticks):
            assert not env.step(np.zeros(3))[2]
        place(env, outside)
        assert not env.step(np.zeros(3))[2]
    place(env, env.goal)
    ends = [env.step(np.zeros(3)) for _ in range(ReachPastPost.hold_ticks)]
    assert [end[2] for end in ends] == [False] * (ReachPastPost.hold_ticks - 1) + [True]
    assert ends[-1][4]["is_success"]
    assert ends[-1][4]["failure"] is None
    assert ends[-1][1] > 0.9  # the reward of success, +1, and next to no progress


@pytest.mark.parametrize(("distance", "held"), [(0.98, True), (1.02, False)])
def test_the_goal_ends_at_its_radius(distance: float, held: bool) -> None:
    env = still()
    place(env, env.goal + distance * GOAL_RADIUS * np.array([0.0, 0.6, 0.8]))
    assert any(env.step(np.zeros(3))[2] for _ in range(ReachPastPost.hold_ticks)) is held


def drive_into_the_post(env: ReachPastPost) -> tuple[int, dict, float]:
    for tick in range(1, TIME_LIMIT + 1):
        wanted = 2.0 * np.append(env.post - env.position[:2], 0.0)
        _, reward, terminated, _, info = env.step(np.clip(wanted - 0.5 * env.velocity, -1.0, 1.0))
        if terminated:
            return tick, info, reward
    raise AssertionError("the load never touched the post")


def test_touching_the_post_ends_the_episode_as_a_collision() -> None:
    env = still()
    _, info, reward = drive_into_the_post(env)
    assert (info["failure"], info["is_success"]) == ("collision", False)
    assert reward < -0.5
    gap = np.linalg.norm(env.position[:2] - env.post) - 0.035 - 0.04  # radii of the load and the post
    assert abs(gap) < 0.02


def test_a_touch_between_two_ticks_is_not_missed() -> None:
    """A contact in the first physics steps of a tick that is over at its end still counts."""
    env = still()
    place(env, np.array([*(env.post - [0.0, 0.0748]), 0.2]))  # 0.2 mm deep in the post
    env.data.qvel[:] = np.linalg.pinv(site_jacobian(env)[:3]) @ [0.0, -0.5, 0.0]  # and on its way out
    mujoco.mj_forward(env.model, env.data)
    info = env.step(np.zeros(3))[4]
    mujoco.mj_forward(env.model, env.data)
    assert not (env.data.contact.geom == env.model.geom("post").id).any()
    assert info["failure"] == "collision"


def test_the_links_of_the_arm_are_solid() -> None:
    """With the post under the forearm and the load far away, it is the arm that touches."""
    env = still()
    elbow_to_wrist = env.data.xpos[env.model.body("link5").id]
    env.post = elbow_to_wrist[:2] - [0.03, 0.0]
    env._mocap("post", np.array([*env.post, elbow_to_wrist[2] - 0.3]))  # its top is 0.36 m higher
    mujoco.mj_forward(env.model, env.data)
    load = {env.model.geom("load").id, env.model.geom("rod").id}
    assert env.data.ncon
    assert not load & set(env.data.contact.geom.ravel().tolist())
    assert env.step(np.zeros(3))[4]["failure"] == "collision"


def test_what_is_drawn_is_what_counts() -> None:
    """And the constants that XML and Python share are the same."""
    env = still()
    assert env.model.geom("goal").size[0] == GOAL_RADIUS
    assert np.array_equal(env.data.mocap_pos[env.model.body("post").mocapid[0]][:2], env.post)
    assert np.array_equal(env.data.mocap_pos[env.model.body("goal").mocapid[0]], env.goal)
    servo = still("position").model
    for axis in "xyz":
        assert servo.actuator(axis).gainprm[0] == SPRING
        assert np.array_equal(servo.actuator(axis).biasprm[:3], [0.0, -SPRING, -DAMPING])


def test_out_of_reach_says_where_the_reach_ends() -> None:
    env = still()
    with pytest.raises(InvalidArgument, match="reach"):
        solve_pose(env.model, env.data, np.array([2.0, 0.0, 0.3]))


def test_without_disturbances_the_observation_is_the_truth_in_the_documented_order() -> None:
    env = still(seed=8)
    obs = env.step(np.array([0.3, -0.2, 0.1]))[0]
    position, post = env.position, env.post
    truth = [position, env.velocity, env.goal - position, post - position[:2], env.data.qpos]
    assert obs.dtype == np.float32
    assert np.array_equal(obs, np.concatenate(truth).astype(np.float32))


def test_noise_has_the_documented_size_and_moves_the_differences_with_the_position() -> None:
    env = ReachPastPost()
    env.reset(seed=0)
    truth = np.concatenate([env.position, env.velocity, env.data.qpos])
    seen = np.stack([env._observe() for _ in range(4000)]).astype(np.float64)
    error = seen[:, [0, 1, 2, 3, 4, 5, *range(11, 18)]] - truth
    expected = np.repeat([POSITION_NOISE, VELOCITY_NOISE, JOINT_NOISE], [3, 3, 7])
    # A standard deviation from n draws errs by 1 / sqrt(2 n), a mean by 1 / sqrt(n), of the deviation.
    assert np.abs(error.std(0) / expected - 1).max() < 5 / math.sqrt(2 * 4000)
    assert np.abs(error.mean(0) / expected).max() < 5 / math.sqrt(4000)
    assert np.abs(np.corrcoef(error.T) - np.eye(13)).max() < 5 / math.sqrt(4000)
    assert np.allclose(seen[:, 6:9] + seen[:, :3], env.goal, atol=1e-6)
    assert np.allclose(seen[:, 9:11] + seen[:, :2], env.post, atol=1e-6)


def test_pushes_and_force_noise_have_the_documented_size() -> None:
    env = ReachPastPost()
    env.reset(seed=0)
    forces = np.stack([env._disturb(env.np_random) for _ in range(6000)])
    pushed = np.linalg.norm(forces, axis=1) > 6 * CARD.knobs["force_noise"].default
    chance = reach_past_post.PUSH_CHANCE
    assert abs(pushed.mean() - chance) < 5 * math.sqrt(chance * (1 - chance) / 6000)
    white = forces[~pushed]
    assert abs(white.std() / CARD.knobs["force_noise"].default - 1) < 5 / math.sqrt(2 * white.size)
    impulse = np.linalg.norm(forces[pushed], axis=1) / CONTROL_HZ
    assert abs(impulse.mean() / CARD.knobs["push_impulse"].default - 1) < 0.05
    calm = still()
    calm.step(np.zeros(3))
    assert not calm.data.xfrc_applied.any()


def test_the_side_is_not_in_the_observation() -> None:
    """What the expert draws touches neither the env nor its first observation."""
    firsts = []
    for seed in (0, 1, 2, 3):
        env = ReachPastPost()
        obs, _ = env.reset(seed=6)
        expert = Expert(np.random.default_rng(seed))
        expert.act(env)
        firsts.append((expert.side, obs, state(env), env.np_random.bit_generator.state))
    assert {side for side, *_ in firsts} == {1.0, -1.0}
    for _, obs, numbers, generator in firsts[1:]:
        assert np.array_equal(obs, firsts[0][1])
        assert np.array_equal(numbers, firsts[0][2])
        assert generator == firsts[0][3]


def site_jacobian(env: ReachPastPost) -> np.ndarray:
    jacobian = np.zeros((6, env.model.nv))
    mujoco.mj_jacSite(env.model, env.data, jacobian[:3], jacobian[3:], env.model.site("load").id)
    return jacobian


def mass_matrix(env: ReachPastPost) -> np.ndarray:
    """Column by column: mj_fullM's signature differs between versions of MuJoCo."""
    matrix = np.zeros((env.model.nv, env.model.nv))
    for row, unit in zip(matrix, np.eye(env.model.nv), strict=True):
        mujoco.mj_mulM(env.model, env.data, row, unit)
    return matrix


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("seed", [0, 3])
def test_a_force_accelerates_the_load_by_its_operational_space_inertia(axis: int, seed: int) -> None:
    """One physics step from rest: v = dt J (M + dt D)^-1 J^T F, so a = (J M^-1 J^T) F up to damping.

    D = joint damping + J_r^T 6 J_r of the servo that keeps the hand upright.
    Source: Khatib 1987, and MuJoCo's implicit step.
    """
    env = still(seed=seed)
    jacobian, mass, step = site_jacobian(env), mass_matrix(env), 1 / PHYSICS_HZ
    force = 0.3 * MAX_FORCE * np.eye(3)[axis]
    damping = np.diag(env.model.dof_damping) + 6.0 * jacobian[3:].T @ jacobian[3:]
    speed = step * jacobian[:3] @ np.linalg.solve(mass + step * damping, jacobian[:3].T @ force)
    mobility = jacobian[:3] @ np.linalg.solve(mass, jacobian[:3].T)
    env.data.ctrl[-3:] = force
    mujoco.mj_step(env.model, env.data)
    mujoco.mj_forward(env.model, env.data)
    assert np.abs(env.velocity - speed).max() < 1e-3 * np.abs(speed).max()
    acceleration = env.velocity / step
    assert np.linalg.norm(acceleration - mobility @ force) < 0.06 * np.linalg.norm(mobility @ force)


def test_at_rest_the_load_stays_because_gravity_is_compensated() -> None:
    for control in CONTROLS:
        env = still(control, seed=1)
        start = env.position
        hold = np.zeros(3) if control == "force" else (start - TARGET_CENTRE) / TARGET_RANGE
        for _ in range(100):
            env.step(hold)
        assert np.abs(env.position - start).max() < 1e-5


def test_zero_force_is_no_hold_a_moving_load_keeps_moving() -> None:
    env = still(seed=1)
    for _ in range(5):
        env.step(np.array([0.0, 0.0, 0.4]))
    start, velocity = env.position, env.velocity
    for _ in range(10):
        env.step(np.zeros(3))
    seconds = 10 / CONTROL_HZ
    along = (env.position - start) @ velocity / np.linalg.norm(velocity)
    assert np.linalg.norm(velocity) > 0.2
    assert 0.75 < along / (np.linalg.norm(velocity) * seconds) < 1.0  # joints rub a little
    assert np.linalg.norm(env.velocity) > 0.6 * np.linalg.norm(velocity)


def test_the_position_twin_goes_where_it_is_told_and_holds_against_a_push() -> None:
    env = still("position", seed=1)
    target = env.position + np.array([0.03, 0.04, 0.05])
    action = (target - TARGET_CENTRE) / TARGET_RANGE
    for _ in range(100):
        env.step(action)
    assert np.abs(env.position - target).max() < 1e-3
    env._physics(np.array([0.0, 0.0, 0.8 * 50]))  # 0.8 N s
    pushed = np.linalg.norm(env.position - target)
    for _ in range(100):
        env.step(action)
    assert pushed > 1e-3
    assert np.abs(env.position - target).max() < 1e-3


def test_an_imagined_moment_is_free_of_disturbances() -> None:
    env = ReachPastPost()
    env.reset(seed=5)
    first, second = (env.predict_positions(np.zeros((10, 3))) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.abs(first - env.position).max() < 1e-5


def test_rewards_add_up_to_the_progress() -> None:
    env = still(seed=2)
    first = np.linalg.norm(env.goal - env.position)
    total = sum(float(env.step(np.array([0.1, 0.2, 0.0]))[1]) for _ in range(10))
    assert total == pytest.approx((first - np.linalg.norm(env.goal - env.position)) / first)
