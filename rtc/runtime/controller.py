"""The chunk controller: which action runs at which tick. A state machine without I/O, clock, or torch.

Four rows of chunk A run, then inference starts; it takes three ticks; chunk B joins in time, at its row 3:

```
tick        0    1    2    3    4    5    6    7    8
chunk A    A0   A1   A2   A3   A4   A5   A6  (A7   A8  never run)
chunk B                       (B0   B1   B2)  B3   B4       B0 stands at the tick of the request
state       EXECUTING........ INFERRING....  EXECUTING
                              ^ request: executed s = 4, previous = A4 A5 A6 ...
                                             ^ deliver: counted delay 3, rows B0 B1 B2 are outlived
```

| state     | rows left | inference in flight | next_action gives         |
|-----------|-----------|---------------------|---------------------------|
| EXECUTING | yes       | no                  | the next row              |
| INFERRING | yes       | yes                 | the next row              |
| STARVED   | no        | yes or no           | the starvation action     |

STARVED with nothing in flight is what remains when a chunk arrives after its last row has been outlived (it
is counted, its delay is reported, none of it runs) or when the loop never asked. Only then may a starved
controller ask: whether an inference is in flight is the one thing that the table needs besides the state.
`next_action` is never illegal: a robot in motion gets an action at every tick, and starvation is counted.

Source: Black, Galliker & Levine 2025 (arXiv 2506.07339), Algorithm 1, with the starvation it leaves open.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

import numpy as np
from jaxtyping import Float

from rtc.errors import IllegalEvent, InvalidArgument

Starvation = Literal["hold", "zero", "decay"]
"""What runs when no row is left: the last action, zeros, or the last action shrinking at every tick."""


class State(Enum):
    """Whether rows are left, and whether their successors are on the way."""

    EXECUTING = "executing"
    INFERRING = "inferring"
    STARVED = "starved"

    __hash__ = object.__hash__  # there is one of each, and every tick looks them up


class Event(Enum):
    """What can happen to a controller."""

    REQUEST = "request"  # inference starts
    DELIVER = "deliver"  # its chunk arrives and has rows left
    OUTLIVE = "outlive"  # its chunk arrives and has none left
    TICK = "tick"  # a row is executed
    EXHAUST = "exhaust"  # a tick finds no row left

    __hash__ = object.__hash__


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.EXECUTING, Event.TICK): State.EXECUTING,
    (State.EXECUTING, Event.EXHAUST): State.STARVED,
    (State.EXECUTING, Event.REQUEST): State.INFERRING,
    (State.INFERRING, Event.TICK): State.INFERRING,
    (State.INFERRING, Event.EXHAUST): State.STARVED,
    (State.INFERRING, Event.DELIVER): State.EXECUTING,
    (State.INFERRING, Event.OUTLIVE): State.STARVED,
    (State.STARVED, Event.EXHAUST): State.STARVED,
    (State.STARVED, Event.REQUEST): State.STARVED,
    (State.STARVED, Event.DELIVER): State.EXECUTING,
    (State.STARVED, Event.OUTLIVE): State.STARVED,
}
NEEDS_IN_FLIGHT = {Event.REQUEST: False, Event.DELIVER: True, Event.OUTLIVE: True}


def legal_events(state: State, in_flight: bool) -> list[Event]:
    """The events that `state` allows while an inference is in flight or not."""
    return [
        event
        for (origin, event) in TRANSITIONS
        if origin is state and NEEDS_IN_FLIGHT.get(event, in_flight) is in_flight
    ]


def illegal(state: State, event: Event, in_flight: bool) -> IllegalEvent:
    """The error for an event that the table does not allow: what was tried, where, and what was legal."""
    flight = "an inference in flight" if in_flight else "nothing in flight"
    names = ", ".join(event.name for event in legal_events(state, in_flight))
    return IllegalEvent(f"{event.name} is illegal in state {state.name} with {flight}; legal now: {names}")


def transition(state: State, event: Event, in_flight: bool) -> State:
    """The state after `event`; raises IllegalEvent where the table has no entry."""
    successor = TRANSITIONS.get((state, event))
    if successor is None or NEEDS_IN_FLIGHT.get(event, in_flight) is not in_flight:
        raise illegal(state, event, in_flight)
    return successor


@dataclass(frozen=True, eq=False)
class Request:
    """What an inference is told about the plan it will replace; actions are in env units.

    ```
    current chunk    | executed rows |      remaining rows      |
    previous                         | 0 .. remaining - 1       | zero padding |     H rows
    ```

    tick: the control tick of row 0 of the chunk asked for.
    executed: rows of the current chunk that have run, the realised execution horizon s, 0..H.
    inference_delay: the planned delay d in ticks: rows 0..min(d, remaining)-1 of `previous` are frozen.
    previous: [H, D], the current chunk shifted by `executed`; rows from `remaining` on are padding.
    remaining: H - executed.
    frames: the ticks of row 0 of the chunks so far that reach `tick`, the current one last.
    """

    tick: int
    executed: int
    inference_delay: int
    previous: Float[np.ndarray, "horizon action_dim"]
    remaining: int
    frames: tuple[int, ...] = ()

    @property
    def frozen(self) -> Float[np.ndarray, "frozen action_dim"]:
        """The rows that the planned delay commits to: what runs until the new chunk arrives."""
        return self.previous[: min(self.inference_delay, self.remaining)]


class ChunkController:
    """Executes one chunk of actions while the next is inferred. A reset is a new controller.

    first_chunk: [H, D] float32 in env units, finite.
    starvation: what runs at a tick without a row: the last action ("hold"), "zero", or last times `decay`.
    decay: factor a tick of "decay", 0..1.
    waits: the synchronous baseline. After a request the rest of the old chunk is not executed (the starvation
        action runs, counted as starved), and the delivered chunk starts at row 0 instead of joining in time.

    Counters, all in ticks or chunks since the start: `tick`, `starved_ticks`, `outlived_chunks`.
    Raises InvalidArgument for a chunk of another shape or dtype or with a number that is not finite.
    """

    def __init__(
        self,
        first_chunk: np.ndarray,
        *,
        starvation: Starvation = "hold",
        decay: float = 0.9,
        waits: bool = False,
    ) -> None:
        if starvation not in ("hold", "zero", "decay"):
            raise InvalidArgument(f"starvation={starvation!r}; choose from hold, zero, decay")
        if not 0.0 <= decay <= 1.0:
            raise InvalidArgument(f"decay={decay}; it is the factor a starved tick, from 0 to 1")
        self.chunk = _own(first_chunk, None)
        self.state = State.EXECUTING
        self.tick = 0
        self.starved_ticks = 0
        self.outlived_chunks = 0
        self._waits = waits
        self._factor = np.float32({"hold": 1.0, "zero": 0.0, "decay": decay}[starvation])
        self._frame = 0  # the tick at which row 0 of the chunk stands
        self._frames = (0,)
        self._in_flight: Request | None = None
        self._last = np.zeros(self.chunk.shape[1], np.float32)

    @property
    def row(self) -> int:
        """The row of the current chunk that stands at this tick; H and more: none is left."""
        return self.tick - self._frame

    @property
    def plan(self) -> Float[np.ndarray, "rows action_dim"]:
        """The rows that will run if nothing arrives; read-only."""
        return self.chunk[:0] if self._waits and self._in_flight else self.chunk[self.row :]

    @property
    def frozen(self) -> Float[np.ndarray, "rows action_dim"]:
        """The first rows of `plan`: those that were promised to the inference in flight."""
        if self._in_flight is None:
            return self.chunk[:0]
        return self.plan[: max(0, self._in_flight.inference_delay - (self.tick - self._in_flight.tick))]

    def should_infer(self, execution_horizon: int) -> bool:
        """Whether `execution_horizon` (1..H) rows have passed and no inference is in flight."""
        if not 1 <= execution_horizon <= len(self.chunk):
            raise InvalidArgument(
                f"execution_horizon={execution_horizon} with chunks of {len(self.chunk)} actions; "
                f"it must be 1..{len(self.chunk)}"
            )
        return self._in_flight is None and self.row >= execution_horizon

    def request(self, inference_delay: int) -> Request:
        """Start an inference planned to take `inference_delay` ticks; IllegalEvent if one is in flight."""
        if inference_delay < 0:
            raise InvalidArgument(f"inference_delay={inference_delay}; it is a number of ticks, 0 or more")
        self.state = transition(self.state, Event.REQUEST, self._in_flight is not None)
        horizon = len(self.chunk)
        executed = min(self.row, horizon)
        previous = np.zeros(self.chunk.shape, np.float32)
        previous[: horizon - executed] = self.chunk[executed:]
        previous.flags.writeable = False
        self._frames = tuple(frame for frame in self._frames if frame + horizon > self.tick)
        self._in_flight = Request(
            self.tick, executed, inference_delay, previous, horizon - executed, self._frames
        )
        return self._in_flight

    def deliver(self, chunk: np.ndarray) -> int:
        """Swap to the chunk that answers the request; returns the counted delay: ticks since the request.

        Its first `delay` rows are outlived and never run (with `waits` it starts at row 0). Nothing changes
        when it raises: IllegalEvent if nothing was requested, InvalidArgument for a chunk that is unfit.
        """
        request = self._in_flight
        if request is None:
            raise illegal(self.state, Event.DELIVER, False)
        chunk = _own(chunk, self.chunk.shape)
        frame = self.tick if self._waits else request.tick
        outlived = self.tick - frame >= len(chunk)
        self.state = transition(self.state, Event.OUTLIVE if outlived else Event.DELIVER, True)
        self.outlived_chunks += outlived
        self.chunk, self._frame, self._in_flight = chunk, frame, None
        self._frames += (frame,)
        return self.tick - request.tick

    def next_action(
        self, corrected: Float[np.ndarray, "action_dim"] | None = None
    ) -> Float[np.ndarray, "action_dim"]:
        """The action [D] of this tick (read-only): a row, or the starvation action. Time moves on.

        corrected: what is executed in the place of the row, if there is one; the plan stays what it is.
        """
        row = self.row
        if row < len(self.chunk) and not (self._waits and self._in_flight):
            self.state = TRANSITIONS[self.state, Event.TICK]
            self._last = self.chunk[row] if corrected is None else corrected.copy()
            self._last.flags.writeable = False
        else:
            self.state = TRANSITIONS[self.state, Event.EXHAUST]
            self.starved_ticks += 1
            self._last = self._last * self._factor
            self._last.flags.writeable = False
        self.tick += 1
        return self._last


def _own(chunk: np.ndarray, shape: tuple[int, ...] | None) -> np.ndarray:
    """A read-only copy of a valid chunk, so that no caller can change what will be executed."""
    expected = "[horizon, action_dim], neither of them 0" if shape is None else str(list(shape))
    if getattr(chunk, "dtype", None) != np.float32:
        given = getattr(chunk, "dtype", type(chunk).__name__)
        raise InvalidArgument(f"the chunk is of {given}; give a numpy array of float32 {expected}")
    if chunk.ndim != 2 or 0 in chunk.shape or shape not in (None, chunk.shape):
        raise InvalidArgument(f"the chunk has shape {list(chunk.shape)}; expected {expected}")
    if not np.isfinite(chunk).all():
        row = int(np.argmin(np.isfinite(chunk).all(axis=1)))
        raise InvalidArgument(
            f"the chunk is not finite (first in row {row}): {chunk[row]}; nothing has changed"
        )
    chunk = chunk.copy()
    chunk.flags.writeable = False
    return chunk
