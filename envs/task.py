"""The base of the tasks: actions, physics, observations, episodes, pictures, and looking ahead."""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's names come from compiled modules that tell a type checker nothing.

from __future__ import annotations

import copy
import importlib
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

import gymnasium
import mujoco
import numpy as np
from gymnasium.utils import EzPickle
from jaxtyping import Float, UInt8

from envs.arm import CONTROL_HZ, DAMPING, DRAG, JOINTS, PHYSICS_HZ, SPRING, Vector, load_model
from envs.card import Card, Control
from envs.render import FROZEN_COLOUR, PLANNED_COLOUR, SceneRenderer
from rtc.errors import InvalidArgument

POSITION_NOISE = 0.002  # metres, of the observed position
VELOCITY_NOISE = 0.01  # m/s, of the observed velocity
JOINT_NOISE = 0.002  # radians, of the observed joint angles
OBS_LIMIT = 10.0  # in any unit: out of reach, faster than anything here, beyond the joints
CAMERA_SIZE = 96  # pixels, of an observed image
CAMERAS = ("front", "top")
STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)  # of the physics: what a step depends on
EPISODE = ("_tick", "_held", "_touched", "_first_left", "_left")  # where every task is in its episode

Obs: TypeAlias = Any
"""An observation: its numbers, or with cameras a dict of "state" and a picture each."""

Same = TypeVar("Same", bound="ArmTask")


class Verdict(NamedTuple):
    """What a tick came to.

    good: success, if it lasts for `hold_ticks`. left: what there is still to do, in any unit; its decrease,
    as a part of what there was to do at the start, is the progress that is rewarded.
    """

    good: bool
    failure: str | None
    left: float


@runtime_checkable
class Expert(Protocol):
    """One way to do the task, with what it drew at random; `mode` names the choice that it made."""

    mode: str

    def act(self, env: Any) -> Float[np.ndarray, " action"]:
        """The action for the true state of `env` (no noise), in [-1, 1]."""
        ...


class ArmTask(gymnasium.Env, EzPickle):
    """A task of the arm; a subclass says what there is, what happens and what counts.

    ```
    card        its description                  _arrange    draw an episode (everything random about it)
    scene       its folder of assets             _observe    the numbers of card.sensors, with noise
    hold_ticks  how long success must last       _judge      what this tick came to
    moment      names of the attributes that,    _move       what the world does in a tick (optional)
                with MuJoCo's data, are its      _disturb    a push on the load, newton (optional)
                state: `imagine` copies them     _find       look up ids in the model (optional)
    ```

    An action [n] in [-1, 1] is held for one 50 Hz tick; physics runs at 500 Hz. The reward is the progress,
    +1 on success, -1 on failure. The episode terminates on success or failure, and is truncated (failure
    "timeout") at its time limit. `disturbances=False` switches off all noise and everything that could not be
    foreseen. `cameras` adds 96 px images to the observation, then a dict of "state" and the cameras.
    Further arguments are the knobs of the card. A pickle holds the arguments, not the episode.
    Raises InvalidArgument for arguments that do not exist or are out of range.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (declared so by Gymnasium)
        "render_modes": ["rgb_array"],
        "render_fps": CONTROL_HZ,
        "control_hz": CONTROL_HZ,
    }
    card: ClassVar[Card]
    scene: ClassVar[str]
    hold_ticks: ClassVar[int] = CONTROL_HZ // 5
    moment: ClassVar[tuple[str, ...]] = ()
    plan_colours: ClassVar = {"frozen": FROZEN_COLOUR, "planned": PLANNED_COLOUR}

    def __init__(
        self,
        control: Control | None = None,
        render_mode: str | None = None,
        disturbances: bool = True,
        image_size: tuple[int, int] = (480, 640),
        cameras: tuple[str, ...] = (),
        **knobs: float,
    ) -> None:
        EzPickle.__init__(self, control, render_mode, disturbances, image_size, cameras, **knobs)
        card = self.card
        self.control: Control = _one_of("control", control or next(iter(card.drives)), tuple(card.drives))
        self.render_mode = _one_of("render_mode", render_mode, (None, "rgb_array"))
        self.cameras = tuple(_one_of("cameras", name, CAMERAS) for name in cameras)
        self.knobs = card.settings(knobs)
        self.disturbances = disturbances
        self.drive = card.drives[self.control]
        self.model = load_model(self.scene, self.control)
        self.data = mujoco.MjData(self.model)
        self.metadata = self.metadata | {
            "starvation": self.drive.starvation,
            "card": card.document(self.control),
        }
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (self.drive.size,), np.float32)
        self.observation_space = self._observation_space()
        self._image_size = image_size
        self._renderer: SceneRenderer | None = None
        self._eye: SceneRenderer | None = None
        self._planned = self._frozen = None
        self._imagined: Any = None
        self._load_body, self._load_site = self.model.body("load").id, self.model.site("load").id
        self._driven = np.array([self.model.actuator(name).id for name in self.drive.actuators])
        joint = self.model.joint("joint1")
        self._arm_q = slice(joint.qposadr[0], joint.qposadr[0] + JOINTS)
        self._watched: int | None = None  # a geom; `_touched` says whether anything met it in this tick
        self._touched = False
        self._tick = self._held = 0
        self._first_left = self._left = 1.0
        self._find()

    def _observation_space(self) -> gymnasium.spaces.Space:
        state = gymnasium.spaces.Box(-OBS_LIMIT, OBS_LIMIT, (self.card.obs_dim,), np.float32)
        if not self.cameras:
            return state
        image = gymnasium.spaces.Box(0, 255, (CAMERA_SIZE, CAMERA_SIZE, 3), np.uint8)
        return gymnasium.spaces.Dict({"state": state, **dict.fromkeys(self.cameras, image)})

    # What a subclass says

    def _find(self) -> None:
        """Look up what is needed of the model, once."""

    def _arrange(self, random: np.random.Generator) -> float:
        """Draw an episode, set it up and return what there is to do in it (`Verdict.left`).

        The data are MuJoCo's defaults, and are brought up to date after.
        """
        raise NotImplementedError

    def _move(self) -> None:
        """What the world does at the begin of a tick: targets of its actuators, places of mocap bodies."""

    def _disturb(self, random: np.random.Generator) -> Vector:
        """The disturbing force on the load in this tick, newton; not called without disturbances."""
        return np.zeros(3)

    def _white_force(self, random: np.random.Generator) -> Vector:
        """What `_disturb` mostly is: a force in any direction, another one every tick, newton."""
        return self.knobs["force_noise"] * random.standard_normal(3)

    def _push(self, random: np.random.Generator, chance: float) -> Vector:
        """With this chance a push in a random direction, for one tick, newton."""
        if random.random() >= chance:
            return np.zeros(3)
        direction = random.standard_normal(3)
        return self.knobs["push_impulse"] * CONTROL_HZ * direction / np.linalg.norm(direction)

    def _judge(self) -> Verdict:
        """What the tick that has just passed came to; called once a tick."""
        raise NotImplementedError

    def _observe(self) -> np.ndarray:
        """The numbers of `card.sensors`, in order."""
        raise NotImplementedError

    # The episode

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

    def _sense(self) -> tuple[Vector, Vector, Float[np.ndarray, "7"]]:
        """What the arm measures of itself: position and velocity of the load, joint angles; with noise."""
        position, velocity, joints = self.position, self.velocity, self.data.qpos[self._arm_q].copy()
        if self.disturbances:
            noise = self.np_random.standard_normal(6 + JOINTS)
            position += POSITION_NOISE * noise[:3]
            velocity += VELOCITY_NOISE * noise[3:6]
            joints += JOINT_NOISE * noise[6:]
        return position, velocity, joints

    def _mocap(self, name: str, position: Vector) -> None:
        self.data.mocap_pos[self.model.body(name).mocapid[0]] = position

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, dict]:
        """Draw an episode."""
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        self._tick, self._held, self._touched = 0, 0, False
        self._first_left = self._left = self._arrange(self.np_random)
        mujoco.mj_forward(self.model, self.data)
        self.draw_plan(None)
        return self._see(), self._info(None, False)

    def step(self, action: Float[np.ndarray, "..."]) -> tuple[Obs, float, bool, bool, dict]:
        """Advance one 20 ms tick with an action, clipped to [-1, 1].

        Raises InvalidArgument for an action of another shape, or one that is not finite.
        """
        self.advance(action)
        good, failure, left = self._judge()
        progress, self._left = (self._left - left) / self._first_left, left
        self._held = self._held + 1 if good else 0
        success = failure is None and self._held >= self.hold_ticks
        ended = success or failure is not None
        truncated = not ended and self._tick >= round(self.card.seconds * CONTROL_HZ)
        reward = progress + float(success) - float(failure is not None)
        failure = "timeout" if truncated else failure
        return self._see(), reward, ended, truncated, self._info(failure, success)

    def advance(self, action: Float[np.ndarray, "..."]) -> None:
        """The physics of one tick, without looking at it: `step` less observation, reward and end."""
        action = np.asarray(action, np.float64)
        if action.shape != (self.drive.size,) or not np.isfinite(action).all():
            raise InvalidArgument(
                f"{type(self).__name__} takes {self.drive.size} finite numbers in [-1, 1] as an action; "
                f"it was given shape {action.shape}: {action}"
            )
        push = self._disturb(self.np_random) if self.disturbances else np.zeros(3)
        self._move()
        self.data.ctrl[self._driven] = self.drive.command(_clip(action, 1.0))
        self._physics(push)
        self._tick += 1

    def _physics(self, push: Vector) -> None:
        """One control tick; contacts are looked at in every physics step: a touch may come and go within."""
        self.data.xfrc_applied[self._load_body, :3] = push
        touched = False
        for _ in range(PHYSICS_HZ // CONTROL_HZ):
            mujoco.mj_step(self.model, self.data)
            if self._watched is not None and self.data.ncon:
                touched = touched or self._watched in self.data.contact.geom.ravel().tolist()
        self._look_up()
        self._touched = touched

    def _look_up(self) -> None:
        """Bring positions and velocities up to date with the joints: mj_step leaves them one step behind."""
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_comVel(self.model, self.data)

    def _see(self) -> Obs:
        state = _clip(self._observe(), OBS_LIMIT).astype(np.float32)
        if not self.cameras:
            return state
        if self._eye is None:
            self._eye = SceneRenderer(self.model, CAMERA_SIZE, CAMERA_SIZE, shadows=False)
        return {"state": state} | {name: self._eye.draw(self.data, camera=name) for name in self.cameras}

    def _info(self, failure: str | None, success: bool) -> dict[str, Any]:
        return {"is_success": success, "failure": failure, "position": self.position}

    # Experts and looking ahead

    def make_expert(self, random: np.random.Generator) -> Expert:
        """The task's expert, `<module>_expert.Expert`, with what it draws for an episode."""
        return importlib.import_module(f"{type(self).__module__}_expert").Expert(random)

    def action_for_force(self, force: Vector) -> Vector:
        """The first three numbers of the action that exerts `force` (newton) now, in any control mode.

        Not clipped to [-1, 1].
        """
        if self.control == "force":
            command = force
        elif self.control == "velocity":
            command = self.velocity + force / DRAG
        else:
            command = self.position + (force + DAMPING * self.velocity) / SPRING
        return self.drive.action(command)

    def imagine(self: Same) -> Same:
        """A copy of this moment without disturbances, to look ahead in; the next call reuses the copy."""
        if self._imagined is None:
            knobs: dict[str, Any] = dict(self.knobs)
            self._imagined = type(self)(control=self.control, disturbances=False, **knobs)
        other = self._imagined
        moment = np.zeros(mujoco.mj_stateSize(self.model, STATE))
        mujoco.mj_getState(self.model, self.data, moment, STATE)
        mujoco.mj_setState(other.model, other.data, moment, STATE)
        other._look_up()
        for name in (*EPISODE, *self.moment):
            setattr(other, name, copy.copy(getattr(self, name)))
        return other

    def predict_positions(self, actions: Float[np.ndarray, "k action"]) -> Float[np.ndarray, "k 3"]:
        """Where the load would be after each of `actions`, metres, if nothing disturbed it."""
        imagined = self.imagine()
        positions = np.zeros((len(actions), 3))
        for index, action in enumerate(actions):
            imagined.advance(action)
            positions[index] = imagined.position
        return positions

    def predict_obs(self, actions: Float[np.ndarray, "k action"]) -> Float[np.ndarray, " obs"]:
        """The numbers that would be observed after `actions`, without noise, if nothing disturbed it."""
        imagined = self.imagine()
        for action in actions:
            imagined.advance(action)
        return imagined._observe()

    # Pictures

    def draw_plan(
        self, planned: Float[np.ndarray, "k 3"] | None, frozen: Float[np.ndarray, "m 3"] | None = None
    ) -> None:
        """Set the dots that `render` draws: planned positions, and frozen (committed) ones apart."""
        self._planned, self._frozen = planned, frozen

    def render(self) -> UInt8[np.ndarray, "height width 3"]:
        """A picture of the scene.

        Raises RenderUnavailable without a rendering backend, InvalidArgument without a render mode.
        """
        if self.render_mode != "rgb_array":
            raise InvalidArgument("render() needs render_mode='rgb_array': pass it to gymnasium.make")
        if self._renderer is None:
            self._renderer = SceneRenderer(self.model, *self._image_size)
        return self._renderer.draw(self.data, self._planned, self._frozen)

    def close(self) -> None:
        """Free the renderers."""
        for renderer in (self._renderer, self._eye):
            if renderer is not None:
                renderer.close()
        self._renderer = self._eye = None


def _clip(values: np.ndarray, limit: float) -> np.ndarray:
    """`np.clip` to +-limit, in a fifth of its time for a few numbers."""
    return np.minimum(np.maximum(values, -limit), limit)


def _one_of(name: str, value: Any, choices: tuple) -> Any:
    if value not in choices:
        raise InvalidArgument(f"{name} is {value!r}; it can be {' or '.join(map(repr, choices))}")
    return value
