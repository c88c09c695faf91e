"""What a task says of itself: what is observed and commanded, what counts, why delay hurts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float

Control: TypeAlias = Literal["force", "velocity", "position"]
"""What an action commands of the load: a force, a velocity, or a place to which a servo draws it."""


@dataclass(frozen=True)
class Sensor:
    """Some consecutive numbers of the observation; noise: standard deviation, in the same unit."""

    name: str
    size: int
    unit: str
    noise: float = 0.0


@dataclass(frozen=True)
class Drive:
    """What the numbers of an action command, one actuator each: `centre + scale * action`, in `units`.

    starvation: what a robot without an action does: "hold" repeats the last action (a place can be held),
    "zero" sends zeros (a force must not go on pushing, a velocity would lead away).
    """

    actuators: tuple[str, ...]
    units: tuple[str, ...]
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    starvation: Literal["hold", "zero"]

    @property
    def size(self) -> int:
        """Numbers in an action."""
        return len(self.actuators)

    def command(self, action: Float[np.ndarray, " action"]) -> Float[np.ndarray, " action"]:
        """What the actuators are told, in their units."""
        return np.asarray(self.centre) + np.asarray(self.scale) * action

    def action(self, command: Float[np.ndarray, " action"]) -> Float[np.ndarray, " action"]:
        """The action that commands this; outside [-1, 1] if out of range."""
        return (command - np.asarray(self.centre)) / np.asarray(self.scale)


@dataclass(frozen=True)
class Knob:
    """A number that makes a task harder: an argument of its environment, in `unit`s, from `low` to `high`."""

    default: float
    low: float
    high: float
    unit: str
    meaning: str


@dataclass(frozen=True)
class Card:
    """The description of a task, from which tables, the command line and the metadata are made.

    modes: the ways to succeed that the expert chooses among without telling. failures: name -> when.
    """

    title: str
    summary: str
    success: str
    failures: dict[str, str]
    reset: str
    disturbances: str
    why: str
    modes: tuple[str, ...]
    sensors: tuple[Sensor, ...]
    drives: dict[Control, Drive]
    seconds: float
    knobs: dict[str, Knob] = field(default_factory=dict)

    @property
    def obs_dim(self) -> int:
        """Numbers in an observation."""
        return sum(sensor.size for sensor in self.sensors)

    def document(self, control: Control) -> dict[str, Any]:
        """The card as plain data for one control mode, as an environment's metadata holds it."""
        return asdict(self) | {"drives": None, "control": control, "action": asdict(self.drives[control])}


AXES = ("x", "y", "z")


def force_drive(newton: float, *extra: tuple[str, str, float, float]) -> Drive:
    """Forces on the load; `extra`: (actuator, unit, centre, scale) of further numbers."""
    return _drive("N", (0.0, 0.0, 0.0), (newton, newton, newton), "zero", extra)


def velocity_drive(speed: float, *extra: tuple[str, str, float, float]) -> Drive:
    """Velocities of the load, m/s."""
    return _drive("m/s", (0.0, 0.0, 0.0), (speed, speed, speed), "zero", extra)


def position_drive(
    centre: tuple[float, ...], scale: tuple[float, ...], *extra: tuple[str, str, float, float]
) -> Drive:
    """Places of the load, metres, in the box `centre +- scale`."""
    return _drive("m", centre, scale, "hold", extra)


def _drive(
    unit: str,
    centre: tuple[float, ...],
    scale: tuple[float, ...],
    starvation: Literal["hold", "zero"],
    extra: tuple[tuple[str, str, float, float], ...],
) -> Drive:
    names, units, centres, scales = zip(*extra, strict=True) if extra else ((), (), (), ())
    return Drive(AXES + names, (unit,) * 3 + units, centre + centres, scale + scales, starvation)
