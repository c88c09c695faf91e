"""Reach past a post: an arm carries a load past a post, on either side, to a goal, and holds it there."""

from __future__ import annotations

import numpy as np

from envs.arm import Vector, solve_pose
from envs.card import Card, Knob, Sensor, force_drive, position_drive
from envs.task import JOINT_NOISE, POSITION_NOISE, VELOCITY_NOISE, ArmTask, Verdict

GOAL_RADIUS = 0.04  # metres
PUSH_CHANCE = 0.02  # chance of a push in a tick


class ReachPastPost(ArmTask):
    """Carry a 2 kg load past a post to a goal and hold it there for 0.2 s without touching the post.

    ```
                     goal o          x = 0.42 .. 0.58, y = 0.22 .. 0.30, z = 0.14 .. 0.26
                 .--'    '--.
           left (  post (o)  ) right      either side will do; the start does not say which
                 '--.    .--'
                    start x          x = 0.42 .. 0.58, y = -0.30 .. -0.22, z = 0.14 .. 0.26
    ```
    """

    card = Card(
        title="Reach past a post",
        summary="Carry a 2 kg load past a post, on either side, to a goal and hold it there for 0.2 s.",
        success="inside 4 cm of the goal for 10 ticks in a row",
        failures={"collision": "any link, the rod or the load touches the post"},
        reset="start and goal uniform in boxes on either side, the post about the middle; at rest",
        disturbances="white force on the load; with a chance of 2 % a tick a push in a random direction",
        why="a load that nobody steers keeps its momentum, and two chunks can disagree about the side",
        modes=("left", "right"),
        sensors=(
            Sensor("load position", 3, "m", POSITION_NOISE),
            Sensor("load velocity", 3, "m/s", VELOCITY_NOISE),
            Sensor("goal minus load", 3, "m", POSITION_NOISE),
            Sensor("post minus load (x, y)", 2, "m", POSITION_NOISE),
            Sensor("joint angles", 7, "rad", JOINT_NOISE),
        ),
        drives={
            "force": force_drive(60.0),
            "position": position_drive((0.5, 0.0, 0.25), (0.3, 0.45, 0.25)),
        },
        seconds=3.0,
        knobs={
            "force_noise": Knob(4.0, 0.0, 20.0, "N", "standard deviation of the white force on each axis"),
            "push_impulse": Knob(1.5, 0.0, 5.0, "N s", "impulse of a push"),
        },
    )
    scene = "reach_past_post"
    moment = ("goal", "post")

    def _find(self) -> None:
        self._watched = self.model.geom("post").id
        self.goal = np.zeros(3)
        self.post = np.zeros(2)

    def _arrange(self, random: np.random.Generator) -> float:
        start = random.uniform([0.42, -0.30, 0.14], [0.58, -0.22, 0.26])
        self.goal = random.uniform([0.42, 0.22, 0.14], [0.58, 0.30, 0.26])
        middle = (start[0] + self.goal[0]) / 2
        self.post = np.array([middle, 0.0]) + random.uniform([-0.03, -0.03], [0.03, 0.03])
        solve_pose(self.model, self.data, start)
        self._place()
        return float(np.linalg.norm(self.goal - self.position))

    def _place(self) -> None:
        self._mocap("goal", self.goal)
        self._mocap("post", np.array([*self.post, 0.0]))

    def _disturb(self, random: np.random.Generator) -> Vector:
        return self._white_force(random) + self._push(random, PUSH_CHANCE)

    def _judge(self) -> Verdict:
        distance = float(np.linalg.norm(self.goal - self.position))
        return Verdict(distance <= GOAL_RADIUS, "collision" if self._touched else None, distance)

    def _observe(self) -> np.ndarray:
        position, velocity, joints = self._sense()
        parts = (position, velocity, self.goal - position, self.post - position[:2], joints)
        return np.concatenate(parts)
