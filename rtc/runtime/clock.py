"""Clocks: control time is an integer tick, and a clock says when the next one begins."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Clock(Protocol):
    """What the control loop asks of time."""

    @property
    def tick(self) -> int:
        """The control tick that runs now, from 0."""
        ...

    def advance(self) -> None:
        """Return when the next tick has begun."""
        ...


class SimClock:
    """Time that passes only when the loop says so: `advance` returns at once."""

    def __init__(self) -> None:
        self._tick = 0

    @property
    def tick(self) -> int:
        """The control tick that runs now, from 0."""
        return self._tick

    def advance(self) -> None:
        """Begin the next tick."""
        self._tick += 1
