"""The expert of "tray": round the post on a side drawn at random, the ball balanced by linear feedback."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from envs.steering import Plane, tangent
from envs.tray import TILT_LIMIT, Tray

CLEARANCE = 0.175  # metres between the axis of the post and the path of the tray's centre
SPEED = {"force": (0.6, 0.75), "position": (0.42, 0.525)}  # m/s, of which an episode has one
ARRIVAL_RATE = 2.0  # 1/s: speed per metre of distance when arriving
CLIMB_SPEED = 0.3  # m/s, largest vertical speed
CLIMB_GAIN = 80.0  # N s/m
SPEED_ERROR = 0.6  # m/s, the most by which the feedback is told that the tray is too slow or too fast
DECIDED = 0.03  # metres off the axis of the post at which the tray would pass: enough to be on its way
FORESIGHT = 0.4  # seconds from now at which that is judged
# Linear-quadratic regulators, along x and along y, of a linear model fitted to random motions under forces.
# Rows: force on the tray (N), its lean (rad); weights 0.025 and 3. Columns: error of the tray's speed (m/s),
# place (m) and speed (m/s) of the ball on it, lean (rad) and its rate (rad/s); weights 3, 10, 2, 3 and 0.3.
GAINS = np.array(
    [
        [[77.8, -93.1, -23.6, 90.2, 16.7], [0.329, 1.325, 0.610, 0.370, 0.043]],
        [[73.8, -66.7, -11.3, 99.6, 10.7], [0.427, 2.289, 0.834, 0.632, 0.052]],
    ]
)


class Expert:
    """Heads for the goal round the post, left or right, as it drew, and keeps the ball in the middle.

    What it draws (side, speed, where it decides) is fixed for an episode and not visible in the observation.
    """

    def __init__(self, random: np.random.Generator) -> None:
        self.side = 1.0 if random.random() < 0.5 else -1.0
        self.mode = "left" if self.side > 0 else "right"
        self.haste = random.uniform()  # 0: the slowest, 1: the fastest
        self.decision_distance = random.uniform(0.28, 0.36)  # metres to the axis of the post

    def act(self, env: Tray) -> Float[np.ndarray, "5"]:
        """The action for the true state of `env` (no noise), in [-1, 1]."""
        position, velocity = env.position, env.velocity
        to_goal = env.goal - position
        slow, fast = SPEED[env.control]
        speed = slow + (fast - slow) * self.haste
        error = velocity[:2] - speed * self._course(env.post - position[:2], to_goal[:2], velocity[:2], speed)
        error *= min(1.0, SPEED_ERROR / (math.hypot(error[0], error[1]) + 1e-9))
        place, roll_speed, tilt, rate = env.ball()
        # a lean is positive where the ball rolls towards +x or +y
        state = np.array(
            [
                [error[0], place[0], roll_speed[0], tilt[1], rate[1]],
                [error[1], place[1], roll_speed[1], -tilt[0], -rate[0]],
            ]
        )
        (force_x, lean_x), (force_y, lean_y) = -(GAINS @ state[:, :, None])[:, :, 0]
        climb = np.clip(ARRIVAL_RATE * to_goal[2], -CLIMB_SPEED, CLIMB_SPEED)
        force = np.array([force_x, force_y, CLIMB_GAIN * (climb - velocity[2])])
        action = np.empty(5)
        action[:3] = env.action_for_force(force)
        action[3:] = -lean_y / TILT_LIMIT, lean_x / TILT_LIMIT
        return np.clip(action, -1.0, 1.0)

    def _course(self, to_post: Plane, to_goal: Plane, velocity: Plane, speed: float) -> Plane:
        """Where to go in the plane, of length 1 at `speed`: to the goal, or on a tangent round the post."""
        left = math.hypot(to_goal[0], to_goal[1])
        straight = to_goal / (left + 1e-9)
        ahead = float(to_post @ straight)
        offset = float(straight[0] * to_post[1] - straight[1] * to_post[0])  # > 0: the post is to the left
        distance = math.hypot(to_post[0], to_post[1])
        blocked = abs(offset) < CLEARANCE and 0.0 < ahead < left
        if not blocked or distance > self.decision_distance:
            return straight * min(1.0, ARRIVAL_RATE * left / speed)
        astray = float(velocity[0] * straight[1] - velocity[1] * straight[0])  # m/s to the right
        side = self._feasible_side(offset + FORESIGHT * astray)
        return tangent(to_post, side, CLEARANCE)

    def _feasible_side(self, miss: float) -> float:
        """The drawn side (+1 left, -1 right), unless the tray is going past on the other one.

        miss: how far right of the post's axis it would pass if it did not steer, metres.
        """
        if abs(miss) > DECIDED:
            return -1.0 if miss > 0 else 1.0
        return self.side
