"""The result as a table on a terminal, and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from rtc.report.statistics import Estimate, Summary, paired_difference
from rtc.sweep import Record

Outcomes = Mapping[tuple[str, int], Sequence[bool]]
"""(strategy, delay) -> success of every episode, the same seeds in the same order everywhere."""


COLUMNS = (
    "d\n(ms)",
    "s",
    "success\n% [95 %]",
    "time\ns",
    "jump",
    "jerk\nm/s³",
    "starved\nticks",
    "calls\n+ VJPs",
)
LEGEND = (
    "d, s: delay (ms: its mean) and execution horizon, ticks. time: mean, to success. jump: median step "
    "in the action where chunks join. jerk: RMS. starved ticks, network calls and VJPs: an episode."
)


def result_table(summaries: Sequence[Summary], tick_milliseconds: float) -> Table:
    """One row a cell, a section a strategy; fits 80 characters."""
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, caption=LEGEND, caption_justify="left"
    )
    table.add_column("strategy", no_wrap=True)
    for heading in COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    for index, summary in enumerate(summaries):
        last = summary.strategy != summaries[min(index + 1, len(summaries) - 1)].strategy
        table.add_row(*_cells(summary, tick_milliseconds), end_section=last)
    return table


def print_whole(console: Console, table: Table) -> None:
    """Print a table at the width that it needs: a narrow terminal would cut its names."""
    needed = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    console.width = max(console.width, needed)
    console.print(table)


def _cells(summary: Summary, tick_milliseconds: float) -> list[str]:
    value, low, high = (100 * number for number in summary.success)
    return [
        summary.strategy,
        _delay(summary, tick_milliseconds),
        str(summary.execution_horizon),
        f"[bold]{value:.0f}[/] \\[{low:.0f}, {high:.0f}]",
        _number(summary.time_to_success, ".2f"),
        _number(summary.boundary_jump, ".2f"),
        _number(summary.rms_jerk, ".0f"),
        f"{summary.starved_ticks:.1f}",
        f"{summary.network_calls:.0f}" + (f"+{summary.vjps:.0f}" if summary.vjps else ""),
    ]


def _delay(summary: Summary, tick_milliseconds: float) -> str:
    mean = summary.delay if isinstance(summary.delay, int) else summary.mean_delay
    return f"{summary.delay} ({_number(None if mean is None else mean * tick_milliseconds, '.0f')})"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def closing_line(outcomes: Outcomes, horizon: int, tick_milliseconds: float) -> str:
    """What delay cost and what each strategy won back, in words, at the delay nearest to H/4.

    The others are compared with naive (if it did not run, with the first strategy) on the same seeds.
    """
    strategies = list(dict.fromkeys(strategy for strategy, _ in outcomes))
    delays = sorted({delay for _, delay in outcomes})
    baseline = "naive" if "naive" in strategies else strategies[0]
    delay = min(delays[1:] or delays, key=lambda ticks: abs(ticks - horizon / 4))
    lost = paired_difference(outcomes[baseline, delays[0]], outcomes[baseline, delay])
    words = f"succeeds in {100 * sum(outcomes[baseline, delay]) / len(outcomes[baseline, delay]):.0f} %"
    if len(delays) > 1:
        words = f"{_lost(lost)} against d = {delays[0]}"
    parts = [f"At d = {delay} ticks ({delay * tick_milliseconds:.0f} ms) {baseline} {words}"]
    for strategy in strategies:
        if strategy != baseline:
            won = paired_difference(outcomes[strategy, delay], outcomes[baseline, delay])
            parts.append(f"{strategy} {_won(won, lost)}")
    return "; ".join(parts) + ". [In brackets: 95 %, paired by seed.]"


def refusals(records: Mapping[tuple[str, Any], Sequence[Record]]) -> list[str]:
    """A line for each (strategy, delay) in which episodes ended because a chunk was not finite."""
    lines = []
    for (strategy, delay), episodes in records.items():
        refused = [episode for episode in episodes if "not finite" in (episode["failure"] or "")]
        if refused:
            lines.append(
                f"{len(refused)} of {len(episodes)} episodes of {strategy} at d = {delay} count as failures, "
                f"the first with seed {refused[0]['seed']}: {refused[0]['failure']}"
            )
    return lines


def _lost(lost: Estimate) -> str:
    if lost.low > 0:
        return f"loses {_points(lost)}"
    if lost.high < 0:
        return f"gains {_points(_negative(lost))}"
    return f"loses nothing that shows, {_points(lost)},"


def _won(won: Estimate, lost: Estimate) -> str:
    if won.low > 0 and lost.low > 0:
        return f"wins back {_points(won)}, {100 * won.value / lost.value:.0f} % of that"
    if won.low > 0:
        return f"is better by {_points(won)}"
    if won.high < 0:
        return f"is worse by {_points(_negative(won))}"
    return f"does not differ in a way that shows, {_points(won)}"


def _negative(estimate: Estimate) -> Estimate:
    return Estimate(-estimate.value, -estimate.high, -estimate.low)


def _points(estimate: Estimate) -> str:
    value, low, high = (round(100 * number) + 0 for number in estimate)
    return f"{value} points [{low}, {high}]"
