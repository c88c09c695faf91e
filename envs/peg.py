"""Peg: an arm puts a peg into one of the two holes of a block that wanders over the table."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from envs.arm import CONTROL_HZ, Vector, solve_pose
from envs.card import Card, Knob, Sensor, position_drive, velocity_drive
from envs.task import JOINT_NOISE, POSITION_NOISE, VELOCITY_NOISE, ArmTask, Verdict

# assets/peg/scene.xml and tool.xml, metres
MIDDLE = np.array([0.52, 0.0])  # where the block is drawn back to
APART = 0.16  # of the two holes, along y
HALF_WIDTH = 0.017  # of a hole
TOP = 0.10  # of the block, above the table

DEPTH = 0.025  # metres in a hole that count as inserted
CORRELATION_TIME = 0.6  # seconds, of the block's velocity
KEPT = math.exp(-1.0 / (CORRELATION_TIME * CONTROL_HZ))  # of that velocity after a tick
RETURN_RATE = 2.5  # rad/s, of the spring that draws the block back
BLOCK_VELOCITY_NOISE = 0.02  # m/s, of the observed velocity of the block
PUSH_CHANCE = 0.04  # chance of a push in a tick


class Peg(ArmTask):
    """Put a peg 2.5 cm deep into either hole of a wandering block, and never come down beside them.

    ```
             ___________________________
        o   |  left [ ]        [ ] right |  <~ ^v ~>      block: 10 cm high, about x = 0.52, y = 0
      peg   |____________________________|                holes: 34 mm square, 16 cm apart; the peg: 24 mm
    ```
    """

    card = Card(
        title="Peg into a wandering socket",
        summary="Put a peg into one of the two holes of a block that wanders over the table.",
        success="the tip 2.5 cm deep in a hole for 5 ticks in a row",
        failures={"missed": "the peg touches the block with its axis beside the holes"},
        reset="start uniform (16 x 10 x 8 cm) and at rest; place and velocity of the block as it wanders",
        disturbances="white acceleration of the block and white force on the peg every tick; "
        "with a chance of 4 % a tick a level push on the peg in a random direction",
        why="the block goes on while the robot thinks, and two chunks can disagree about the hole",
        modes=("left", "right"),
        sensors=(
            Sensor("tip position", 3, "m", POSITION_NOISE),
            Sensor("tip velocity", 3, "m/s", VELOCITY_NOISE),
            Sensor("block minus tip (x, y)", 2, "m", POSITION_NOISE),
            Sensor("block velocity (x, y)", 2, "m/s", BLOCK_VELOCITY_NOISE),
            Sensor("joint angles", 7, "rad", JOINT_NOISE),
        ),
        drives={
            "velocity": velocity_drive(0.8),
            "position": position_drive((0.5, 0.0, 0.2), (0.3, 0.4, 0.2)),
        },
        seconds=3.0,
        knobs={
            "block_speed": Knob(
                0.05, 0.0, 0.2, "m/s", "standard deviation of the block's velocity on each axis"
            ),
            "force_noise": Knob(4.0, 0.0, 20.0, "N", "standard deviation of the white force on each axis"),
            "push_impulse": Knob(1.0, 0.0, 5.0, "N s", "impulse of a push"),
        },
    )
    scene = "peg"
    hold_ticks = CONTROL_HZ // 10

    def _find(self) -> None:
        self._watched = self.model.geom("peg").id
        joint, drive = self.model.joint("block_x"), self.model.actuator("block_x").id
        self._block_q = slice(joint.qposadr[0], joint.qposadr[0] + 2)  # x, then y
        self._block_v = slice(joint.dofadr[0], joint.dofadr[0] + 2)
        self._block_drive = slice(drive, drive + 2)
        self._jolt = self.knobs["block_speed"] * math.sqrt(1.0 - KEPT**2)
        self._inserted = 0
        self._first_distance = self._distance = 1.0

    def _arrange(self, random: np.random.Generator) -> float:
        solve_pose(self.model, self.data, random.uniform([0.30, -0.05, 0.18], [0.36, 0.05, 0.26]))
        speed = self.knobs["block_speed"]
        self.data.qpos[self._block_q] = np.clip(random.standard_normal(2), -2.0, 2.0) * speed / RETURN_RATE
        self._steer_block(speed * random.standard_normal(2))
        self.data.qvel[self._block_v] = self.data.ctrl[self._block_drive]
        return self._look()[2]

    @property
    def block(self) -> Float[np.ndarray, "2"]:
        """The middle of the block, metres."""
        return MIDDLE + self.data.qpos[self._block_q]

    @property
    def block_velocity(self) -> Float[np.ndarray, "2"]:
        """How the block moves, m/s."""
        return self.data.qvel[self._block_v].copy()

    def _steer_block(self, velocity: Float[np.ndarray, "2"]) -> None:
        self.data.ctrl[self._block_drive] = velocity

    def _move(self) -> None:
        """One tick of the block's target velocity, a damped spring driven by noise.

        On each axis its standard deviation is block_speed, that of the place block_speed / RETURN_RATE.
        """
        place, velocity = self.data.qpos[self._block_q], self.data.ctrl[self._block_drive]
        velocity = KEPT * velocity - RETURN_RATE**2 / CONTROL_HZ * place
        if self.disturbances:
            velocity += self._jolt * self.np_random.standard_normal(2)
        self._steer_block(velocity)

    def _disturb(self, random: np.random.Generator) -> Vector:
        push = self._white_force(random)
        if random.random() < PUSH_CHANCE:
            angle = random.uniform(0.0, 2.0 * np.pi)
            push[:2] += self.knobs["push_impulse"] * CONTROL_HZ * np.array([np.cos(angle), np.sin(angle)])
        return push

    def _look(self) -> tuple[bool, bool, float]:
        """Whether the tip is over a hole, whether it is deep enough, and how far it has to go, metres."""
        (x, y), tip = self.block.tolist(), self.position.tolist()
        x, y, height = tip[0] - x, abs(tip[1] - y) - APART / 2, tip[2] - (TOP - DEPTH)
        over = abs(x) < HALF_WIDTH and abs(y) < HALF_WIDTH
        return over, height <= 0.0, math.hypot(x, y, max(height, 0.0))

    def _judge(self) -> Verdict:
        over, deep, distance = self._look()
        missed = self._touched and not over
        return Verdict(over and deep, "missed" if missed else None, distance)

    def _observe(self) -> np.ndarray:
        position, velocity, joints = self._sense()
        block = self.block_velocity
        if self.disturbances:
            block += BLOCK_VELOCITY_NOISE * self.np_random.standard_normal(2)
        return np.concatenate((position, velocity, self.block - position[:2], block, joints))
