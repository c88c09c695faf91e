"""The analytic expert of "peg": follow the block, choose a hole at random, go down when above it."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from envs.arm import DAMPING, SPRING
from envs.peg import APART, HALF_WIDTH, TOP, Peg

LEFT = np.array([0.0, APART / 2])  # from the middle of the block to the left hole, metres
LEAD = DAMPING / SPRING  # seconds that a place to which the servo draws the peg at some speed lies ahead
RATE = {"velocity": 10.0, "position": 1.0 / LEAD}  # 1/s: speed over the block per metre of distance
CLIMB_RATE, CLIMB_SPEED = 8.0, 0.5  # 1/s and m/s, of the height
HOVER = 0.016  # metres above the block at which it waits above a hole
SLOPE, FOOT = 0.3, 0.05  # farther than FOOT metres from the hole it flies higher, by this much a metre
ALIGNED = 0.009  # metres beside the hole: below it goes down, from twice as much it hovers
FORESIGHT = 0.05  # seconds ahead at which it wants to be aligned
COMMITTED = 0.055  # metres past the middle of the block: the hole on that side it is


class Expert:
    """Heads for the block's middle; near the block for the left or right hole, as it drew at random.

    What it draws (side, speeds, where it decides) is fixed for an episode and not visible in the observation.
    """

    def __init__(self, random: np.random.Generator) -> None:
        self.side = 1.0 if random.random() < 0.5 else -1.0
        self.mode = "left" if self.side > 0 else "right"
        self.speed = random.uniform(0.45, 0.6)  # m/s over the block
        self.descent = random.uniform(0.25, 0.35)  # m/s
        self.decision_distance = random.uniform(0.10, 0.14)  # metres along x to the middle of the block

    def act(self, env: Peg) -> Float[np.ndarray, "3"]:
        """The action for the true state of `env` (no noise), in [-1, 1]."""
        position = env.position
        relative = env.velocity[:2] - env.block_velocity
        target = self._target(env.block - position[:2], relative)
        distance = float(np.linalg.norm(target))
        speed = min(self.speed, RATE[env.control] * distance)
        wanted = np.empty(3)
        wanted[:2] = env.block_velocity + speed * target / (distance + 1e-9)
        wanted[2] = self._climb(float(position[2]), target, relative, distance)
        if env.control == "position":
            wanted = position + LEAD * wanted
        return np.clip(env.drive.action(wanted), -1.0, 1.0)

    def _target(self, to_block: np.ndarray, relative: np.ndarray) -> np.ndarray:
        """From the tip to where it heads for, in the plane: a hole, or the middle while that is open."""
        passing = 0.15 * relative[1] - to_block[1]  # metres left of the middle, 0.15 s on
        if abs(passing) > COMMITTED:
            return to_block + math.copysign(1.0, passing) * LEFT
        if to_block[0] > self.decision_distance:
            return to_block
        return to_block + self.side * LEFT

    def _climb(self, height: float, target: np.ndarray, relative: np.ndarray, distance: float) -> float:
        """Vertical speed: down into the hole, down when aligned, or to where it waits for that."""
        if height < TOP and distance < HALF_WIDTH:
            return -self.descent
        miss = max(float(np.linalg.norm(target - FORESIGHT * relative)), distance - 2.0 * ALIGNED)
        aligned = float(np.clip(2.0 - miss / ALIGNED, 0.0, 1.0))
        waiting = TOP + HOVER + SLOPE * max(distance - FOOT, 0.0) - height
        climb = float(np.clip(CLIMB_RATE * waiting, -CLIMB_SPEED, CLIMB_SPEED))
        return (1.0 - aligned) * climb - aligned * self.descent
