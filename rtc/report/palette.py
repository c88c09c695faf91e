"""One colour a strategy, the same in every picture."""

from __future__ import annotations

# Okabe & Ito 2008 (and a grey): told apart with any colour vision.
_KNOWN = {
    "synchronous": "#555555",
    "naive": "#D55E00",
    "ensemble": "#E69F00",
    "realtime": "#0072B2",
    "conditioned": "#009E73",
    "oracle": "#CC79A7",
}
_FREE = ("#56B4E9", "#000000")


def colour(strategy: str) -> str:
    """The strategy's colour as #RRGGBB; options (`realtime:schedule=exp`) do not change it."""
    strategy = strategy.partition(":")[0]
    return _KNOWN.get(strategy) or _FREE[sum(strategy.encode()) % len(_FREE)]
