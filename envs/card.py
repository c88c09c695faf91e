"""What a task says of itself: what is observed and commanded, what counts, why delay hurts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float

from rtc.errors import InvalidArgument

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

    @cached_property
    def _line(self) -> tuple[Float[np.ndarray, " action"], Float[np.ndarray, " action"]]:
        return np.array(self.centre), np.array(self.scale)

    def command(self, action: Float[np.ndarray, " action"]) -> Float[np.ndarray, " action"]:
        """What the actuators are told, in their units."""
        centre, scale = self._line
        return centre + scale * action

    def action(self, command: Float[np.ndarray, " first"]) -> Float[np.ndarray, " first"]:
        """The action that commands this, or its first numbers; outside [-1, 1] if out of range."""
        centre, scale = self._line
        first = len(command)
        return (command - centre[:first]) / scale[:first]


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
        document = asdict(self)
        drives = document.pop("drives")
        return document | {"control": control, "action": drives[control]}

    def settings(self, knobs: dict[str, float]) -> dict[str, float]:
        """The value of every knob, with `knobs` in the place of their defaults.

        Raises InvalidArgument for one that does not exist, or is out of range.
        """
        for name, value in knobs.items():
            if name not in self.knobs:
                raise InvalidArgument(
                    f"{self.title!r} has no argument {name!r}; it has {', '.join(self.knobs) or 'none'}"
                )
            knob = self.knobs[name]
            if not knob.low <= value <= knob.high:
                raise InvalidArgument(
                    f"{name} is {value}; {self.title!r} takes {knob.low} to {knob.high} "
                    f"{knob.unit} ({knob.meaning})"
                )
        return {name: float(knobs.get(name, knob.default)) for name, knob in self.knobs.items()}


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
