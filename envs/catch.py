"""Catch: a ball is thrown at the arm, a gust may turn it in flight, and a cup must be where it comes down."""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's names come from compiled modules that tell a type checker nothing.

from __future__ import annotations

import math

import numpy as np

from envs.arm import CONTROL_HZ, Vector, solve_pose
from envs.card import Card, Knob, Sensor, position_drive, velocity_drive
from envs.task import JOINT_NOISE, POSITION_NOISE, VELOCITY_NOISE, ArmTask, Verdict

CUP_RADIUS, CUP_DEPTH = 0.055, 0.075  # metres, inside (assets/catch/tool.xml)
BALL_RADIUS = 0.03  # metres (assets/catch/scene.xml)
BALL_VELOCITY_NOISE = 0.03  # m/s: balls are seen by a camera, not measured by an encoder
GRAVITY = 9.81  # m/s^2
MIDDLE = 0.36  # metres above the table: where throws are aimed, between the two heights to catch at
DROPPED = 0.05  # metres above the table: a ball whose centre is lower, outside the cup, is lost
GUST_TICKS = 4  # a gust lasts 80 ms


class Catch(ArmTask):
    """Catch a thrown ball in a cup, and keep it for 0.2 s.

    ```
               . - ~ ~ - .
            .               .       thrown from 1.2 to 1.8 m away, up to 50 degrees either side of straight
     early U                 o      ahead; after 0.75 to 0.95 s it is 0.36 m above the table
    late U                          the cup may wait high (early) or low (late) on the ball's way down
    ```
    """

    card = Card(
        title="Catch",
        summary="Catch a thrown ball, which a gust may turn in flight, in a cup and keep it for 0.2 s.",
        success="the ball is in the cup for 10 ticks in a row",
        failures={"dropped": "the ball is less than 5 cm above the table, or lower, and not in the cup"},
        reset="cup (6 cm box) at rest; aim, distance, direction, height and duration of the throw uniform",
        disturbances="white force on the cup every tick; in most throws a gust of 80 ms, after 30 to 50 % of "
        "the flight, blows the ball sideways",
        why="the ball does not wait, a gust moves the place where it comes down by up to 0.4 m, and two "
        "chunks can disagree about where to catch it",
        modes=("early", "late"),
        sensors=(
            Sensor("cup position", 3, "m", POSITION_NOISE),
            Sensor("cup velocity", 3, "m/s", VELOCITY_NOISE),
            Sensor("ball minus cup", 3, "m", POSITION_NOISE),
            Sensor("ball velocity", 3, "m/s", BALL_VELOCITY_NOISE),
            Sensor("joint angles", 7, "rad", JOINT_NOISE),
        ),
        drives={
            "velocity": velocity_drive(2.0),
            "position": position_drive((0.6, 0.0, 0.36), (0.3, 0.55, 0.3)),
        },
        seconds=2.0,
        knobs={
            "gust": Knob(
                0.6, 0.0, 1.5, "m/s", "sideways velocity from the strongest gust; the weakest gives half"
            ),
            "gust_chance": Knob(0.8, 0.0, 1.0, "of the throws", "how many meet a gust"),
            "force_noise": Knob(8.0, 0.0, 30.0, "N", "standard deviation of the white force on each axis"),
        },
    )
    scene = "catch"
    moment = ("_gust", "_gust_tick")

    def _find(self) -> None:
        joint = self.model.joint("ball")
        self._ball_q, self._ball_v = joint.qposadr[0], joint.dofadr[0]
        self._ball_body = self.model.body("ball").id
        self._ball_mass = float(self.model.body_mass[self._ball_body])
        self._gust, self._gust_tick = np.zeros(3), 0

    def _arrange(self, random: np.random.Generator) -> float:
        solve_pose(self.model, self.data, random.uniform([0.59, -0.03, 0.33], [0.65, 0.03, 0.39]))
        aim = np.array([*random.uniform([0.58, -0.18], [0.70, 0.18]), MIDDLE])
        distance, angle, height, seconds = random.uniform([1.2, -0.87, 0.5, 0.75], [1.8, 0.87, 0.9, 0.95])
        forward = np.array([-math.cos(angle), -math.sin(angle), 0.0])
        start = aim - distance * forward
        start[2] = height
        velocity = (aim - start) / seconds + np.array([0.0, 0.0, GRAVITY * seconds / 2])
        self.data.qpos[self._ball_q : self._ball_q + 3] = start
        self.data.qvel[self._ball_v : self._ball_v + 3] = velocity
        sideways = np.array([-forward[1], forward[0], 0.0])
        size = random.uniform(0.5, 1.0) * (1.0 if random.random() < 0.5 else -1.0)
        comes = random.random() < self.knobs["gust_chance"]
        self._gust = self.knobs["gust"] * size * comes * sideways
        self._gust_tick = round(random.uniform(0.3, 0.5) * seconds * CONTROL_HZ)
        return math.dist(start, self.position)

    def _move(self) -> None:
        """The gust, as a force on the ball; it stops in a copy without disturbances."""
        blows = self.disturbances and 0 <= self._tick - self._gust_tick < GUST_TICKS
        force = self._ball_mass * CONTROL_HZ / GUST_TICKS * self._gust
        self.data.xfrc_applied[self._ball_body, :3] = force if blows else 0.0

    def _disturb(self, random: np.random.Generator) -> Vector:
        return self._white_force(random)

    @property
    def ball(self) -> Vector:
        """The ball's position, metres, world axes, without noise."""
        return self.data.qpos[self._ball_q : self._ball_q + 3].copy()

    @property
    def ball_velocity(self) -> Vector:
        """The ball's velocity, m/s, world axes, without noise."""
        return self.data.qvel[self._ball_v : self._ball_v + 3].copy()

    @property
    def caught(self) -> bool:
        """Whether the ball's centre is in the cup."""
        return _inside(self.ball - self.position)

    def _judge(self) -> Verdict:
        ball = self.ball
        offset = ball - self.position
        caught = _inside(offset)
        dropped = not caught and bool(ball[2] < DROPPED)
        return Verdict(caught, "dropped" if dropped else None, math.hypot(*offset))

    def _observe(self) -> np.ndarray:
        ball, ball_velocity = self.ball - self.position, self.ball_velocity
        position, velocity, joints = self._sense()
        if self.disturbances:
            noise = self.np_random.standard_normal(6)
            ball += POSITION_NOISE * noise[:3]
            ball_velocity += BALL_VELOCITY_NOISE * noise[3:]
        return np.concatenate([position, velocity, ball, ball_velocity, joints])


def _inside(offset: Vector) -> bool:
    """Whether a place is in the cup, whose axis is held upright; metres from the middle of its mouth."""
    x, y, z = offset.tolist()
    return math.hypot(x, y) < CUP_RADIUS and -CUP_DEPTH < z < 0.0
