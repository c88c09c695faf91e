"""Executors: where inference runs and when its result can be had.

The control loop hands a batched computation over with `submit` and takes what is ready with `poll`; it never
waits. A lane is the index of one episode in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar, runtime_checkable

import numpy as np

from rtc.runtime.clock import Clock
from rtc.runtime.latency import DelayModel

Answer = TypeVar("Answer")


@runtime_checkable
class Executor(Protocol[Answer]):
    """What the control loop asks of the place where inference runs."""

    def submit(self, lanes: Sequence[int], compute: Callable[[], Sequence[Answer]]) -> None:
        """Have `compute` run; it returns one answer a lane, in the order of `lanes`."""
        ...

    def poll(self) -> list[tuple[int, Answer]]:
        """The (lane, answer) pairs that are ready now, each handed over once."""
        ...


class SimulatedExecutor(Generic[Answer]):
    """Computes at once and hands each lane's answer over when its simulated delay has passed.

    ```
    tick        10       11       12       13
    submit      compute, delay 2 drawn
    poll        []       []       answer                 delay 0: at the next poll of tick 10 itself
    ```

    delay: ticks; each lane has its own draws, from `default_rng([seed, 1])`, so that an episode's delays do
    not depend on its neighbours. clock: says which tick it is. seeds: one a lane.
    """

    def __init__(self, delay: DelayModel, clock: Clock, seeds: Sequence[int]) -> None:
        self._clock = clock
        self._delays = [delay.draws(np.random.default_rng([seed, 1])) for seed in seeds]
        self._due: dict[int, list[tuple[int, Answer]]] = {}

    def submit(self, lanes: Sequence[int], compute: Callable[[], Sequence[Answer]]) -> None:
        """Run `compute` now; its answers become ready after their delays."""
        for lane, answer in zip(lanes, compute(), strict=True):
            due = self._clock.tick + next(self._delays[lane])
            self._due.setdefault(due, []).append((lane, answer))

    def poll(self) -> list[tuple[int, Answer]]:
        """What is due at this tick; the loop polls at every tick, so nothing stays behind."""
        return self._due.pop(self._clock.tick, [])
