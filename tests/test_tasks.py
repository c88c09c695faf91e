"""Every task as an environment: Gymnasium's rules, determinism, looking ahead, pictures, bad input."""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's names come from compiled modules that tell a type checker nothing.

from __future__ import annotations

import copy
import inspect
import json
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
from envs.arm import load_model
from envs.card import Card
from envs.reach_past_post import ReachPastPost
from envs.render import choose_backend
from envs.task import CAMERAS, EPISODE, ArmTask
from rtc.errors import InvalidArgument, RenderUnavailable, Unsupported

ROOT = Path(__file__).parents[1]
TASKS = list(envs.TASKS)
NATIVE = [f"rtc/{name}-v0" for name in envs.CLASSES]


def make(task: str, **settings: Any) -> ArmTask:
    env = gymnasium.make(task, **settings).unwrapped
    assert isinstance(env, ArmTask)
    return env


def state(env: ArmTask) -> np.ndarray:
    """Everything that physics and the task go on from."""
    kind = int(mujoco.mjtState.mjSTATE_INTEGRATION)
    numbers = np.zeros(mujoco.mj_stateSize(env.model, kind))
    mujoco.mj_getState(env.model, env.data, numbers, kind)
    return np.concatenate(
        [numbers, *(np.ravel(np.asarray(getattr(env, name), float)) for name in (*EPISODE, *env.moment))]
    )


def moves(env: ArmTask, ticks: int, size: float = 1.0, seed: int = 5) -> np.ndarray:
    """Random actions, [ticks, action]."""
    return np.random.default_rng(seed).uniform(-size, size, (ticks, env.drive.size))


def play(env: ArmTask, seed: int, ticks: int = 30) -> np.ndarray:
    """Observations and rewards of an episode of random actions, one row a tick."""
    obs, _ = env.reset(seed=seed)
    rows = [np.append(obs, 0.0)]
    for action in moves(env, ticks):
        obs, reward, terminated, truncated, _ = env.step(action)
        rows.append(np.append(obs, reward))
        if terminated or truncated:
            break
    return np.stack(rows)


def test_a_fresh_interpreter_makes_a_task_without_an_import_and_plays_the_same_episode() -> None:
    program = """
import gymnasium, json, numpy as np
env, random = gymnasium.make("envs:rtc/ReachPastPost-v0"), np.random.default_rng(5)
rows = [np.append(env.reset(seed=3)[0], 0.0).tolist()]
for action in random.uniform(-1, 1, (10, 3)):
    obs, reward, *_ = env.step(action)
    rows.append(np.append(obs, reward).tolist())
print(json.dumps(rows))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    assert np.array_equal(json.loads(done.stdout), play(ReachPastPost(), 3, 10))


@pytest.mark.parametrize("task", TASKS)
def test_every_id_is_versioned_and_registered(task: str) -> None:
    spec = gymnasium.spec(task)
    assert (spec.namespace, spec.version) == ("rtc", 0)
    assert make(task).control == ("position" if "Position" in task else next(iter(make(task).card.drives)))


@pytest.mark.parametrize("task", TASKS)
def test_gymnasium_has_nothing_to_object_to(task: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(task), skip_render_check=True)


@pytest.mark.parametrize("task", NATIVE)
def test_the_card_says_everything_and_is_the_metadata(task: str) -> None:
    env = make(task)
    card = env.card
    assert isinstance(card, Card)
    for text in (card.title, card.summary, card.success, card.reset, card.disturbances, card.why):
        assert len(text) > 10 or text == card.title
    assert card.failures
    assert all(card.failures.values())
    assert len(card.modes) >= 2
    assert card.knobs
    assert all(knob.low <= knob.default <= knob.high for knob in card.knobs.values())
    assert list(card.drives)[1:] == ["position"]
    assert env.metadata["card"]["title"] == card.title
    assert json.dumps(env.metadata["card"])  # plain data
    assert env.observation_space.shape == (card.obs_dim,)


@pytest.mark.parametrize("task", TASKS)
def test_the_same_seed_is_the_same_episode_to_the_bit(task: str) -> None:
    env = make(task)
    first = play(env, 11)
    play(env, 12, ticks=3)  # what was played before leaves no trace
    assert np.array_equal(play(env, 11), first)
    assert np.array_equal(play(make(task), 11), first)
    assert not np.array_equal(play(env, 12)[0], first[0])


@pytest.mark.parametrize("task", NATIVE)
def test_a_pickle_holds_the_arguments_and_not_the_episode(task: str) -> None:
    knob, values = next(iter(make(task).card.knobs.items()))
    env = make(task, control="position", disturbances=False, image_size=(48, 64), **{knob: values.low})
    before = play(env, 2)
    env.reset(seed=2)
    env.step(np.zeros(env.drive.size))
    for other in (pickle.loads(pickle.dumps(env)), copy.deepcopy(env)):
        assert (other.control, other.disturbances, other._image_size) == ("position", False, (48, 64))
        assert other.knobs[knob] == values.low
        assert other._tick == 0
        assert np.array_equal(play(other, 2), before)


def test_an_env_made_by_gymnasium_is_picklable_too() -> None:
    env = gymnasium.make("rtc/ReachPastPost-v0")
    other = pickle.loads(pickle.dumps(env))
    assert np.array_equal(play(env.unwrapped, 2), play(other.unwrapped, 2))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("task", TASKS)
def test_imagining_does_not_disturb_what_is_real(task: str) -> None:
    one, other = make(task), make(task)
    for env in (one, other):
        env.reset(seed=4)
    for action in moves(one, 12, 0.5):
        before = state(one)
        one.predict_positions(moves(one, 8))
        imagined = one.imagine()
        for dreamt in moves(one, 4, seed=6):
            imagined.step(dreamt)
        assert np.array_equal(state(one), before)
        assert np.array_equal(one.step(action)[0], other.step(action)[0])
        assert np.array_equal(state(one), state(other))


@pytest.mark.parametrize("task", TASKS)
def test_a_prediction_is_what_an_undisturbed_env_then_does_to_the_bit(task: str) -> None:
    env = make(task, disturbances=False)
    env.reset(seed=5)
    for action in moves(env, 5, 0.5):
        env.step(action)
    actions = moves(env, 12, 0.7, seed=1)
    predicted, done = env.predict_positions(actions), []
    for action in actions:
        env.step(action)
        done.append(env.position)
    assert np.array_equal(predicted, done)


@pytest.mark.parametrize("task", TASKS)
def test_a_predicted_observation_is_what_an_undisturbed_env_then_shows(task: str) -> None:
    env = make(task, disturbances=False)
    now, _ = env.reset(seed=5)
    actions = moves(env, 6, 0.5)
    assert np.array_equal(env.predict_obs(actions[:0]).astype(np.float32), now)
    predicted = env.predict_obs(actions)
    for action in actions:
        now = env.step(action)[0]
    assert np.array_equal(predicted.astype(np.float32), now)


@pytest.mark.parametrize("task", TASKS)
def test_the_expert_decides_by_the_true_state_and_leaves_no_trace(task: str) -> None:
    env = make(task)
    env.reset(seed=0)
    expert = env.make_expert(np.random.default_rng(0))
    assert expert.mode in env.card.modes
    for _ in range(10):
        before, numbers = env.np_random.bit_generator.state, state(env)
        action = expert.act(env)
        assert np.abs(action).max() <= 1.0
        assert np.array_equal(action, expert.act(env.imagine()))
        assert env.np_random.bit_generator.state == before
        assert np.array_equal(state(env), numbers)
        env.step(action)


@pytest.mark.parametrize("task", NATIVE)
def test_the_first_observation_does_not_tell_the_mode(task: str) -> None:
    env, modes, first = make(task), set(), []
    for seed in range(12):
        first.append(env.reset(seed=6)[0])
        modes.add(env.make_expert(np.random.default_rng(seed)).mode)
    assert modes == set(env.card.modes)
    assert all(np.array_equal(obs, first[0]) for obs in first)


@pytest.mark.parametrize("task", NATIVE)
@pytest.mark.parametrize("fault", ["short", "batched", "nan", "infinite"])
def test_a_bad_action_is_refused_by_name_and_changes_nothing(task: str, fault: str) -> None:
    env = make(task)
    env.reset(seed=0)
    size = env.drive.size
    action = {"short": np.zeros(size - 1), "batched": np.zeros((1, size))}.get(fault, np.zeros(size))
    if fault in ("nan", "infinite"):
        action[1] = np.nan if fault == "nan" else np.inf
    before = state(env)
    with pytest.raises(
        InvalidArgument, match=rf"{type(env).__name__} takes {size} finite numbers in \[-1, 1\]"
    ):
        env.step(action)
    assert np.array_equal(state(env), before)


def test_a_mujoco_in_which_the_tasks_would_be_others_is_refused_by_its_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load_model.cache_clear()
    monkeypatch.setattr(mujoco, "__version__", "3.10.9")
    with pytest.raises(Unsupported, match=r"need MuJoCo 3\.11 or newer, and 3\.10\.9 is installed"):
        ReachPastPost()
    monkeypatch.setattr(mujoco, "__version__", "10.0.0")
    ReachPastPost()


def test_bad_arguments_are_refused_with_what_exists() -> None:
    with pytest.raises(InvalidArgument, match="it can be None or 'rgb_array'"):
        ReachPastPost(render_mode="human")
    with pytest.raises(InvalidArgument, match="it can be 'front' or 'top'"):
        ReachPastPost(cameras=("left",))
    with pytest.raises(InvalidArgument, match="it has force_noise, push_impulse"):
        ReachPastPost(gust=1.0)
    with pytest.raises(InvalidArgument, match=r"9\.0; 'Reach past a post' takes 0\.0 to 5\.0 N s"):
        ReachPastPost(push_impulse=9.0)
    with pytest.raises(InvalidArgument, match="it can be 'force' or 'position'"):
        # past the tests' own type checker, which would refuse it first
        inspect.unwrap(ReachPastPost.__init__)(object.__new__(ReachPastPost), control="velocity")


@pytest.mark.parametrize("task", NATIVE)
def test_an_action_beyond_its_limits_is_clipped(task: str) -> None:
    one, other = make(task, disturbances=False), make(task, disturbances=False)
    for env, action in ((one, 7.0), (other, 1.0)):
        env.reset(seed=1)
        env.step(np.full(env.drive.size, action))
    assert np.array_equal(state(one), state(other))


@pytest.mark.parametrize("task", NATIVE)
def test_a_twin_holds_its_place_and_the_native_robot_is_told_to_stop(task: str) -> None:
    assert make(task).metadata["starvation"] == "zero"
    assert make(task.replace("-v0", "Position-v0")).metadata["starvation"] == "hold"


def can_draw() -> bool:
    try:
        choose_backend()
    except RenderUnavailable:
        return False
    return True


@pytest.mark.skipif(not can_draw(), reason="no rendering backend works here")
@pytest.mark.parametrize("task", NATIVE)
def test_images_join_the_observation_and_change_nothing_else(task: str) -> None:
    seen, blind = make(task, cameras=CAMERAS), make(task)
    both = seen.reset(seed=3)[0]
    assert seen.observation_space.contains(both)
    assert np.array_equal(both["state"], blind.reset(seed=3)[0])
    action = np.full(seen.drive.size, 0.3)
    after = [env.step(action)[0] for env in (seen, blind)]
    assert np.array_equal(after[0]["state"], after[1])
    for camera in CAMERAS:
        assert both[camera].std() > 10  # something is to be seen
        assert (both[camera] != after[0][camera]).any()  # and it moves
    assert (both["front"] != both["top"]).any()
    seen.close()


@pytest.mark.skipif(not can_draw(), reason="no rendering backend works here")
@pytest.mark.parametrize("task", NATIVE)
def test_a_task_draws_itself(task: str) -> None:
    env = make(task, render_mode="rgb_array", image_size=(96, 128))
    env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (96, 128, 3)
    env.draw_plan(np.linspace(env.position, env.position + 0.2, 8))
    assert (env.render() != picture).any()
    env.close()
