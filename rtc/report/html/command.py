"""The command line that runs what a sweep found best."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence

from rtc.report.html.delays import is_constant
from rtc.report.sweep_summary import Cell

OUT = "out/best"


def best_command(cells: Sequence[Cell], rollout_options: Collection[str]) -> str:
    """The command for the `cells` of one strategy on one task, one a delay.

    It is `rtc rollout`, which draws films, where that takes the strategy's options and there is a constant
    delay; of those it has the ones that follow the rule for the execution horizon that most of them follow.
    Otherwise it is `rtc sweep`, which takes every delay. rollout_options: those of `rtc rollout`, as Python
    writes them.
    """
    task, (name, *options) = cells[0]["task"], cells[0]["strategy"].split(":")
    constant = [cell for cell in cells if is_constant(cell["delay"])]
    settings = [option.partition("=")[::2] for option in options]
    if constant and all(key in rollout_options for key, _ in settings):
        rule, delays = _common_rule(constant)
        words = ["rtc", "rollout", "--task", task, "--strategies", name]
        words += [word for key, value in settings for word in (f"--{key.replace('_', '-')}", value)]
        words += ["--delays", ",".join(map(str, delays)), "--execution-horizon", rule, "--out", OUT]
    else:
        horizons = dict.fromkeys(str(cell["execution_horizon"]) for cell in cells)
        words = ["rtc", "sweep", "--tasks", task, "--strategies", cells[0]["strategy"], "--delays"]
        words += [",".join(cell["delay"] for cell in cells), "--horizons", ",".join(horizons), "--out", OUT]
    return shlex.join(words)


def _common_rule(cells: Sequence[Cell]) -> tuple[str, list[int]]:
    """The n for which most cells run max(n, d) rows (of several the largest), as a rule, and their delays."""

    def delays(rows: int) -> list[int]:
        found = [cell for cell in cells if cell["execution_horizon"] == max(rows, int(cell["delay"]))]
        return sorted(int(cell["delay"]) for cell in found)

    rows = max({1, *(cell["execution_horizon"] for cell in cells)}, key=lambda n: (len(delays(n)), n))
    raised = any(delay > rows for delay in delays(rows))
    return f"max(d,{rows})" if raised else str(rows), delays(rows)
