"""The picture of docs/study.md: success against delay on every task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from benchmarks.strategy_tables import by_key, names
from rtc.report.html.delays import is_constant
from rtc.report.palette import colour
from rtc.report.sweep_summary import Summary
from rtc.serialise import whole_file

STYLES = {"oracle": "P--", "auto": "o-"}


def plot(summary: Summary, path: Path) -> None:
    """Write a PNG: a panel a task, a line a strategy with its Wilson band, over the constant delays."""
    cells = summary["cells"]
    figure = Figure(figsize=(11.0, 6.6), dpi=150, layout="constrained")
    panels = figure.subplots(2, 3, sharex=True, sharey=True).ravel()
    for axes, task in zip(panels, names(cells, "task"), strict=True):
        _panel(axes, [cell for cell in cells if cell["task"] == task and is_constant(cell["delay"])])
        axes.set_title(summary["tasks"][task]["title"], fontsize=11)
    for axes in panels[3:]:
        axes.set_xlabel("inference delay d (ticks of 20 ms)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    episodes = cells[0]["episodes"]
    figure.suptitle(
        f"Success, {episodes} episodes a point on the same seeds; bands: 95 %, Wilson", fontsize=11
    )
    with whole_file(path) as temporary:
        figure.savefig(temporary)


def _panel(axes: Axes, cells: list[dict[str, Any]]) -> None:
    found = by_key(cells)
    delays = sorted({int(cell["delay"]) for cell in cells})
    for strategy in names(cells, "strategy"):
        row = [found[cells[0]["task"], strategy, str(delay)]["success"] for delay in delays]
        _line(axes, strategy, delays, row)
    axes.set(ylim=(-0.02, 1.02), xticks=delays)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _line(axes: Axes, strategy: str, delays: list[int], row: list[Mapping[str, float]]) -> None:
    shade, style = colour(strategy), STYLES.get(strategy.split(":")[0], "s-")
    low, high = ([each[end] for each in row] for end in ("low", "high"))
    axes.fill_between(delays, low, high, color=shade, alpha=0.15, linewidth=0)
    label = strategy.removesuffix(":expected=median")
    axes.plot(delays, [each["value"] for each in row], style, color=shade, label=label, markersize=4)
