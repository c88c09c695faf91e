"""Conveyor: pick a bar by one of its two handles from a belt whose speed jumps."""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's names come from compiled modules that tell a type checker nothing.

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from envs.arm import CONTROL_HZ, DAMPING, SPRING, Vector, solve_pose
from envs.card import Card, Knob, Sensor, position_drive, velocity_drive
from envs.task import JOINT_NOISE, POSITION_NOISE, VELOCITY_NOISE, ArmTask, Verdict

REST_HEIGHT = 0.07  # metres: the middle of the bar when it lies on the belt
LIFT = 0.06  # metres to lift the bar
REACH = 0.42  # metres along the belt: a bar that lies beyond is lost
TILT = 0.5  # cosine of 60 degrees: a bar that leans more is knocked over
OPEN_GAP = 0.05  # metres between the pads at the start
STRIPES = 0.15  # metres between two stripes of the belt
GAP_NOISE = 0.0005  # metres
BELT_NOISE = 0.01  # m/s


class Conveyor(ArmTask):
    """Lift a bar by its front or rear handle off a belt whose speed jumps, and hold it up for 0.2 s.

    ```
         y = -0.4                 -0.1 .. 0.05                    0.42
                                  o hand, 10 to 14 cm above          |
         [rear ## front] ->                                          |  lost
      ===============================================================|==   x = 0.5
         belt: 0.1 .. 0.5 m/s, twice a second another speed
    ```
    The fingers open along x, across the belt. In position control a place along y is one on the belt, as in a
    robot that tracks a conveyor: a held target goes with it.
    """

    card = Card(
        title="Conveyor",
        summary="Pick a bar by either of its handles from a belt whose speed jumps; hold it up for 0.2 s.",
        success="the bar 6 cm above the belt for 10 ticks in a row",
        failures={
            "lost": "the bar lies beyond 42 cm along the belt, or beside it",
            "knocked": "the bar leans by more than 60 degrees",
        },
        reset="bar (8 cm along, 4 cm across the belt), hand (15 x 8 x 4 cm) and the belt's speed uniform",
        disturbances="with a chance of 4 % a tick the belt jumps to another speed; white force on the hand",
        why="the belt does not wait, its jumps must be followed, and two chunks can disagree on the handle",
        modes=("front", "rear"),
        sensors=(
            Sensor("hand position", 3, "m", POSITION_NOISE),
            Sensor("hand velocity", 3, "m/s", VELOCITY_NOISE),
            Sensor("gap between the pads", 1, "m", GAP_NOISE),
            Sensor("front handle minus hand", 3, "m", POSITION_NOISE),
            Sensor("rear handle minus hand", 3, "m", POSITION_NOISE),
            Sensor("belt speed", 1, "m/s", BELT_NOISE),
            Sensor("belt frame minus hand (y)", 1, "m", POSITION_NOISE),
            Sensor("joint angles", 7, "rad", JOINT_NOISE),
        ),
        drives={
            "velocity": velocity_drive(0.9, ("fingers", "m/s", 0.0, 0.4)),
            "position": replace(
                position_drive((0.5, 0.0, 0.2), (0.2, 0.6, 0.2), ("fingers", "m", 0.03, 0.03)),
                units=("m", "m on the belt", "m", "m"),
            ),
        },
        seconds=3.0,
        knobs={
            "belt_speed": Knob(0.3, 0.0, 0.4, "m/s", "middle of the range of speeds"),
            "speed_spread": Knob(0.2, 0.0, 0.3, "m/s", "half the range of speeds"),
            "jump_rate": Knob(2.0, 0.0, 10.0, "1/s", "how often the speed jumps"),
            "force_noise": Knob(4.0, 0.0, 20.0, "N", "standard deviation of the white force on the hand"),
        },
    )
    scene = "conveyor"
    moment = ("belt_speed", "_first_distance")

    def _find(self) -> None:
        self.model = copy.copy(self.model)  # the belt's speed is a number of the model: here it is ours
        self._belt = self.model.geom("belt").id
        self._bar = self.model.body("bar").id
        self._handles = np.array([self.model.geom(name).id for name in ("front", "rear")])
        self._fingers = [int(self.model.joint(name).qposadr[0]) for name in ("left", "right")]
        tracker = self.model.joint("tracker")
        self._tracker_q, self._tracker_v = int(tracker.qposadr[0]), int(tracker.dofadr[0])
        self.belt_speed = 0.0
        self._first_distance = 1.0  # to the nearer handle

    @property
    def handles(self) -> Float[np.ndarray, "2 3"]:
        """Where the middles of the front and the rear handle are, metres, world."""
        return self.data.geom_xpos[self._handles]

    @property
    def gap(self) -> float:
        """Metres between the pads of the fingers."""
        return float(self.data.qpos[self._fingers].sum())

    @property
    def tracker(self) -> float:
        """Where along y the frame is that goes with the belt, metres; it starts where the bar lies."""
        return float(self.data.qpos[self._tracker_q])

    def action_for_force(self, force: Vector) -> Vector:
        """As for every task; a place along y is one on the belt, counted from `tracker`."""
        if self.control != "position":
            return super().action_for_force(force)
        action = super().action_for_force(force)
        action[1] -= (self.tracker + DAMPING / SPRING * self.belt_speed) / self.drive.scale[1]
        return action

    def _arrange(self, random: np.random.Generator) -> float:
        bar = random.uniform([0.48, -0.40], [0.52, -0.32])
        hand = random.uniform([0.46, -0.10, 0.20], [0.54, 0.05, 0.24])
        self.belt_speed = self._draw_speed(random)
        self.data.qpos[self._tracker_q] = bar[1]
        self.data.qpos[:3] = (*bar, REST_HEIGHT)
        self.data.qvel[1] = self.belt_speed
        self.data.qpos[self._fingers] = OPEN_GAP / 2
        self.data.act[:] = OPEN_GAP  # where the fingers' own servo holds them, if their speed is commanded
        solve_pose(self.model, self.data, hand)
        self._move()
        self._first_distance = self._distance()
        return 1.0

    def _draw_speed(self, random: np.random.Generator) -> float:
        spread = self.knobs["speed_spread"]
        return self.knobs["belt_speed"] + random.uniform(-spread, spread)

    def _disturb(self, random: np.random.Generator) -> Vector:
        if random.random() < self.knobs["jump_rate"] / CONTROL_HZ:
            self.belt_speed = self._draw_speed(random)
        return self._white_force(random)

    def _move(self) -> None:
        self.model.geom_surfacevel[self._belt, 1] = self.belt_speed
        self.data.qvel[self._tracker_v] = self.belt_speed
        self._mocap("stripes", np.array([0.5, self.tracker % STRIPES - STRIPES / 2, 0.06]))

    def _distance(self) -> float:
        """From the hand to the nearer handle, metres."""
        return float(np.linalg.norm(self.handles - self.position, axis=1).min())

    def _judge(self) -> Verdict:
        lifted = float(self.data.xpos[self._bar, 2]) - REST_HEIGHT
        left = 0.5 * self._distance() / self._first_distance + 0.5 * (1.0 - min(max(lifted / LIFT, 0.0), 1.0))
        return Verdict(lifted >= LIFT, self._failure(lifted), left)

    def _failure(self, lifted: float) -> str | None:
        if lifted < -0.01 or (lifted < 0.01 and self.data.xpos[self._bar, 1] > REACH):
            return "lost"
        return "knocked" if self.data.xmat[self._bar, 8] < TILT else None

    def _observe(self) -> np.ndarray:
        position, velocity, joints = self._sense()
        gap, belt = self.gap, self.belt_speed
        if self.disturbances:
            gap += GAP_NOISE * self.np_random.standard_normal()
            belt += BELT_NOISE * self.np_random.standard_normal()
        handles = (self.handles - position).ravel()
        return np.concatenate(
            (position, velocity, [gap], handles, [belt, self.tracker - position[1]], joints)
        )
