"""Swinging bar: an arm carries a load through the swing of a bar, this time or the next, to a goal."""

from __future__ import annotations

import numpy as np

from envs.arm import Vector, solve_pose
from envs.card import Card, Knob, Sensor, force_drive, position_drive
from envs.task import JOINT_NOISE, POSITION_NOISE, VELOCITY_NOISE, ArmTask, Verdict

GOAL_RADIUS = 0.04  # metres
PUSH_CHANCE = 0.03  # chance of a push in a tick

AXLE = 0.5  # metres, x of the axle of the bar (assets/swinging_bar/scene.xml)
PERIOD = 1.3  # seconds, of the bar on its spring (assets/swinging_bar/scene.xml)
SWING_RATE = 2 * np.pi / PERIOD  # 1/s
BAR_INERTIA = 0.02  # kg m2, about its axle
PUMPING = 2.0  # 1/s, how fast the motor restores the amplitude of the swing
ANGLE_NOISE = 0.01  # radians, of the observed angle of the bar
RATE_NOISE = 0.1  # rad/s, of its observed angular velocity


class SwingingBar(ArmTask):
    r"""Carry a 2 kg load through the swing of a bar, untouched, to a goal and hold it there for 0.2 s.

    ```
        seen from the start                 seen from above
          \   |   /                              goal o             x = 0.44 .. 0.56, y = 0.20 .. 0.28
           \  |  /   the bar at its         ====         ====       walls, with a lane of 26 cm
            \ | /    extremes: a gap            --o--              bar, over the plane y = 0
             \|/     opens on either side       start x            x = 0.42 .. 0.54, y = -0.40 .. -0.32
    ```

    The bar stands on an axle at (0.5, 0, 0.02) m like a metronome and sweeps the whole lane. Half a period,
    0.65 s, lies between its extremes on the left (x < 0.5) and on the right.
    """

    card = Card(
        title="Swinging bar",
        summary="Carry a 2 kg load through the swing of a bar to a goal and hold it there for 0.2 s.",
        success="inside 4 cm of the goal for 10 ticks in a row",
        failures={"collision": "any link, the rod or the load touches the bar"},
        reset="start, goal (boxes of 12 x 8 x 6 cm) and the phase of the swing uniform; the load at rest",
        disturbances="white force on the load and white jolts of the bar every tick; with a chance of 3 % "
        "a tick a push of the load in a random direction",
        why="a gap is open for half a second, a load that nobody steers drifts into the bar, and two chunks "
        "can disagree about the gap",
        modes=("bar left", "bar right"),
        sensors=(
            Sensor("load position", 3, "m", POSITION_NOISE),
            Sensor("load velocity", 3, "m/s", VELOCITY_NOISE),
            Sensor("goal minus load", 3, "m", POSITION_NOISE),
            Sensor("bar angle", 1, "rad", ANGLE_NOISE),
            Sensor("bar angular velocity", 1, "rad/s", RATE_NOISE),
            Sensor("joint angles", 7, "rad", JOINT_NOISE),
        ),
        drives={
            "force": force_drive(60.0),
            "position": position_drive((0.5, 0.0, 0.2), (0.3, 0.45, 0.2)),
        },
        seconds=4.0,
        knobs={
            "force_noise": Knob(4.0, 0.0, 20.0, "N", "standard deviation of the white force on each axis"),
            "push_impulse": Knob(1.5, 0.0, 5.0, "N s", "impulse of a push"),
            "bar_noise": Knob(0.12, 0.0, 1.0, "rad/s", "standard deviation of the bar's jolts, one a tick"),
            "amplitude": Knob(0.8, 0.6, 1.2, "rad", "amplitude of the swing: a small one leaves small gaps"),
        },
    )
    scene = "swinging_bar"
    moment = ("goal",)

    def _find(self) -> None:
        self._watched = self.model.geom("bar").id
        joint = self.model.joint("bar")
        self._bar_q, self._bar_v = int(joint.qposadr[0]), int(joint.dofadr[0])
        self._motor = self.model.actuator("bar").id
        self.goal = np.zeros(3)

    def _arrange(self, random: np.random.Generator) -> float:
        start = random.uniform([0.42, -0.40, 0.14], [0.54, -0.32, 0.20])
        self.goal = random.uniform([0.44, 0.20, 0.14], [0.56, 0.28, 0.20])
        self._mocap("goal", self.goal)
        solve_pose(self.model, self.data, start)
        phase, amplitude = random.uniform(0.0, 2 * np.pi), self.knobs["amplitude"]
        self.data.qpos[self._bar_q] = amplitude * np.sin(phase)
        self.data.qvel[self._bar_v] = amplitude * SWING_RATE * np.cos(phase)
        return float(np.linalg.norm(self.goal - self.position))

    @property
    def bar(self) -> tuple[float, float]:
        """Angle of the bar from upright, radians, positive towards +x, and its angular velocity, rad/s."""
        return float(self.data.qpos[self._bar_q]), float(self.data.qvel[self._bar_v])

    def _move(self) -> None:
        """Pump the swing towards its amplitude, as a van der Pol oscillator does."""
        angle, rate = self.bar
        square = (angle**2 + (rate / SWING_RATE) ** 2) / self.knobs["amplitude"] ** 2
        self.data.ctrl[self._motor] = BAR_INERTIA * PUMPING * (1.0 - square) * rate

    def _disturb(self, random: np.random.Generator) -> Vector:
        self.data.qvel[self._bar_v] += self.knobs["bar_noise"] * random.standard_normal()
        return self._white_force(random) + self._push(random, PUSH_CHANCE)

    def _judge(self) -> Verdict:
        distance = float(np.linalg.norm(self.goal - self.position))
        return Verdict(distance <= GOAL_RADIUS, "collision" if self._touched else None, distance)

    def _observe(self) -> np.ndarray:
        position, velocity, joints = self._sense()
        bar = np.array(self.bar)
        if self.disturbances:
            bar += np.array([ANGLE_NOISE, RATE_NOISE]) * self.np_random.standard_normal(2)
        return np.concatenate((position, velocity, self.goal - position, bar, joints))
