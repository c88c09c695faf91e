"""The analytic expert of the conveyor: follows one of the handles, comes down on it, grips it, lifts."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from envs.arm import EFFECTIVE_MASS, Vector
from envs.conveyor import Conveyor

# seconds in which a velocity error is corrected; a place can be held, so there is less haste with places
RESPONSE_TIME = {"velocity": 0.03, "position": 0.07}
RATE = {"velocity": 18.0, "position": 9.0}  # 1/s: speed per metre of distance
SINK_SPEED, LIFT_SPEED = 0.5, 0.4  # m/s
GRIP_GAP = 0.02  # metres: a gap less than this with a handle in it is a grip


class Expert:
    """Goes to the front or the rear handle, as it drew at random, and picks the bar by it.

    What it draws (handle, speed, height of approach) is fixed for an episode and in no observation.
    """

    def __init__(self, random: np.random.Generator) -> None:
        self.handle = 0 if random.random() < 0.5 else 1
        self.mode = ("front", "rear")[self.handle]
        self.speed = random.uniform(0.7, 1.0)  # m/s, relative to the belt
        self.hover = random.uniform(0.045, 0.06)  # metres above the place of gripping

    def act(self, env: Conveyor) -> Float[np.ndarray, "4"]:
        """The action for the true state of `env` (no noise), in [-1, 1]."""
        to_handles, velocity = env.handles - env.position, env.velocity
        to_handle = to_handles[self._feasible_handle(to_handles, float(velocity[1]) - env.belt_speed)]
        beside = float(np.hypot(0.5 * to_handle[0], to_handle[1]))  # along x the open fingers leave more room
        gripped = env.gap < GRIP_GAP and abs(to_handle[1]) < 0.018 and abs(to_handle[2]) < 0.02
        if gripped:
            wanted, closed = np.array([0.0, 0.0, LIFT_SPEED]), 1.0
        else:
            wanted = self._approach(to_handle, beside, RATE[env.control])
            low = float(np.clip((to_handle[2] + 0.016) / 0.006, 0.0, 1.0))
            closed = low * float(np.clip((0.016 - beside) / 0.006, 0.0, 1.0))
        wanted[1] += env.belt_speed
        force = EFFECTIVE_MASS * (wanted - velocity) / RESPONSE_TIME[env.control]
        return np.clip(np.append(env.action_for_force(force), self._fingers(env, closed)), -1.0, 1.0)

    def _approach(self, to_handle: Vector, beside: float, rate: float) -> Vector:
        """The velocity relative to the belt: towards the handle, and down on it when it is below."""
        wanted = rate * to_handle
        wanted[:2] *= min(1.0, self.speed / (float(np.linalg.norm(wanted[:2])) + 1e-9))
        above = self.hover * np.clip((beside - 0.008) / 0.015, 0.0, 1.0)
        wanted[2] = np.clip(wanted[2] + rate * above, -SINK_SPEED, LIFT_SPEED)
        return wanted

    def _fingers(self, env: Conveyor, closed: float) -> float:
        """The number of the action that moves the pads: together (1), or open (0)."""
        if env.control == "position":
            return 0.8 - 1.8 * closed
        reopening = float(np.clip((0.05 - env.gap) / 0.01, 0.0, 1.0))
        return reopening * (1.0 - closed) - closed

    def _feasible_handle(self, to_handles: Float[np.ndarray, "2 3"], speed: float) -> int:
        """The drawn one, unless the hand is low at one, or keeps above it (`speed`: relative to the belt)."""
        nearer = int(np.argmin(np.abs(to_handles[:, 1])))
        near = abs(to_handles[nearer, 1]) < 0.03
        committed = near and (abs(speed) < 0.15 or to_handles[nearer, 2] > -0.035)
        return nearer if committed else self.handle
