"""Simulated time."""

from __future__ import annotations

from rtc.runtime.clock import Clock, SimClock


def test_simulated_time_passes_only_when_it_is_told_to() -> None:
    clock: Clock = SimClock()
    assert [clock.tick, clock.tick] == [0, 0]
    clock.advance()
    clock.advance()
    assert clock.tick == 2
