"""Meta-World's tasks and scripted experts (Yu et al. 2020, arXiv 1910.10897; version 3 of the package).

Its world stands still while the robot thinks: a control, not a benchmark of delay. 80 Hz; an action moves the
hand by up to 1 cm along x, y, z and closes the gripper; an observation is 39 numbers, the last two frames of
hand and objects, and the goal.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float

from rtc.errors import InvalidArgument


class SeededReset(gymnasium.Wrapper):
    """Meta-World's own `reset` ignores its seed."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Draw objects and goal anew, from `seed` if given."""
        if seed is not None:
            self.unwrapped.seed(seed)  # type: ignore[attr-defined]
        return self.env.reset()


def make_meta_world(name: str, render_mode: str | None = None) -> gymnasium.Env:
    """Task `name`, such as "reach-v3", with its goal in the observation.

    Raises InvalidArgument for an unknown name, ModuleNotFoundError where Meta-World is not installed.
    """
    tasks = importlib.import_module("metaworld.env_dict").ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE
    known = [task.removesuffix("-goal-observable") for task in tasks]
    if name not in known:
        raise InvalidArgument(f"metaworld has no task {name!r}; choose from {', '.join(known)}")
    env = tasks[f"{name}-goal-observable"](seed=0, render_mode=render_mode)
    env._freeze_rand_vec, env.seeded_rand_vec = False, True  # else it never draws anew, or from elsewhere
    made = SeededReset(env)
    # An action is a step of the hand: zeros stand still.
    made.metadata = env.metadata | {"starvation": "zero", "time_limit": env.max_path_length}
    return made


class ScriptedExpert:
    """The expert that Meta-World ships for its task `name`."""

    def __init__(self, name: str) -> None:
        self._policy = importlib.import_module("metaworld.policies").ENV_POLICY_MAP[name]()

    def act(self, obs: Any) -> Float[np.ndarray, "4"]:
        """The action for an observation [39], in [-1, 1]."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that its actions are clipped: they are, here
            return np.clip(self._policy.get_action(obs), -1.0, 1.0).astype(np.float32)
