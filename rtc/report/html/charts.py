"""The charts of a task: success, boundary jump and jerk of every strategy over the delays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rtc.report.html.chart import Chart, Reading, chart
from rtc.report.html.words import interval, number, percent
from rtc.report.statistics import Estimate
from rtc.report.sweep_summary import Cell

Chosen = Mapping[tuple[str, str], Cell]
"""(strategy, delay) -> the cell that is drawn."""


def task_charts(chosen: Chosen, delays: Sequence[str], strategies: Sequence[str]) -> list[Chart]:
    """The charts, in reading order."""
    return [
        chart(
            "success",
            "Success",
            "Share of episodes; bands and bars: 95 %, Wilson.",
            ("success", "95 %", "episodes", "s"),
            _readings(_success, chosen, strategies),
            delays,
            percent=True,
        ),
        chart(
            "jump",
            "Boundary jump",
            "Step in the action where a chunk takes over from the last, in action units; median over chunks.",
            ("jump",),
            _readings(_plain("boundary_jump"), chosen, strategies),
            delays,
        ),
        chart(
            "jerk",
            "Jerk",
            "Root mean square over an episode in m/s³; mean over episodes.",
            ("m/s³",),
            _readings(_plain("rms_jerk"), chosen, strategies),
            delays,
        ),
    ]


def _readings(
    reading_of: Callable[[Cell], Reading | None], chosen: Chosen, strategies: Sequence[str]
) -> dict[str, dict[str, Reading]]:
    found: dict[str, dict[str, Reading]] = {label: {} for label in strategies}
    for (label, delay), cell in chosen.items():
        reading = reading_of(cell)
        if reading is not None:
            found[label][delay] = reading
    return found


def _success(cell: Cell) -> Reading:
    rate = Estimate(**cell["success"])
    texts = (percent(rate.value), interval(rate), f"{cell['successes']}/{cell['episodes']}")
    return Reading(*rate, texts=(*texts, str(cell["execution_horizon"])))


def _plain(name: str) -> Callable[[Cell], Reading | None]:
    def reading(cell: Cell) -> Reading | None:
        value = cell[name]
        return None if value is None else Reading(value, None, None, (number(value),))

    return reading
