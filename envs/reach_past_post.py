"""Reach past a post: an arm carries a load past a post, on either side, to a goal, and holds it there."""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's names come from compiled modules that tell a type checker nothing.

from __future__ import annotations

from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.utils import EzPickle
from jaxtyping import Float

from envs.arm import CONTROL_HZ, ArmTask, Control, Vector, solve_pose
from rtc.errors import InvalidArgument

MAX_FORCE = 60.0  # newton, an action of 1 in force control
TARGET_CENTRE = np.array([0.5, 0.0, 0.25])  # metres, an action of 0 in position control
TARGET_RANGE = np.array([0.3, 0.45, 0.25])  # metres, an action of 1 in position control
SPRING, DAMPING = 400.0, 85.0  # N/m and N s/m of the position servo (assets/reach_past_post_position.xml)

GOAL_RADIUS = 0.04  # metres
HOLD_TICKS = CONTROL_HZ // 5  # 0.2 s inside the goal region
TIME_LIMIT = 3 * CONTROL_HZ  # ticks

FORCE_NOISE = 4.0  # newton, standard deviation on each axis, new every tick
POSITION_NOISE = 0.002  # metres, of the observed positions
VELOCITY_NOISE = 0.01  # m/s, of the observed velocity
JOINT_NOISE = 0.002  # radians, of the observed joint angles
OBS_LIMIT = 10.0  # in any unit: out of reach, faster than the pushes, beyond the joints
PUSH_CHANCE = 0.02  # chance of a push in a tick
PUSH_IMPULSE = 1.5  # newton-seconds in a random direction, given within one tick


class ReachPastPost(ArmTask, EzPickle):
    """Carry a 2 kg load past a post to a goal and hold it there for 0.2 s without touching the post.

    ```
                     goal o          x = 0.42 .. 0.58, y = 0.22 .. 0.30, z = 0.14 .. 0.26
                 .--'    '--.
           left (  post (o)  ) right      either side will do; the start does not say which
                 '--.    .--'
                    start x          x = 0.42 .. 0.58, y = -0.30 .. -0.22, z = 0.14 .. 0.26
    ```

    Observation, float32 [18]: load position (3, m), load velocity (3, m/s), goal minus load (3, m), post
    minus load (x and y, m), joint angles (7, rad); with Gaussian noise of 2 mm, 1 cm/s and 2 mrad.
    Action, float32 [3] in [-1, 1], held for one 50 Hz tick: `control="force"` is a force of up to 60 N on
    the load along each world axis (gravity is compensated, nothing else holds the load);
    `control="position"` is a target position that a spring and a damper track, the quasi-static twin.
    Gaussian noise of 4 N acts on the load at every tick, and with a chance of 2 % a tick a push of 1.5 N s
    in a random direction.
    Reward: the progress towards the goal in units of the first distance, +1 on success, -1 on collision.
    The episode terminates on success or collision and is truncated after 3 s.
    `disturbances=False` switches all noise and pushes off.
    A pickle holds the arguments, not the episode: what is unpickled must be reset.
    """

    def __init__(
        self,
        control: Control = "force",
        render_mode: str | None = None,
        disturbances: bool = True,
        image_size: tuple[int, int] = (480, 640),
    ) -> None:
        EzPickle.__init__(self, control, render_mode, disturbances, image_size)
        if control not in ("force", "position"):
            raise InvalidArgument(f"control is {control!r}; it can be 'force' or 'position'")
        super().__init__("reach_past_post", control, render_mode, image_size)
        self.observation_space = gymnasium.spaces.Box(-OBS_LIMIT, OBS_LIMIT, (18,), np.float32)
        self.disturbances = disturbances
        # What a robot without an action does: a target can be held, a force must not go on pushing.
        self.metadata = self.metadata | {"starvation": "zero" if control == "force" else "hold"}
        self.goal = np.zeros(3)
        self.post = np.zeros(2)
        self._imagined: ReachPastPost | None = None
        self._tick = self._held = 0
        self._first_distance = self._distance = 1.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict]:
        """Draw start, post and goal; the load is at rest."""
        super().reset(seed=seed)
        random = self.np_random
        start = random.uniform([0.42, -0.30, 0.14], [0.58, -0.22, 0.26])
        self.goal = random.uniform([0.42, 0.22, 0.14], [0.58, 0.30, 0.26])
        middle = (start[0] + self.goal[0]) / 2
        self.post = np.array([middle, 0.0]) + random.uniform([-0.03, -0.03], [0.03, 0.03])
        mujoco.mj_resetData(self.model, self.data)
        solve_pose(self.model, self.data, start)
        self._place()
        mujoco.mj_forward(self.model, self.data)
        self._tick = self._held = 0
        self._first_distance = self._distance = float(np.linalg.norm(self.goal - self.position))
        self.draw_plan(None)
        return self._observe(), self._info(None)

    def _place(self) -> None:
        self._mocap("goal", self.goal)
        self._mocap("post", np.array([*self.post, 0.0]))

    def step(self, action: Float[np.ndarray, "..."]) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Advance one 20 ms tick with an action [3], clipped to [-1, 1].

        Raises InvalidArgument for an action of another shape, or one that is not finite.
        """
        action = np.asarray(action, np.float64)
        if action.shape != (3,) or not np.isfinite(action).all():
            raise InvalidArgument(
                f"ReachPastPost takes 3 finite numbers in [-1, 1] as an action; "
                f"it was given shape {action.shape}: {action}"
            )
        collided = self._advance(*self._commands(action))
        self._tick += 1
        before, self._distance = self._distance, float(np.linalg.norm(self.goal - self.position))
        self._held = self._held + 1 if self._distance <= GOAL_RADIUS else 0
        success = not collided and self._held >= HOLD_TICKS
        truncated = not (collided or success) and self._tick >= TIME_LIMIT
        reward = (before - self._distance) / self._first_distance + float(success) - float(collided)
        failure = "collision" if collided else "timeout" if truncated else None
        return self._observe(), reward, collided or success, truncated, self._info(failure, success)

    def _commands(self, action: Vector) -> tuple[Vector, Vector]:
        """What the actuators are told, and the disturbing force on the load, newton."""
        action = np.clip(action, -1.0, 1.0)
        command = action * MAX_FORCE if self.control == "force" else TARGET_CENTRE + TARGET_RANGE * action
        push = np.zeros(3)
        if self.disturbances:
            push = FORCE_NOISE * self.np_random.standard_normal(3)
            if self.np_random.random() < PUSH_CHANCE:
                direction = self.np_random.standard_normal(3)
                push += PUSH_IMPULSE * CONTROL_HZ * direction / np.linalg.norm(direction)
        return command, push

    def _observe(self) -> np.ndarray:
        position, velocity, joints = self.position, self.velocity, self.data.qpos.copy()
        if self.disturbances:
            noise = self.np_random.standard_normal(13)
            position += POSITION_NOISE * noise[:3]
            velocity += VELOCITY_NOISE * noise[3:6]
            joints += JOINT_NOISE * noise[6:]
        parts = (position, velocity, self.goal - position, self.post - position[:2], joints)
        return np.clip(np.concatenate(parts), -OBS_LIMIT, OBS_LIMIT).astype(np.float32)

    def _info(self, failure: str | None, success: bool = False) -> dict[str, Any]:
        return {"is_success": success, "failure": failure, "position": self.position}

    @staticmethod
    def target_action(target: Vector) -> Vector:
        """The action of position control that asks for `target` (metres); outside [-1, 1] if out of range."""
        return (target - TARGET_CENTRE) / TARGET_RANGE

    def imagine(self) -> ReachPastPost:
        """A copy of this moment without disturbances, to look ahead in; the next call reuses the same copy.

        Its time limit and its hold begin anew.
        """
        if self._imagined is None:
            self._imagined = ReachPastPost(control=self.control, disturbances=False)
        other = self._imagined
        mujoco.mj_copyData(other.data, self.model, self.data)
        other.goal, other.post = self.goal, self.post
        other._tick, other._held = 0, 0
        other._first_distance, other._distance = self._first_distance, self._distance
        return other

    def predict_positions(self, actions: Float[np.ndarray, "k 3"]) -> Float[np.ndarray, "k 3"]:
        """Where the load would be after each of `actions`, metres, if nothing disturbed it."""
        imagined = self.imagine()
        positions = np.zeros((len(actions), 3))
        for index, action in enumerate(actions):
            imagined._advance(*imagined._commands(np.asarray(action, np.float64)))
            positions[index] = imagined.position
        return positions
