"""Success against delay, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from rtc.report.palette import colour
from rtc.report.statistics import Summary
from rtc.serialise import whole_file

MARKERS = "osD^vP"


def plot_success(
    summaries: Sequence[Summary], path: Path, *, tick_milliseconds: float, horizon: int, title: str
) -> None:
    """Write a PNG: one line a strategy with its Wilson band, over the constant delay in ticks and ms."""
    figure = Figure(figsize=(7.2, 4.4), dpi=200, layout="constrained")
    axes = figure.add_subplot()
    strategies = list(dict.fromkeys(summary.strategy for summary in summaries))
    for index, strategy in enumerate(strategies):
        cells = sorted((s for s in summaries if s.strategy == strategy), key=lambda summary: summary.delay)
        _line(axes, strategy, cells, MARKERS[index % len(MARKERS)])
    delays = sorted({summary.delay for summary in summaries if isinstance(summary.delay, int)})
    _dress(axes, delays, tick_milliseconds, horizon)
    axes.set_title(
        f"{title}\n{summaries[0].episodes} episodes a point, same seeds; bands: 95 % Wilson", fontsize=10
    )
    with whole_file(path) as temporary:
        figure.savefig(temporary)


def _line(axes: Axes, strategy: str, cells: Sequence[Summary], marker: str) -> None:
    delays = [summary.delay for summary in cells]
    low, high = [summary.success.low for summary in cells], [summary.success.high for summary in cells]
    axes.fill_between(delays, low, high, color=colour(strategy), alpha=0.15, linewidth=0)
    if len(cells) == 1:  # a band of no width shows nothing
        axes.vlines(delays, low, high, color=colour(strategy), alpha=0.4)
    values = [summary.success.value for summary in cells]
    axes.plot(delays, values, marker + "-", color=colour(strategy), label=strategy, linewidth=2, markersize=6)


def _dress(axes: Axes, delays: Sequence[int], tick_milliseconds: float, horizon: int) -> None:
    axes.set_xlabel(f"inference delay d (control ticks; a chunk has H = {horizon})")
    axes.set_ylabel("success")
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xticks(delays)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    above = axes.secondary_xaxis("top")
    above.set_xticks(delays, [f"{delay * tick_milliseconds:g}" for delay in delays])
    above.set_xlabel("inference delay (ms)")
    above.spines["top"].set_visible(False)
