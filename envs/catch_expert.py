"""The analytic expert of "catch": where will the ball be at the height that it drew?"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from envs.arm import Vector
from envs.catch import GRAVITY, MIDDLE, Catch

HEIGHTS = {"early": 0.48, "late": 0.24}  # metres above the table, of the mouth of the cup
FORESIGHT = 0.25  # seconds ahead at which the cup's motion tells which way it goes
DECIDED = 0.04  # metres from the middle: there it does
LEAD = 1.5  # of the way to the place: the target under position control, whose servo alone is too slow


class Expert:
    """Waits where the ball will be at one of two heights, early (high) or late (low), as it drew at random.

    What it draws (height, speed) is fixed for an episode and not visible in the observation.
    """

    def __init__(self, random: np.random.Generator) -> None:
        self.mode = "early" if random.random() < 0.5 else "late"
        self.rate = random.uniform(14.0, 18.0)  # 1/s: speed per metre of distance

    def act(self, env: Catch) -> Float[np.ndarray, "3"]:
        """The action for the true state of `env` (no noise), in [-1, 1]."""
        way = self._place(env) - env.position
        command = env.position + LEAD * way if env.control == "position" else self.rate * way
        return np.clip(env.drive.action(command), -1.0, 1.0)

    def _place(self, env: Catch) -> Vector:
        """Where the mouth of the cup should be, metres: where the ball falls through the chosen height."""
        position, ball, velocity = env.position, env.ball, env.ball_velocity
        height = HEIGHTS[self._feasible_mode(position[2], env.velocity[2])]
        if ball[2] <= height:
            return position
        seconds = (velocity[2] + math.sqrt(velocity[2] ** 2 + 2 * GRAVITY * (ball[2] - height))) / GRAVITY
        return np.array([*(ball[:2] + seconds * velocity[:2]), height])

    def _feasible_mode(self, height: float, climb: float) -> str:
        """The drawn mode, unless the cup is already on its way to the other height."""
        ahead = height + FORESIGHT * climb - MIDDLE
        if abs(ahead) > DECIDED:
            return "early" if ahead > 0 else "late"
        return self.mode
