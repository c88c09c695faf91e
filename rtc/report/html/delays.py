"""The delays of a sweep as a page names, orders and explains them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath

FAIR = "fair"
"""Each strategy at its own latency."""

FORMS = {
    "uniform": "every whole number from {0} to {1} ticks is as likely",
    "lognormal": "log-normal with a median of {0} ticks and a sigma of {1} in the log",
    "spiky": "{0} ticks, but {1} with a chance of {2}",
    "bursty": "{0} ticks while calm, {1} while busy; chances of {2} to become busy, of {3} to become calm",
    "trace": "as recorded in {0}",
    FAIR: "each strategy at its own latency",
}


def is_constant(delay: str) -> bool:
    """Whether every inference takes the same number of ticks, whoever runs."""
    return delay.isdecimal()


def in_order(delays: Iterable[str]) -> list[str]:
    """Each delay once: the constant ones by their ticks, then the others as they come."""
    once = list(dict.fromkeys(delays))
    return sorted(filter(is_constant, once), key=int) + [delay for delay in once if not is_constant(delay)]


def named(delay: str, tick_seconds: float) -> str:
    """`d = 4 ticks (80 ms)`, or the text of a random delay."""
    if not is_constant(delay):
        return delay
    ticks = int(delay)
    return f"d = {ticks} tick{'' if ticks == 1 else 's'} ({1000 * tick_seconds * ticks:.0f} ms)"


def explained(delay: str) -> str:
    """A random delay in words; empty if the form is not known."""
    form, _, rest = delay.partition(":")
    try:
        return FORMS.get(form, "").format(*rest.split(":"))
    except IndexError:
        return ""


def short_lines(delay: str) -> tuple[str, str]:
    """A delay's text on two short lines, for an axis: `spiky` and `2:8:0.1`."""
    form, _, rest = delay.partition(":")
    if form == "trace":
        rest = PurePath(rest).name
    return form, rest if len(rest) <= 11 else rest[:10] + "…"
