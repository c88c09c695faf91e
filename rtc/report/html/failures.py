"""How episodes failed: a bar for each cell, in parts by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rtc.report.html.words import percent
from rtc.report.sweep_summary import Cell

REASONS = 6
"""Colours of reasons in templates/page.css; the last one stands for all further reasons."""


@dataclass(frozen=True)
class Failures:
    """Of one cell: the share of episodes, parts (colour 0..5, start and width in percent), and in words."""

    share: str
    parts: list[tuple[int, float, float]]
    words: str


def reasons_of(cells: Sequence[Cell]) -> list[str]:
    """The reasons for which episodes ended, most frequent first."""
    counts: Counter[str] = Counter()
    for cell in cells:
        counts.update(cell["failures"])
    return [reason for reason, _ in counts.most_common()]


def failures_of(cell: Cell, reasons: Sequence[str]) -> Failures:
    """The failures of one cell, in the order of `reasons`."""
    parts, start = [], 0.0
    for place, reason in enumerate(reasons):
        if times := cell["failures"].get(reason, 0):
            width = 100 * times / cell["episodes"]
            parts.append((min(place, REASONS - 1), round(start, 2), round(width, 2)))
            start += width
    words = ", ".join(
        f"{cell['failures'][reason]} {reason}" for reason in reasons if reason in cell["failures"]
    )
    return Failures(percent(1 - cell["success"]["value"]), parts, words)
