"""What `rollforward` looks ahead with: a copy of the task, or the dynamics beside the policy."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from envs.outside import is_outside
from envs.task import ArmTask
from policies.checkpoint import DYNAMICS, find_dynamics, load_dynamics
from rtc.errors import Unsupported
from rtc.runtime.strategies import Learned, Rollforward, Simulator, WorldModel


def check_copied(task: str, name: str) -> None:
    """Raise Unsupported, for strategy `name`, where the simulator of the task cannot be copied."""
    if is_outside(task):
        raise Unsupported(
            f"{task} cannot be copied to look ahead in: leave {name} out, or take what needs no copy "
            "(rollforward:model=learned)"
        )


def predict_obs(env: gymnasium.Env, actions: np.ndarray) -> np.ndarray:
    """What would be observed after `actions`, without noise or surprise."""
    task = env.unwrapped
    assert isinstance(task, ArmTask), "every task of ours is one"
    return task.predict_obs(actions)


def simulator(folder: Path, task: str, **options: Any) -> WorldModel:
    """A copy of the task, whatever the policy; raises Unsupported where that cannot be."""
    check_copied(task, Rollforward.name)
    return Simulator(predict_obs, **options)


@lru_cache(maxsize=4)
def learned(folder: Path, task: str) -> WorldModel:
    """The dynamics that serve the policy in `folder`, loaded once a process.

    Raises Unsupported where there are none, CheckpointError for those of another task.
    """
    place = find_dynamics(folder)
    if place is None:
        raise Unsupported(
            f"there are no learned dynamics for the policy in {folder}; train them with "
            f"`rtc train-dynamics --data DATA --out {folder / DYNAMICS}`, or look ahead in a copy of the "
            "simulator (model=simulator)"
        )
    return Learned(load_dynamics(place, task))


LOOKING: dict[str, Callable[..., WorldModel]] = {"simulator": simulator, "learned": learned}
"""How each of WORLD_MODELS is made for the policy in a folder, and a task."""
