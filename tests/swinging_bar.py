"""The swinging bar without disturbances, and its load and bar where a test wants them."""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's names come from compiled modules that tell a type checker nothing.

from __future__ import annotations

import mujoco
import numpy as np

from envs.arm import solve_pose
from envs.card import Control
from envs.swinging_bar import SwingingBar


def still(control: Control = "force", amplitude: float = 0.8) -> SwingingBar:
    """A reset env without disturbances."""
    env = SwingingBar(control=control, disturbances=False, amplitude=amplitude)
    env.reset(seed=0)
    return env


def place(env: SwingingBar, position: np.ndarray, angle: float = 0.0, rate: float = 0.0) -> None:
    """Put the load, at rest, and the bar where they are wanted."""
    solve_pose(env.model, env.data, position)
    env.data.qvel[:] = 0.0
    env.data.qpos[env._bar_q], env.data.qvel[env._bar_v] = angle, rate
    mujoco.mj_forward(env.model, env.data)
