"""The `rtc rollout` command line that runs what a sweep found best."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence

from rtc.report.html.delays import is_constant
from rtc.report.sweep_summary import Cell


def rollout_command(cells: Sequence[Cell]) -> str:
    """The command for the `cells` of one strategy on one task, one a delay; random delays become their mean.

    `rtc rollout` takes one rule for the execution horizon: the one that most of the cells have, and their delays.
    """
    name, *options = cells[0]["strategy"].split(":")
    rows = max(1, _common_horizon(cells))
    fitting = [cell for cell in cells if cell["execution_horizon"] == max(rows, _ticks(cell))] or list(cells)
    delays = sorted({_ticks(cell) for cell in fitting})
    raised = any(delay > rows for delay in delays)
    words = ["rtc", "rollout", "--task", cells[0]["task"], "--strategies", name]
    for option in options:
        key, _, value = option.partition("=")
        words += [f"--{key.replace('_', '-')}", value]
    words += ["--delays", ",".join(map(str, delays))]
    words += ["--execution-horizon", f"max(d,{rows})" if raised else str(rows), "--out", "out/best"]
    return shlex.join(words)


def _ticks(cell: Cell) -> int:
    return int(cell["delay"]) if is_constant(cell["delay"]) else round(cell["mean_delay"])


def _common_horizon(cells: Sequence[Cell]) -> int:
    """The n for which most cells have the horizon max(n, d); of several the largest."""
    votes = Counter(
        {n: sum(cell["execution_horizon"] == max(n, _ticks(cell)) for cell in cells) for n in
         {1, *(cell["execution_horizon"] for cell in cells)}}
    )
    return max(votes, key=lambda n: (votes[n], n))
