"""The analytic expert of "swinging bar": through the plane while the bar leans to a side picked at random."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from envs.arm import EFFECTIVE_MASS, Vector
from envs.swinging_bar import AXLE, PERIOD, SWING_RATE, SwingingBar

RESPONSE_TIME = 0.055  # seconds in which a velocity error is corrected
ARRIVAL_RATE = 5.0  # 1/s: speed per metre of distance when arriving
SIDEWAYS_SPEED = 0.4  # m/s, largest speed along x and z
TIMING_RATE = 6.0  # 1/s: speed per metre by which the load is behind its time
BACKING = 0.4  # m/s, largest speed back from the bar
FASTEST = {"force": 1.3, "position": 1.9}  # m/s towards the bar
RAMP = 0.08  # seconds in which a commanded place moves from before the bar to the goal
EARLY = 0.04  # seconds before the bar's extreme at which the load should pass
LATEST = 0.08  # seconds after that at which it still may
LEAN = 0.03  # metres by which the load keeps to the side that the bar has left
BRAKING = 10.0  # m/s2
CLEARANCE = 0.07  # metres from the plane at which a load is out of the bar's way
COMMITTED = 0.21  # metres before the plane within which the next gap is taken, whichever it is


class Expert:
    """Passes the plane when the bar is at one extreme, left or right, as it drew at random.

    That is this swing or the next, whichever comes first; until then it stands back. If the load has already
    set out for the other gap, it goes along. What it draws (side, speed, where it stands) is fixed for an
    episode and not visible in the observation.
    """

    def __init__(self, random: np.random.Generator) -> None:
        self.side = -1.0 if random.random() < 0.5 else 1.0
        self.mode = "bar left" if self.side < 0 else "bar right"
        self.speed = random.uniform(0.9, 1.1)  # m/s
        self.standing = random.uniform(0.23, 0.27)  # metres before the plane

    def act(self, env: SwingingBar) -> Float[np.ndarray, "3"]:
        """The action for the true state of `env` (no noise), in [-1, 1]."""
        ahead, speed = -float(env.position[1]), float(env.velocity[1])
        # seconds to the plane, at the earliest
        arrival = RESPONSE_TIME + (ahead - speed * RESPONSE_TIME) / FASTEST[env.control]
        wait, side = self._choose(ahead, speed, arrival, *env.bar)
        target = env.goal.copy()
        if ahead > -CLEARANCE:
            target[0] = AXLE - side * LEAN
        if env.control == "position":
            action = env.drive.action(self._place(target, ahead, wait - arrival))
        else:
            action = env.action_for_force(self._force(env, target, ahead, wait))
        return np.clip(action, -1.0, 1.0)

    def _place(self, target: Vector, ahead: float, spare: float) -> Vector:
        """Where the load should be drawn: to the goal once there is no time to spare, else before the bar."""
        if ahead > CLEARANCE:
            target[1] -= (target[1] + self.standing) * np.clip(spare / RAMP, 0.0, 1.0)
        return target

    def _force(self, env: SwingingBar, target: Vector, ahead: float, wait: float) -> Vector:
        """The force towards the target, in newton: in the plane in `wait` seconds, or standing back."""
        limit = np.array([SIDEWAYS_SPEED, self.speed, SIDEWAYS_SPEED])
        wanted = np.clip(ARRIVAL_RATE * (target - env.position), -limit, limit)
        if ahead > 0.0:
            in_time = self.speed + TIMING_RATE * (ahead - self.speed * wait)
            standing = ARRIVAL_RATE * (ahead - self.standing)
            wanted[1] = np.clip(max(in_time, standing), -BACKING, FASTEST["force"])
        return EFFECTIVE_MASS * (wanted - env.velocity) / RESPONSE_TIME

    def _choose(
        self, ahead: float, speed: float, arrival: float, angle: float, rate: float
    ) -> tuple[float, float]:
        """Seconds until the load should be in the plane, and the side to which the bar leans then."""
        phase = float(np.arctan2(SWING_RATE * angle, rate))
        stopping = speed * RESPONSE_TIME + speed * abs(speed) / (2 * BRAKING)
        if ahead - stopping < CLEARANCE:  # too late to stop: the gap nearest in time
            gaps = [(_gap(side, phase, arrival, PERIOD / 2), side) for side in (-1.0, 1.0)]
            return min(gaps, key=lambda gap: abs(gap[0] - arrival))
        left, right = ((_gap(side, phase, arrival, LATEST), side) for side in (-1.0, 1.0))
        if ahead < COMMITTED:
            return min(left, right)
        return right if self.side > 0 else left


def _gap(side: float, phase: float, arrival: float, latest: float) -> float:
    """Seconds to the first gap on this side which a load that comes after `arrival` misses by `latest`."""
    first = arrival - latest
    return first + ((side * np.pi / 2 - phase) / SWING_RATE - EARLY - first) % PERIOD
