"""Where everything on a chart lies: a value of each strategy over the delays.

```
     |  o--o                        constant delays are a scale: lines, with a band of 95 % where there is one
     |      \\__o       |o          random delays have no place on it: one slot each, points side by side,
     |          \\__o   |  |x       with a bar of 95 %
     +--+----+----+----+--------
        0    2    4    spiky
                       2:8:0.1
```
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from rtc.report.html.delays import is_constant, short_lines

WIDTH, HEIGHT = 600, 330
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 56
INSET = 20.0
"""Between the axis and the first constant delay, and after the last."""
SLOT = 88.0
"""The width of a random delay, at most."""


class Reading(NamedTuple):
    """One strategy at one delay: its value, its interval where there is one, and both as texts."""

    value: float
    low: float | None
    high: float | None
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Column:
    """A delay on the x axis. x: its centre; left, right: what belongs to it; labels: two lines of text."""

    delay: str
    x: float
    left: float
    right: float
    labels: tuple[str, str]


class Mark(NamedTuple):
    """A point. whisker: the ends of its bar, or None."""

    column: int
    x: float
    y: float
    whisker: tuple[float, float] | None


@dataclass(frozen=True)
class Line:
    """What one strategy draws: SVG paths (perhaps empty) and points."""

    strategy: str
    path: str
    band: str
    marks: list[Mark]


@dataclass(frozen=True)
class Chart:
    """A chart, in units of its own: [0, WIDTH] x [0, HEIGHT], y downwards.

    key: unique on a tab. heads: what the texts of a reading are. ticks: (y, text). split: where the random
    delays begin, if both kinds are there. readings: strategy -> delay -> what the reader is told. shown: the
    column whose numbers are shown at first.
    """

    key: str
    title: str
    note: str
    heads: tuple[str, ...]
    columns: list[Column]
    ticks: list[tuple[float, str]]
    lines: list[Line]
    split: float | None
    readings: Mapping[str, Mapping[str, Reading]]
    shown: int


def chart(
    key: str,
    title: str,
    note: str,
    heads: tuple[str, ...],
    readings: Mapping[str, Mapping[str, Reading]],
    delays: Sequence[str],
    *,
    percent: bool = False,
) -> Chart:
    """Lay out a chart; heads: what the texts of a reading are. percent: the values are shares in 0..1."""
    columns = _columns(delays)
    known = [reading for row in readings.values() for reading in row.values()]
    top = 1.0 if percent else max((reading.high or reading.value for reading in known), default=1.0)
    values = [0.0, 0.25, 0.5, 0.75, 1.0] if percent else round_values(top)
    scale = (HEIGHT - TOP - BOTTOM) / values[-1]
    random = [column for column in columns if not is_constant(column.delay)]
    lines = [
        _line(strategy, readings[strategy], columns, scale, (place + 0.5) / len(readings) - 0.5)
        for place, strategy in enumerate(readings)
    ]
    ticks = [
        (round(HEIGHT - BOTTOM - value * scale, 1), f"{100 * value:g}%" if percent else f"{value:g}")
        for value in values
    ]
    split = random[0].left if random and len(random) < len(columns) else None
    shown = len(columns) - len(random) - 1 if len(random) < len(columns) else 0
    return Chart(key, title, note, heads, columns, ticks, lines, split, readings, shown)


def round_values(top: float) -> list[float]:
    """Three to six evenly spaced round numbers from 0 to at least `top`."""
    if not top > 0:
        return [0.0, 0.5, 1.0]
    power = 10.0 ** math.floor(math.log10(top))
    step = next(power * part for part in (0.2, 0.25, 0.5, 1, 2) if top <= 5 * power * part * (1 + 1e-9))
    return [float(f"{step * index:.6g}") for index in range(max(2, math.ceil(top / step - 1e-9)) + 1)]


def _columns(delays: Sequence[str]) -> list[Column]:
    constant = [delay for delay in delays if is_constant(delay)]
    random = [delay for delay in delays if not is_constant(delay)]
    slot = min(SLOT, (WIDTH - LEFT - RIGHT) / (len(random) + (3 if constant else 0) or 1))
    end = WIDTH - RIGHT - slot * len(random)
    ticks = [int(delay) for delay in constant]
    span = (max(ticks) - min(ticks)) if len(set(ticks)) > 1 else 0
    middle = (LEFT + end) / 2
    places = [
        LEFT + INSET + (tick - min(ticks)) / span * (end - LEFT - 2 * INSET) if span else middle
        for tick in ticks
    ]
    edges = [float(LEFT), *((a + b) / 2 for a, b in pairwise(places)), end]
    columns = [
        Column(delay, round(x, 1), round(left, 1), round(right, 1), (delay, ""))
        for delay, x, left, right in zip(constant, places, edges, edges[1:], strict=False)
    ]
    for index, delay in enumerate(random):
        left = end + slot * index
        x, right = left + slot / 2, left + slot
        columns.append(Column(delay, round(x, 1), round(left, 1), round(right, 1), short_lines(delay)))
    return columns


def _line(
    strategy: str, readings: Mapping[str, Reading], columns: Sequence[Column], scale: float, place: float
) -> Line:
    """place: of the strategy among the others in a slot, -0.5..0.5."""

    def height(value: float) -> float:
        return round(HEIGHT - BOTTOM - value * scale, 1)

    marks: list[Mark] = []
    runs: list[list[tuple[float, Reading]]] = [[]]  # of constant delays that follow one another
    for index, column in enumerate(columns):
        reading = readings.get(column.delay)
        if reading is None:
            runs.append([])
            continue
        x, whisker = column.x, None
        if is_constant(column.delay):
            runs[-1].append((x, reading))
        else:
            x = round(x + place * 0.82 * (column.right - column.left), 1)
            whisker = _whisker(reading, height)
        marks.append(Mark(index, x, height(reading.value), whisker))
    path = "".join(_polyline([(x, height(reading.value)) for x, reading in run]) for run in runs)
    return Line(strategy, path, "".join(_band(run, height) for run in runs), marks)


def _whisker(reading: Reading, height: Callable[[float], float]) -> tuple[float, float] | None:
    if reading.low is None or reading.high is None:
        return None
    return height(reading.low), height(reading.high)


def _band(run: Sequence[tuple[float, Reading]], height: Callable[[float], float]) -> str:
    """An interval around each of several points; a single one gets a bar, as wide as a line."""
    ends = [(x, whisker) for x, reading in run if (whisker := _whisker(reading, height))]
    if len(ends) == 1:
        x, whisker = ends[0]
        ends = [(x - 2, whisker), (x + 2, whisker)]
    return _polyline([(x, high) for x, (_, high) in ends] + [(x, low) for x, (low, _) in reversed(ends)])


def _polyline(points: Sequence[tuple[float, float]]) -> str:
    if len(points) < 2:
        return ""
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
