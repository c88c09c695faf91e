"""One colour a strategy, the same in every picture."""

from __future__ import annotations

# Okabe & Ito 2008, a grey, and a wine of Tol 2021: told apart with any colour vision. There are more
# strategies than colours: relatives share one, and markers and dashes tell them apart.
_KNOWN = {
    "synchronous": "#555555",
    "naive": "#D55E00",
    # what averages or chooses among predictions
    "ensemble": "#E69F00",
    "blend": "#E69F00",
    "bid": "#E69F00",
    # what steers the flow without gradients
    "seam": "#56B4E9",
    "overwrite": "#56B4E9",
    "paint": "#56B4E9",
    "warm": "#56B4E9",
    # what guides it through the network
    "realtime": "#0072B2",
    "posterior": "#0072B2",
    # what the policy is told
    "conditioned": "#009E73",
    "rollforward": "#009E73",
    # what corrects each action as it runs
    "residual": "#882255",
    "auto": "#000000",
    "oracle": "#CC79A7",
}
_FREE = "#000000"


def colour(strategy: str) -> str:
    """The strategy's colour as #RRGGBB; options (`realtime:schedule=exp`) do not change it."""
    return _KNOWN.get(strategy.partition(":")[0], _FREE)
