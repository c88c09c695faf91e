"""Where inference runs: answers come after their delay, once, and each to its own lane."""

from __future__ import annotations

from typing import TypeVar

import pytest

from rtc.runtime.clock import SimClock
from rtc.runtime.delay_text import parse_delay
from rtc.runtime.executor import Executor, SimulatedExecutor
from rtc.runtime.latency import ConstantDelay, TraceDelay

Answer = TypeVar("Answer")


def arrivals(executor: Executor[Answer], clock: SimClock, ticks: int) -> list[list[tuple[int, Answer]]]:
    seen = []
    for _ in range(ticks):
        seen.append(executor.poll())
        clock.advance()
    return seen


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_an_answer_comes_after_its_delay_and_only_once(delay: int) -> None:
    clock = SimClock()
    executor: SimulatedExecutor[str] = SimulatedExecutor(ConstantDelay(delay), clock, [0])
    executor.submit([0], lambda: ["chunk"])
    assert arrivals(executor, clock, 5) == [[(0, "chunk")] if tick == delay else [] for tick in range(5)]


def test_the_computation_runs_at_submission() -> None:
    ran = []
    executor: SimulatedExecutor[None] = SimulatedExecutor(ConstantDelay(9), SimClock(), [0])
    executor.submit([0], lambda: [ran.append(True)])
    assert ran == [True]


def test_every_lane_replays_the_trace_for_itself() -> None:
    clock = SimClock()
    executor: SimulatedExecutor[str] = SimulatedExecutor(TraceDelay([1, 2]), clock, [0, 1, 2])
    executor.submit([0, 2], lambda: ["a", "c"])
    assert arrivals(executor, clock, 2) == [[], [(0, "a"), (2, "c")]]
    executor.submit([2, 1], lambda: ["c", "b"])
    assert arrivals(executor, clock, 3) == [[], [(1, "b")], [(2, "c")]]


@pytest.mark.parametrize(
    "text", ["uniform:0:29", "lognormal:8:0.4", "spiky:2:8:0.4", "bursty:2:8:0.3:0.3", "bursty:2:8:0.3:0.7"]
)
def test_a_lanes_delays_depend_on_its_seed_and_not_on_its_neighbours(text: str) -> None:
    def delays(seeds: list[int], seed: int) -> list[int]:
        clock, found = SimClock(), []
        executor: SimulatedExecutor[int] = SimulatedExecutor(parse_delay(text), clock, seeds)
        for index in range(8):
            executor.submit(range(len(seeds)), lambda index=index: [index] * len(seeds))
            arrived = arrivals(executor, clock, 30)
            found += [tick for tick, batch in enumerate(arrived) if (seeds.index(seed), index) in batch]
        return found

    alone = delays([7], 7)
    assert len(alone) == 8
    assert len(set(alone)) > 1
    assert alone == delays([3, 7, 5], 7)
    assert alone != delays([3, 7, 5], 3)
