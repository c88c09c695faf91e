"""Numbers as the page writes them."""

from __future__ import annotations

from rtc.report.statistics import Estimate


def percent(share: float) -> str:
    """`78 %`; a share that is not quite nothing or all never looks like it."""
    if 0 < share < 0.005 or 0.995 < share < 1:
        return f"{100 * share:.1f} %"
    return f"{100 * share:.0f} %"


def interval(estimate: Estimate) -> str:
    """`[74, 81]`: the interval of a share, in percent."""
    return f"[{100 * estimate.low:.0f}, {100 * estimate.high:.0f}]"


def points(difference: Estimate) -> str:
    """`+16 [12, 19]`: a difference of shares, in percentage points."""
    value, low, high = (round(100 * number) + 0 for number in difference)
    return f"{value:+d} [{low}, {high}]"


def number(value: float | None) -> str:
    """Three digits, or a dash where there is none."""
    return "–" if value is None else f"{value:.3g}"


def count(number: int, one: str, many: str) -> str:
    """`1 delay`, `5 delays`."""
    return f"{number} {one if number == 1 else many}"
