"""Environments by name: our tasks, and those from outside."""

from __future__ import annotations

from typing import Any

import gymnasium

import envs
from envs.outside import is_outside, make_outside
from policies.checkpoint import bare_task
from rtc.errors import InvalidArgument

NAMESPACE = "rtc/"


def task_names() -> list[str]:
    """The tasks that exist, without their namespace."""
    return sorted(bare_task(name) for name in gymnasium.registry if name.startswith(NAMESPACE))


def check_task(task: str) -> str:
    """`task` without its namespace; raises InvalidArgument, with those that exist, if it is none.

    An environment from outside (`envs.outside`) keeps its name, and is made once to see that it can be.
    """
    if is_outside(task):
        make_outside(task).close()
        return task
    name = task.removeprefix(NAMESPACE)
    if name not in task_names():
        raise InvalidArgument(
            f"task {task!r} does not exist; choose from {', '.join(task_names())}, "
            "or give gymnasium:ID or metaworld:NAME"
        )
    return name


def make_env(task: str, **settings: Any) -> gymnasium.Env:
    """The env of a task; the module before the colon registers it, also in a fresh worker process."""
    if is_outside(task):
        return make_outside(task, **settings)
    return gymnasium.make(f"{envs.__name__}:{NAMESPACE}{task}", disable_env_checker=True, **settings)
