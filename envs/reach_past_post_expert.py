"""The analytic expert of "reach past a post": tangent steering, on a side that it picks at random."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from envs.arm import EFFECTIVE_MASS
from envs.reach_past_post import ReachPastPost
from envs.steering import tangent

CLEARANCE = 0.115  # metres between the axis of the post and the path of the load's centre
RESPONSE_TIME = 0.07  # seconds in which a velocity error is corrected
ARRIVAL_RATE = 5.0  # 1/s: speed per metre of distance when arriving
CLIMB_SPEED = 0.4  # m/s, largest vertical speed


class Expert:
    """Heads for the goal; near the post it steers along the tangent, left or right, as it drew at random.

    What it draws (side, speed, where it decides) is fixed for an episode and not visible in the observation.
    """

    def __init__(self, random: np.random.Generator) -> None:
        self.side = 1.0 if random.random() < 0.5 else -1.0
        self.mode = "left" if self.side > 0 else "right"
        self.speed = random.uniform(0.8, 1.1)  # m/s
        self.decision_distance = random.uniform(0.2, 0.3)  # metres to the axis of the post

    def act(self, env: ReachPastPost) -> Float[np.ndarray, "3"]:
        """The action for the true state of `env` (no noise), in [-1, 1]."""
        position = env.position
        to_goal = env.goal - position
        distance = float(np.linalg.norm(to_goal))
        heading = self._heading(env.post - position[:2], to_goal[:2], env.velocity[:2])
        speed = min(self.speed, ARRIVAL_RATE * distance)
        wanted = np.empty(3)
        if np.linalg.norm(to_goal[:2]) < 0.06:  # arriving: no heading left to follow
            wanted[:2] = ARRIVAL_RATE * to_goal[:2]
        else:
            wanted[:2] = speed * heading
        wanted[2] = np.clip(ARRIVAL_RATE * to_goal[2], -CLIMB_SPEED, CLIMB_SPEED)
        force = EFFECTIVE_MASS * (wanted - env.velocity) / RESPONSE_TIME
        return np.clip(env.action_for_force(force), -1.0, 1.0)

    def _heading(self, to_post: np.ndarray, to_goal: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """Unit direction in the plane: straight for the goal, or along a tangent round the post."""
        straight = to_goal / (np.linalg.norm(to_goal) + 1e-9)
        ahead = float(to_post @ straight)
        offset = float(straight[0] * to_post[1] - straight[1] * to_post[0])  # > 0: the post is to the left
        blocked = abs(offset) < CLEARANCE and 0.0 < ahead < float(np.linalg.norm(to_goal))
        distance = float(np.linalg.norm(to_post))
        if not blocked or distance > self.decision_distance:
            return straight
        side = self._feasible_side(offset, to_post, velocity)
        return tangent(to_post, side, CLEARANCE)

    def _feasible_side(self, offset: float, to_post: np.ndarray, velocity: np.ndarray) -> float:
        """The drawn side (+1 left, -1 right), unless the load is already going past on the other one."""
        sideways = float(velocity[0] * to_post[1] - velocity[1] * to_post[0]) / np.linalg.norm(to_post)
        # metres right of the axis at which the load would pass, a quarter of a second on
        miss = offset + 0.25 * sideways
        if abs(miss) > 0.06:
            return -1.0 if miss > 0 else 1.0
        return self.side
