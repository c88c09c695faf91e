"""What the page shows of one task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rtc.report.html.chart import Chart
from rtc.report.html.charts import task_charts
from rtc.report.html.delays import in_order
from rtc.report.html.failures import Failures, failures_of, reasons_of
from rtc.report.html.histograms import Histogram, histograms
from rtc.report.sweep_summary import Cell


@dataclass(frozen=True)
class Tab:
    """One task. about: its entry in summary.json; cells: in reading order.

    exact: the constant delays that were what they say. failures: strategy -> delay -> of the cell that is
    drawn. many_horizons: whether the pictures leave cells out.
    """

    name: str
    about: Mapping[str, Any]
    delays: list[str]
    strategies: list[str]
    cells: list[Cell]
    charts: list[Chart]
    histograms: list[Histogram]
    exact: list[str]
    reasons: list[str]
    failures: dict[str, dict[str, Failures]]
    many_horizons: bool


def make_tab(name: str, about: Mapping[str, Any], cells: Sequence[Cell]) -> Tab:
    """Put together the tab of task `name`, whose `cells` these are."""
    delays = in_order(cell["delay"] for cell in cells)
    strategies = list(dict.fromkeys(cell["strategy"] for cell in cells))
    chosen = best_horizons(cells)
    reasons = reasons_of(cells)
    failures: dict[str, dict[str, Failures]] = {label: {} for label in strategies}
    for (label, delay), cell in chosen.items():
        failures[label][delay] = failures_of(cell, reasons)
    drawn, exact = histograms(cells, delays)

    def place(cell: Cell) -> tuple[int, int, int]:
        return strategies.index(cell["strategy"]), delays.index(cell["delay"]), cell["execution_horizon"]

    return Tab(
        name=name,
        about=about,
        delays=delays,
        strategies=strategies,
        cells=sorted(cells, key=place),
        charts=task_charts(chosen, delays, strategies),
        histograms=drawn,
        exact=exact,
        reasons=reasons,
        failures=failures,
        many_horizons=len(chosen) < len(cells),
    )


def best_horizons(cells: Sequence[Cell]) -> dict[tuple[str, str], Cell]:
    """Of every (strategy, delay) of one task the cell with most success; of equals the first (as winners)."""
    found: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        key = (cell["strategy"], cell["delay"])
        if key not in found or cell["success"]["value"] > found[key]["success"]["value"]:
            found[key] = cell
    return found
