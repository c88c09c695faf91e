"""The arm that every task shares: physics at 500 Hz, control at 50 Hz, poses, contacts, pictures."""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's names come from compiled modules that tell a type checker nothing.

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import gymnasium
import mujoco
import numpy as np
from jaxtyping import Float

from envs.render import SceneRenderer
from rtc.errors import InvalidArgument

PHYSICS_HZ = 500
CONTROL_HZ = 50
HOME = np.array([0.0, -0.3, 0.0, -2.36, 0.0, 2.05, 0.0])  # joint angles, radians: hand down, elbow up

Vector = Float[np.ndarray, "3"]
Control: TypeAlias = Literal["force", "position"]
"""What an action commands: a force on the load, or where a servo draws it."""


@cache
def load_model(asset: str) -> mujoco.MjModel:
    """Compile `assets/<asset>.xml` once per process; a model is read-only and shared by all environments."""
    return mujoco.MjModel.from_xml_path(str(Path(__file__).parent / "assets" / f"{asset}.xml"))


def solve_pose(model: mujoco.MjModel, data: mujoco.MjData, position: Vector) -> None:
    """Move the joints so that the load is at `position` (metres, world) with the hand upright.

    Damped Newton steps on position and orientation, from HOME. Raises InvalidArgument when out of reach.
    """
    site = model.site("load").id
    jacobian = np.zeros((6, model.nv))
    error = np.zeros(6)
    quaternion = np.zeros(4)
    data.qpos[:] = HOME
    for _ in range(30):
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], site)
        error[:3] = position - data.site_xpos[site]
        mujoco.mju_mat2Quat(quaternion, data.site_xmat[site].reshape(3, 3).T.ravel())
        mujoco.mju_quat2Vel(error[3:], quaternion, 1.0)
        if np.abs(error).max() < 1e-6:
            return
        data.qpos += jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-6 * np.eye(6), error)
    raise InvalidArgument(
        f"the arm cannot hold its load at {np.round(position, 3)} m; "
        "its reach is about 0.3 to 0.7 m from the base"
    )


class ArmTask(gymnasium.Env):
    """Base of the tasks: a 3-number action drives the load; subclasses say where things are and what counts.

    A subclass sets `observation_space`, implements `reset` and `step`, and calls `_advance` once a tick.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (declared so by Gymnasium)
        "render_modes": ["rgb_array"],
        "render_fps": CONTROL_HZ,
        "control_hz": CONTROL_HZ,
    }

    def __init__(
        self, asset: str, control: Control, render_mode: str | None, image_size: tuple[int, int]
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise InvalidArgument(f"render_mode is {render_mode!r}; it can be None or 'rgb_array'")
        self.model = load_model(f"{asset}_{control}")
        self.data = mujoco.MjData(self.model)
        self.control: Control = control
        self.render_mode = render_mode
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)
        self._load_body = self.model.body("load").id
        self._load_site = self.model.site("load").id
        self._post_geom = self.model.geom("post").id
        self._first_driver = self.model.nu - 3  # the last three actuators drive the load
        self._renderer: SceneRenderer | None = None
        self._image_size = image_size
        self._planned = self._frozen = None

    @property
    def position(self) -> Vector:
        """The load's position, metres, world axes, without noise."""
        return self.data.site_xpos[self._load_site].copy()

    @property
    def velocity(self) -> Vector:
        """The load's velocity, m/s, world axes, without noise."""
        velocity = np.zeros(6)
        site = int(mujoco.mjtObj.mjOBJ_SITE)
        mujoco.mj_objectVelocity(self.model, self.data, site, self._load_site, velocity, 0)
        return velocity[3:]

    def _mocap(self, name: str, position: Vector) -> None:
        self.data.mocap_pos[self.model.body(name).mocapid[0]] = position

    def _advance(self, command: Vector, push: Vector) -> bool:
        """Hold `command` and `push` (newton on the load) for one control tick; whether the post was touched.

        Contacts are looked at in every physics step: a touch may come and go within a tick.
        """
        self.data.ctrl[self._first_driver :] = command
        self.data.xfrc_applied[self._load_body, :3] = push
        touched = False
        for _ in range(PHYSICS_HZ // CONTROL_HZ):
            mujoco.mj_step(self.model, self.data)
            if self.data.ncon:
                touched = touched or bool((self.data.contact.geom == self._post_geom).any())
        # mj_step leaves positions one step behind the joints; bring them up to date for the observation
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_comVel(self.model, self.data)
        return touched

    def draw_plan(
        self, planned: Float[np.ndarray, "k 3"] | None, frozen: Float[np.ndarray, "m 3"] | None = None
    ) -> None:
        """Set the dots that `render` draws: planned positions, and frozen (committed) ones apart."""
        self._planned, self._frozen = planned, frozen

    def render(self) -> np.ndarray:
        """A picture of the scene, uint8 [height, width, 3].

        Raises RenderUnavailable without a rendering backend, InvalidArgument without a render mode.
        """
        if self.render_mode != "rgb_array":
            raise InvalidArgument("render() needs render_mode='rgb_array': pass it to gymnasium.make")
        if self._renderer is None:
            self._renderer = SceneRenderer(self.model, *self._image_size)
        return self._renderer.draw(self.data, self._planned, self._frozen)

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
