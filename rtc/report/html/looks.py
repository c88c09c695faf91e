"""How a strategy looks on the page: a colour, a marker and a dash, told apart without the colour too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rtc.report.palette import colour

MARKERS = 16
"""Shapes that templates/symbols.html draws: eight filled, then the same eight hollow."""
DASHES = ("none", "7 4", "2 3", "10 3 2 3", "14 4", "5 2 2 2 2 2")
DARK_PAGE = "#15181d"
"""The page's background in dark mode, as in templates/page.css."""
CONTRAST = 4.5


@dataclass(frozen=True)
class Look:
    """index: the strategy's place in the sweep. light, dark: its colour as #RRGGBB in either mode.

    marker: 0..15. dash: an SVG stroke-dasharray; strategies of one colour differ in it.
    """

    index: int
    light: str
    dark: str
    marker: int
    dash: str


def looks(strategies: Sequence[str]) -> dict[str, Look]:
    """The look of each strategy (labels such as `realtime:schedule=exp`), in their order."""
    used: Counter[str] = Counter()
    found = {}
    for index, label in enumerate(strategies):
        light = colour(label)
        found[label] = Look(
            index, light, lightened(light, DARK_PAGE), index % MARKERS, DASHES[used[light] % len(DASHES)]
        )
        used[light] += 1
    return found


def lightened(shade: str, background: str) -> str:
    """`shade`, mixed with as much white as it takes to stand out from a dark `background` (both #RRGGBB)."""
    channels = mixed = _channels(shade)
    for percent in range(0, 101, 5):
        mixed = [channel + (255 - channel) * percent / 100 for channel in channels]
        if contrast(mixed, _channels(background)) >= CONTRAST:
            break
    return "#" + "".join(f"{round(channel):02X}" for channel in mixed)


def contrast(first: Sequence[float], second: Sequence[float]) -> float:
    """The contrast ratio in 1..21 of two colours in 0..255 (W3C 2023, WCAG 2.2)."""
    brighter, darker = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def _luminance(channels: Sequence[float]) -> float:
    shares = [channel / 255 for channel in channels]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _channels(shade: str) -> list[float]:
    return [float(int(shade[place : place + 2], 16)) for place in (1, 3, 5)]
