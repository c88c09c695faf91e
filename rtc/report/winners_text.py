"""Who wins, as a table on a terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table

from rtc.report.statistics import Estimate
from rtc.report.winners import WinnerTable

LEGEND = (
    "no worse: not significantly worse than the best on the same seeds (exact McNemar, Holm, 5 %). over "
    "naive: points of success. of oracle: share of its success. In brackets: 95 %."
)


def winners_text(table: WinnerTable) -> Table:
    """One row a task and delay, a section a task."""
    shown = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, caption=LEGEND, caption_justify="left"
    )
    for heading in ("task", "delay", "best"):
        shown.add_column(heading, no_wrap=True)
    for heading in ("success\n%", "over naive\n[95 %]", "of oracle\n% [95 %]"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("no worse", max_width=48)
    for contest, following in zip(table.contests, [*table.contests[1:], None], strict=True):
        shown.add_row(
            contest.task,
            contest.delay,
            f"{contest.best.strategy} [dim]s={contest.best.execution_horizon}[/]",
            f"{100 * contest.best.success.value:.0f}",
            _in_percent(contest.over_naive),
            _in_percent(contest.oracle_share),
            ", ".join(contest.tied) or "-",
            end_section=following is not None and following.task != contest.task,
        )
    return shown


def _in_percent(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    value, low, high = (round(100 * number) + 0 for number in estimate)
    return f"{value} \\[{low}, {high}]"
