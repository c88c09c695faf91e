"""Tray: an arm carries a ball on a flat tray round a post, on either side, to a goal, and stops there."""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's names come from compiled modules that tell a type checker nothing.

from __future__ import annotations

import math

import mujoco
import numpy as np

from envs.arm import Vector, solve_pose
from envs.card import Card, Knob, Sensor, force_drive, position_drive
from envs.steering import Plane
from envs.task import POSITION_NOISE, VELOCITY_NOISE, ArmTask, Verdict

GOAL_RADIUS = 0.05  # metres
SLOW = 0.2  # m/s, of the tray, and of the ball on it
LIFT = 0.01  # metres off the tray's face, at which the ball counts as dropped
TRAY_RADIUS = 0.09  # metres (assets/tray/tool.xml)
BALL_RADIUS = 0.025  # metres (assets/tray/scene.xml)
START_OFFSET = 0.01  # metres, of the ball at the start
EVENT_CHANCE = 0.02  # chance of a push in a tick, and of a kick
TILT_LIMIT = 0.3  # rad
TILT_NOISE = 0.005  # rad, of the observed tilt
TILT_RATE_NOISE = 0.02  # rad/s, of the observed rate of tilt
BALL_NOISE = np.repeat((POSITION_NOISE, VELOCITY_NOISE, TILT_NOISE, TILT_RATE_NOISE), 2)


class Tray(ArmTask):
    """Carry a ball on a flat tray round a post to a goal and stop there for 0.2 s; the ball must stay on.

    ```
                     goal o          x = 0.43 .. 0.57, y = 0.29 .. 0.35, z = 0.18 .. 0.22
                 .--'    '--.
           left (  post (o)  ) right      either side will do; the start does not say which
                 '--.    .--'
                   start (.)         x = 0.43 .. 0.57, y = -0.35 .. -0.29, z = 0.18 .. 0.22
    ```

    A ball that rolls on the tray at the tilt (roll, pitch) while the tray accelerates by a:
    x'' = -5/7 (a_x - g pitch), y'' = -5/7 (a_y + g roll), in the tray's axes.
    """

    card = Card(
        title="Tray",
        summary="Carry a ball on a flat tray round a post, on either side, to a goal, and stop there.",
        success="within 5 cm of the goal, tray and ball on it slower than 0.2 m/s, for 10 ticks in a row",
        failures={
            "collision": "any link, the tray or the ball touches the post",
            "dropped": "the ball's centre passes the edge of the tray, or comes 1 cm off its face",
        },
        reset="start, goal (14 x 6 x 4 cm boxes either side) and post (2 cm about the middle) uniform; "
        "the ball within 1 cm of the tray's centre; all at rest",
        disturbances="white force on the tray every tick; with a chance of 2 % a tick each, a push on the "
        "tray and a kick to the ball, in random directions (the kick's is level)",
        why="a ball needs the tilt of this moment, not of a tenth of a second ago; a tray that nobody steers "
        "keeps its momentum; and two chunks can disagree about the side",
        modes=("left", "right"),
        sensors=(
            Sensor("tray position", 3, "m", POSITION_NOISE),
            Sensor("tray velocity", 3, "m/s", VELOCITY_NOISE),
            Sensor("goal minus tray", 3, "m", POSITION_NOISE),
            Sensor("post minus tray (x, y)", 2, "m", POSITION_NOISE),
            Sensor("ball on the tray (x, y)", 2, "m", POSITION_NOISE),
            Sensor("velocity of the ball on the tray (x, y)", 2, "m/s", VELOCITY_NOISE),
            Sensor("tilt (roll, pitch)", 2, "rad", TILT_NOISE),
            Sensor("rate of tilt (roll, pitch)", 2, "rad/s", TILT_RATE_NOISE),
        ),
        drives={
            "force": force_drive(45.0, ("roll", "rad", 0.0, TILT_LIMIT), ("pitch", "rad", 0.0, TILT_LIMIT)),
            "position": position_drive(
                (0.5, 0.0, 0.25),
                (0.3, 0.45, 0.25),
                ("roll", "rad", 0.0, TILT_LIMIT),
                ("pitch", "rad", 0.0, TILT_LIMIT),
            ),
        },
        seconds=5.0,
        knobs={
            "force_noise": Knob(3.0, 0.0, 20.0, "N", "standard deviation of the white force on each axis"),
            "push_impulse": Knob(1.0, 0.0, 5.0, "N s", "impulse of a push on the tray"),
            "kick_speed": Knob(0.1, 0.0, 0.6, "m/s", "speed at which a resting ball rolls after a kick"),
        },
    )
    scene = "tray"
    moment = ("goal", "post")

    def _find(self) -> None:
        self._watched = self.model.geom("post").id
        joint = self.model.joint("ball")
        self._ball_q, self._ball_v = int(joint.qposadr[0]), int(joint.dofadr[0])
        self.goal = np.zeros(3)
        self.post = np.zeros(2)

    def _arrange(self, random: np.random.Generator) -> float:
        start = random.uniform([0.43, -0.35, 0.18], [0.57, -0.29, 0.22])
        self.goal = random.uniform([0.43, 0.29, 0.18], [0.57, 0.35, 0.22])
        middle = (start[0] + self.goal[0]) / 2
        self.post = np.array([middle, 0.0]) + random.uniform([-0.02, -0.02], [0.02, 0.02])
        solve_pose(self.model, self.data, start)
        offset = random.uniform(-START_OFFSET, START_OFFSET, 2)
        self.data.qpos[self._ball_q : self._ball_q + 3] = start + np.array([*offset, BALL_RADIUS])
        self._mocap("goal", self.goal)
        self._mocap("post", np.array([*self.post, 0.0]))
        return float(np.linalg.norm(self.goal - start))

    def ball(self) -> tuple[Vector, Vector, Plane, Plane]:
        """Place (m) and velocity (m/s) of the ball on the tray, tilt (rad) of the tray and its rate (rad/s).

        The first two are the centre's, along the tray's axes, seen from the middle of the face as the tray
        moves and turns; the last two are (roll, pitch). Without noise.
        """
        mujoco.mj_sensorPos(self.model, self.data)
        mujoco.mj_sensorVel(self.model, self.data)
        place, velocity, up, turning = self.data.sensordata.copy().reshape(4, 3)  # (assets/tray/scene.xml)
        return place, velocity, np.array([-up[1], up[0]]), turning[:2]

    def _disturb(self, random: np.random.Generator) -> Vector:
        push = self._white_force(random) + self._push(random, EVENT_CHANCE)
        if random.random() < EVENT_CHANCE:
            angle = random.uniform(0.0, 2.0 * np.pi)
            # a blow to its centre starts a ball sliding; friction takes 2/7 of that until it rolls
            blow = 7 / 5 * self.knobs["kick_speed"] * np.array([np.cos(angle), np.sin(angle)])
            self.data.qvel[self._ball_v : self._ball_v + 2] += blow
        return push

    def _judge(self) -> Verdict:
        distance = float(np.linalg.norm(self.goal - self.position))
        place, velocity, _, _ = self.ball()
        dropped = math.hypot(place[0], place[1]) > TRAY_RADIUS or abs(place[2] - BALL_RADIUS) > LIFT
        slow = math.hypot(velocity[0], velocity[1]) <= SLOW and float(np.linalg.norm(self.velocity)) <= SLOW
        failure = "collision" if self._touched else "dropped" if dropped else None
        return Verdict(slow and distance <= GOAL_RADIUS, failure, distance)

    def _observe(self) -> np.ndarray:
        position, velocity, _ = self._sense()
        place, roll_speed, tilt, rate = self.ball()
        ball = np.concatenate((place[:2], roll_speed[:2], tilt, rate))
        if self.disturbances:
            ball += BALL_NOISE * self.np_random.standard_normal(8)
        return np.concatenate((position, velocity, self.goal - position, self.post - position[:2], ball))
