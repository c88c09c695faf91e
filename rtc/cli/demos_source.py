"""Who is recorded: a task's expert, which looks ahead in a copy of its world, or an expert from outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from envs.arm import CONTROL_HZ
from envs.demos import Recipe, conditional_variance, record_episodes
from envs.outside import is_outside
from envs.outside_demos import outside_expert, record_outside
from envs.task import ArmTask
from rtc.cli.environments import make_env
from rtc.demonstrations import Recording
from rtc.errors import InvalidArgument

OUTSIDE_NOISE = 0.1  # standard deviation, action units: what is executed beside what is meant
SPREAD_EPISODES = 8  # whose every label is drawn again eight times, to measure the spread


@dataclass(frozen=True)
class Source:
    """An expert and what a data set says of it.

    record: picklable, seeds -> recording. spread: picklable, seeds -> variance of chunks given the state for
    each number of an action, squared action units; None where it cannot be measured. instruction: what was
    asked for, in words. recipe: all that decides how it is recorded.
    """

    task: str
    expert: str
    instruction: str
    fps: int
    state_names: list[str]
    action_names: list[str]
    recipe: dict[str, Any]
    record: Callable[[list[int]], Recording]
    spread: Callable[[list[int]], np.ndarray] | None = None


def make_source(task: str, recipe: Recipe, cameras: list[str]) -> Source:
    """The expert of `task`, a checked name. Raises InvalidArgument if there is none, or no such camera."""
    return _outside(task, recipe, cameras) if is_outside(task) else _own(task, recipe, cameras)


def expert_env(task: str, cameras: list[str] | None = None) -> ArmTask:
    """The env of `task`, bare, as its expert needs it. Raises InvalidArgument for one without an expert."""
    env = make_env(task, **({"cameras": tuple(cameras)} if cameras else {})).unwrapped
    if not isinstance(env, ArmTask):
        raise InvalidArgument(f"{task} has no expert that looks ahead in a copy of its world")
    return env


def _own(task: str, recipe: Recipe, cameras: list[str]) -> Source:
    env = expert_env(task, cameras)
    expert = type(env.make_expert(np.random.default_rng()))
    return Source(
        task,
        expert=f"{expert.__module__}.{expert.__qualname__}",
        instruction=env.card.summary,
        fps=CONTROL_HZ,
        state_names=[f"{part.name}.{number}" for part in env.card.sensors for number in range(part.size)],
        action_names=list(env.drive.actuators),
        recipe=asdict(recipe),
        record=partial(_record_own, task, recipe, cameras),
        spread=partial(_spread, task, recipe),
    )


def _record_own(task: str, recipe: Recipe, cameras: list[str], seeds: list[int]) -> Recording:
    return record_episodes(partial(expert_env, task, cameras), seeds, recipe)


def _spread(task: str, recipe: Recipe, seeds: list[int]) -> np.ndarray:
    return conditional_variance(partial(expert_env, task), seeds[:SPREAD_EPISODES], recipe)


def _outside(task: str, recipe: Recipe, cameras: list[str]) -> Source:
    if cameras:
        raise InvalidArgument(f"{task} is recorded without images; leave --cameras away")
    outside_expert(task)  # says if there is none
    env = make_env(task)
    observed, commanded = (space.shape or () for space in (env.observation_space, env.action_space))
    env.close()
    return Source(
        task,
        expert="metaworld.policies",
        instruction=task.partition(":")[2],
        fps=round(env.metadata["control_hz"]),
        state_names=[f"state.{number}" for number in range(*observed)],
        action_names=[f"action.{number}" for number in range(*commanded)],
        recipe={"horizon": recipe.horizon, "noise": OUTSIDE_NOISE},
        record=partial(_record_outside, task, recipe.horizon),
    )


def _record_outside(task: str, horizon: int, seeds: list[int]) -> Recording:
    return record_outside(task, seeds, horizon, OUTSIDE_NOISE)
