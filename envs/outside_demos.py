"""Demonstrations of experts from outside, in the form of our own: Meta-World's scripted ones."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import numpy as np

from envs.meta_world import ScriptedExpert
from envs.outside import AnyTask, make_outside
from rtc.demonstrations import Recording
from rtc.errors import InvalidArgument

SCRIPT = "script"  # what its experts call what they choose: there is one way
BETWEEN_PAUSES = 8  # actions, see `expert_succeeds`
GRIPPER = np.array([0, 0, 0, 1], np.float32)


def outside_expert(name: str) -> ScriptedExpert:
    """The expert of the environment `name`; raises InvalidArgument for one that ships none."""
    kind, _, task = name.partition(":")
    if kind != "metaworld":
        raise InvalidArgument(
            f"{name} ships no expert; demonstrations from outside are recorded of metaworld:NAME"
        )
    make_outside(name).close()  # says what is wrong with the name, or not installed
    return ScriptedExpert(task)


def expert_succeeds(
    env: AnyTask, expert: ScriptedExpert, seed: int, *, lateness: int = 0, pause: int = 0
) -> bool:
    """Whether the expert succeeds in an episode although it is slow.

    lateness: ticks that pass before an action is executed; the hand stands still before the first.
    pause: ticks of standing still, the gripper as it is, after every 8 actions: a robot that stops to think.
    """
    obs, info = env.reset(seed=seed)
    action = np.zeros(4, np.float32)
    waiting, tick, over = [action] * lateness, 0, False
    while not over:
        if tick % (BETWEEN_PAUSES + pause) < BETWEEN_PAUSES:
            waiting.append(expert.act(obs))
            action = waiting.pop(0)
        else:
            action = action * GRIPPER
        obs, _, terminated, truncated, info = env.step(action)
        tick, over = tick + 1, terminated or truncated
    return bool(info["is_success"])


def record_outside(name: str, seeds: Sequence[int], horizon: int, noise: float = 0.1) -> Recording:
    """What the expert of `name`, as in "metaworld:reach-v3", does in an episode per seed.

    A chunk at every tick: the `horizon` actions that the expert takes from there on. What is executed has
    white `noise` on top (standard deviation, action units), so that the states contain recoveries. The same
    seeds give the same data to the bit. Raises InvalidArgument for an environment without an expert.
    """
    expert = outside_expert(name)
    with closing(make_outside(name)) as env:
        return Recording.concatenate([_record_episode(env, expert, seed, horizon, noise) for seed in seeds])


def _record_episode(env: AnyTask, expert: ScriptedExpert, seed: int, horizon: int, noise: float) -> Recording:
    random = np.random.default_rng([seed, 7])  # not the env's generator, which is seeded with `seed` alone
    obs, _ = env.reset(seed=seed)
    seen, meant, done, success, frames = [], [], [], False, 0
    while not frames or len(meant) < frames + horizon - 1:  # the last chunks need actions beyond the end
        seen.append(obs)
        meant.append(expert.act(obs))
        done.append(np.clip(meant[-1] + noise * random.standard_normal(4), -1.0, 1.0).astype(np.float32))
        obs, _, terminated, truncated, info = env.step(done[-1])
        if not frames and (terminated or truncated):
            success, frames = info["is_success"], len(meant)
        if truncated:  # it cannot go on: the last frames have no chunk
            break
    chunks = np.lib.stride_tricks.sliding_window_view(np.stack(meant), horizon, axis=0).transpose(0, 2, 1)
    labelled = min(len(chunks), frames)
    return Recording(
        state=np.stack(seen[:frames]),
        action=np.stack(done[:frames]),
        episode=np.full(frames, seed),
        replanned=np.arange(frames) < labelled,
        chunks=chunks[:labelled].copy(),
        committed=np.zeros(labelled, np.int64),
        success=np.array([success], np.float32),
        mode=np.array([SCRIPT]),
    )
