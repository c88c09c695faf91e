"""How long inference took, counted over the episodes of a task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rtc.report.html.delays import FAIR, explained, is_constant
from rtc.report.sweep_summary import Cell


@dataclass(frozen=True)
class Histogram:
    """The delays of some cells: bars (tick, share in 0..1) from the shortest to the longest."""

    title: str
    note: str
    bars: list[tuple[int, float]]


def histograms(cells: Sequence[Cell], delays: Sequence[str]) -> tuple[list[Histogram], list[str]]:
    """A histogram of each delay, and the constant delays that need none: all were what they say."""
    drawn, exact = [], []
    for delay in delays:
        for label, group in _groups([cell for cell in cells if cell["delay"] == delay], delay):
            counts: Counter[int] = Counter()
            for cell in group:
                counts.update({int(ticks): times for ticks, times in cell["delays"].items()})
            if is_constant(delay) and set(counts) <= {int(delay)}:
                exact.append(delay)
            elif counts:
                drawn.append(_histogram(delay, label, counts))
    return drawn, exact


def _groups(cells: Sequence[Cell], delay: str) -> Iterator[tuple[str, list[Cell]]]:
    """All strategies together, but each alone where each has its own latency."""
    if delay != FAIR:
        yield "", list(cells)
        return
    for label in dict.fromkeys(cell["strategy"] for cell in cells):
        yield label, [cell for cell in cells if cell["strategy"] == label]


def _histogram(delay: str, label: str, counts: Counter[int]) -> Histogram:
    total = counts.total()
    mean = sum(ticks * times for ticks, times in counts.items()) / total
    notes = [explained(delay)] * (not label) + [f"mean {mean:.2g} ticks", f"{total:,} inferences"]
    bars = [(ticks, counts[ticks] / total) for ticks in range(min(counts), max(counts) + 1)]
    title = f"{delay}: {label}" if label else delay
    return Histogram(title, "; ".join(note for note in notes if note), bars)
