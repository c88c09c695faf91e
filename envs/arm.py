"""The arm that every task shares: its model, its poses, and the rates of physics and control."""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's names come from compiled modules that tell a type checker nothing.

from __future__ import annotations

from functools import cache
from pathlib import Path

import mujoco
import numpy as np
from jaxtyping import Float

from envs.card import Control
from rtc.errors import InvalidArgument, Unsupported

OLDEST = (3, 11)  # MuJoCo in which the tasks are what they are
PHYSICS_HZ = 500
CONTROL_HZ = 50
JOINTS = 7
HOME = np.array([0.0, -0.3, 0.0, -2.36, 0.0, 2.05, 0.0])  # joint angles, radians: hand down, elbow up
SPRING, DAMPING = 400.0, 85.0  # N/m and N s/m of position control (assets/drive_position.xml)
DRAG = 120.0  # N s/m of velocity control (assets/drive_velocity.xml)
# kg along x, y, z, that a force on the load moves near the middle of the table: a tool of 2 kg, and the arm
EFFECTIVE_MASS = np.array([5.0, 4.2, 6.0])

ASSETS = Path(__file__).parent / "assets"
Vector = Float[np.ndarray, "3"]


@cache
def load_model(task: str, control: Control) -> mujoco.MjModel:
    """Compile a task's model once per process; it is read-only and shared by all its environments.

    It is made of the room, its cameras, `assets/<task>/scene.xml`, the arm with `assets/<task>/tool.xml` in
    its hand, and the drive; a file of the task stands in for the shared one of the same name. What moves in
    the scene has its joints before the arm's.
    Raises Unsupported with a MuJoCo in which these tasks are others.
    """
    _check_version(mujoco.__version__)
    drive = f"drive_{control}.xml"
    names = ("room.xml", "cameras.xml", "scene.xml", "arm.xml", drive)
    includes = "".join(f'<include file="{name}"/>' for name in names)
    parts = [*sorted(ASSETS.glob("*.xml")), *sorted((ASSETS / task).glob("*.xml"))]
    return mujoco.MjModel.from_xml_string(
        f'<mujoco model="{task}_{control}">{includes}</mujoco>',
        {part.name: part.read_bytes() for part in parts},
    )


def _check_version(version: str) -> None:
    """Raise Unsupported for a MuJoCo before OLDEST.

    It has no moving surfaces for the belt; and the servos of the hand differ, so that with 3.3 the expert of
    "reach past a post" fails more often than not.
    """
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise Unsupported(
            f"the tasks need MuJoCo {'.'.join(map(str, OLDEST))} or newer, and {version} is installed: "
            "pip install -U mujoco (environments from outside run with this one)"
        )


def solve_pose(model: mujoco.MjModel, data: mujoco.MjData, position: Vector) -> None:
    """Move the joints so that the load is at `position` (metres, world) with the hand upright.

    Damped Newton steps on position and orientation, from HOME. Raises InvalidArgument when out of reach.
    """
    site = model.site("load").id
    first_q, first_v = model.joint("joint1").qposadr[0], model.joint("joint1").dofadr[0]
    arm_q, arm_v = slice(first_q, first_q + JOINTS), slice(first_v, first_v + JOINTS)
    jacobian = np.zeros((6, model.nv))
    error = np.zeros(6)
    quaternion = np.zeros(4)
    data.qpos[arm_q] = HOME
    for _ in range(30):
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], site)
        error[:3] = position - data.site_xpos[site]
        mujoco.mju_mat2Quat(quaternion, data.site_xmat[site].reshape(3, 3).T.ravel())
        mujoco.mju_quat2Vel(error[3:], quaternion, 1.0)
        if np.abs(error).max() < 1e-6:
            return
        arm = jacobian[:, arm_v]
        data.qpos[arm_q] += arm.T @ np.linalg.solve(arm @ arm.T + 1e-6 * np.eye(6), error)
    raise InvalidArgument(
        f"the arm cannot hold its load at {np.round(position, 3)} m; "
        "its reach is about 0.3 to 0.7 m from the base"
    )
