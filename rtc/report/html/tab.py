"""What the page shows of one task: charts, histograms of delay, failures by reason, every number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rtc.report.html.chart import Chart, Reading, chart
from rtc.report.html.delays import explained, in_order, is_constant, named
from rtc.report.sweep_summary import Cell

REASONS = 6
"""Colours of reasons in templates/page.css; the last one stands for all further reasons."""


@dataclass(frozen=True)
class Histogram:
    """How long inference took: bars (tick, share in 0..1)."""

    title: str
    note: str
    inferences: int
    bars: list[tuple[int, float]]


@dataclass(frozen=True)
class Failures:
    """Of one cell: parts (place of the reason, start and width in percent of the episodes), and in words."""

    share: str
    parts: list[tuple[int, float, float]]
    words: str


@dataclass(frozen=True)
class Tab:
    """One task. chosen: the cells that the pictures show; cells: all of them, in reading order."""

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


def make_tab(name: str, about: Mapping[str, Any], cells: Sequence[Cell], strategies: Sequence[str]) -> Tab:
    """Put together the tab of task `name`; `cells` are its own, `strategies` all that the page knows."""
    delays = in_order(cell["delay"] for cell in cells)
    here = [label for label in strategies if any(cell["strategy"] == label for cell in cells)]
    order = {label: place for place, label in enumerate(here)}
    rows = sorted(
        cells, key=lambda cell: (order[cell["strategy"]], delays.index(cell["delay"]), cell["execution_horizon"])
    )
    chosen = best_horizons(cells)
    reasons = [reason for reason, _ in _all_failures(cells).most_common()]
    histograms, exact = _histograms(rows, delays, about["tick_seconds"])
    return Tab(
        name=name,
        about=about,
        delays=delays,
        strategies=here,
        cells=rows,
        charts=_charts(chosen, delays, here),
        histograms=histograms,
        exact=exact,
        reasons=reasons,
        failures=_failures(chosen, here, reasons),
        many_horizons=len(chosen) < len(cells),
    )


def best_horizons(cells: Sequence[Cell]) -> dict[tuple[str, str], Cell]:
    """Of every (strategy, delay) of one task the cell with most success; of equals the first."""
    found: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        key = (cell["strategy"], cell["delay"])
        if key not in found or cell["success"]["value"] > found[key]["success"]["value"]:
            found[key] = cell
    return found


def percent(share: float) -> str:
    """`78 %`; a share that is not quite nothing or all never looks like it."""
    if 0 < share < 0.005 or 0.995 < share < 1:
        return f"{100 * share:.1f} %"
    return f"{100 * share:.0f} %"


def interval(low: float, high: float) -> str:
    """`[74, 81]`, in percent."""
    return f"[{100 * low:.0f}, {100 * high:.0f}]"


def _charts(chosen: Mapping[tuple[str, str], Cell], delays: list[str], strategies: list[str]) -> list[Chart]:
    def over(reading_of: Any) -> dict[str, dict[str, Reading]]:
        found = {label: {} for label in strategies}
        for (label, delay), cell in chosen.items():
            reading = reading_of(cell)
            if reading is not None:
                found[label][delay] = reading
        return found

    def success(cell: Cell) -> Reading:
        value, low, high = (cell["success"][name] for name in ("value", "low", "high"))
        texts = (percent(value), interval(low, high), f"{cell['successes']}/{cell['episodes']}")
        return Reading(value, low, high, (*texts, str(cell["execution_horizon"])))

    def number(name: str) -> Any:
        def reading(cell: Cell) -> Reading | None:
            value = cell[name]
            return None if value is None else Reading(value, None, None, (f"{value:.3g}",))

        return reading

    return [
        chart(
            "success",
            "Success",
            "Share of episodes; bands and bars: 95 %, Wilson.",
            ("success", "95 %", "episodes", "s"),
            over(success),
            delays,
            percent=True,
        ),
        chart(
            "jump",
            "Boundary jump",
            "Step in the action where one chunk takes over from another, in action units; median over chunks.",
            ("jump",),
            over(number("boundary_jump")),
            delays,
        ),
        chart(
            "jerk",
            "Jerk",
            "Root mean square over an episode in m/s³; mean over episodes.",
            ("m/s³",),
            over(number("rms_jerk")),
            delays,
        ),
    ]


def _histograms(
    cells: Sequence[Cell], delays: Sequence[str], tick_seconds: float
) -> tuple[list[Histogram], list[str]]:
    """A histogram for each delay that varied, and the constant delays that were what they say."""
    drawn, exact = [], []
    for delay in delays:
        here = [cell for cell in cells if cell["delay"] == delay]
        groups = {"": here}
        if delay == "fair":
            groups = {label: [c for c in here if c["strategy"] == label] for label in in_order_of(here)}
        for label, group in groups.items():
            counts: Counter[int] = Counter()
            for cell in group:
                counts.update({int(ticks): count for ticks, count in cell["delays"].items()})
            total = counts.total()
            if not total:
                continue
            if is_constant(delay) and set(counts) == {int(delay)}:
                exact.append(delay)
                continue
            mean = sum(ticks * count for ticks, count in counts.items()) / total
            title = f"{named(delay, tick_seconds)}{': ' * bool(label)}{label}"
            note = "; ".join(filter(None, (explained(delay) if not label else "", f"mean {mean:.2g} ticks")))
            bars = [(ticks, counts[ticks] / total) for ticks in range(min(counts), max(counts) + 1)]
            drawn.append(Histogram(title, note, total, bars))
    return drawn, exact


def in_order_of(cells: Sequence[Cell]) -> list[str]:
    """The strategies of `cells`, each once."""
    return list(dict.fromkeys(cell["strategy"] for cell in cells))


def _all_failures(cells: Sequence[Cell]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for cell in cells:
        counts.update(cell["failures"])
    return counts


def _failures(
    chosen: Mapping[tuple[str, str], Cell], strategies: Sequence[str], reasons: Sequence[str]
) -> dict[str, dict[str, Failures]]:
    found: dict[str, dict[str, Failures]] = {label: {} for label in strategies}
    for (label, delay), cell in chosen.items():
        parts, start = [], 0.0
        for place, reason in enumerate(reasons):
            if count := cell["failures"].get(reason, 0):
                width = 100 * count / cell["episodes"]
                parts.append((min(place, REASONS - 1), round(start, 2), round(width, 2)))
                start += width
        words = ", ".join(f"{cell['failures'][reason]} {reason}" for reason in reasons if reason in cell["failures"])
        found[label][delay] = Failures(percent(1 - cell["success"]["value"]), parts, words)
    return found
