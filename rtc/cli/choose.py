"""`rtc choose`: from what sweeps found, the strategy that `auto` runs for a policy."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from rtc.cli.build import Builder
from rtc.cli.choice import write_choice
from rtc.cli.plan import STRATEGY_DEFAULTS
from rtc.cli.strategy_text import parse_strategy
from rtc.cli.sweep_plan import builders_of
from rtc.errors import InvalidArgument, Unsupported
from rtc.report.html.delays import in_order
from rtc.report.html.tab import best_horizons
from rtc.report.merge import merge
from rtc.report.sweep_summary import Cell, Summary, read_summary
from rtc.report.table import print_whole
from rtc.runtime.strategies.auto import Auto


@click.command(short_help="Note for a policy what a sweep found best; `auto` runs that.")
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="TASK=FOLDER",
    show_default="the shipped weights",
    help="Checkpoint of a task that was swept; may be given for each.",
)
def choose(folders: tuple[Path, ...], policies: tuple[str, ...]) -> None:
    """Write POLICY/auto.json for the policy of every task that the sweeps in DIR... have.

    Chosen is the strategy with most success, in the mean over the delays, among those that ran at all of them
    and look into no simulator; of equals the first. Sweep on other seeds than those on which auto is judged.
    """
    summaries = {folder: read_summary(folder) for folder in folders}
    summary = merge(summaries)
    builders = _builders(summaries, policies)
    chosen = {task: _choose(summary, builder) for task, builder in builders.items()}
    table = Table("task", "auto", "success", "next best", box=None, pad_edge=False)
    for task, (best, *others) in chosen.items():
        cells = [cell for cell in summary["cells"] if cell["task"] == task]
        found = {
            "success": best[1],
            "next_best": others[0][0] if others else None,
            "delays": in_order(cell["delay"] for cell in cells),
            "episodes": cells[0]["episodes"],
            "seeds": summary["seeds"],
            "commit": summary["commit"],
        }
        write_choice(builders[task].folder, best[0], found)
        following = f"{others[0][0]} {100 * others[0][1]:.1f} %" if others else "-"
        table.add_row(task, best[0], f"{100 * best[1]:.1f} %", following)
    print_whole(Console(highlight=False), table)


def _builders(summaries: dict[Path, Summary], policies: tuple[str, ...]) -> dict[str, Builder]:
    """Of all tasks that were swept; InvalidArgument where a sweep ran other weights."""
    tasks = list(dict.fromkeys(task for summary in summaries.values() for task in summary["tasks"]))
    builders = builders_of(tasks, policies)
    for folder, summary in summaries.items():
        for task, weights in summary["settings"].get("policy_sha256", {}).items():
            own = builders[task].fingerprints([("naive", {})])["policy"]
            if weights.get("policy", own) != own:
                raise InvalidArgument(
                    f"{folder} ran another policy of {task} than the one in {builders[task].folder}; "
                    f"give its folder: --policy {task}=FOLDER"
                )
    return builders


def _choose(summary: Summary, builder: Builder) -> list[tuple[str, float]]:
    """Strategies that can be chosen with their mean success, best first."""
    cells: list[Cell] = [cell for cell in summary["cells"] if cell["task"] == builder.task]
    delays = {cell["delay"] for cell in cells}
    rows: dict[str, list[float]] = {}
    for (label, _), cell in best_horizons(cells).items():
        rows.setdefault(label, []).append(cell["success"]["value"])
    means = {label: fmean(row) for label, row in rows.items() if len(row) == len(delays)}
    ranked = [(label, means[label]) for label in sorted(means, key=lambda label: -means[label])]
    able = [each for each in ranked if _can_run(each[0], builder)]
    if not able:
        raise InvalidArgument(f"no strategy that a robot can run did so at every delay on {builder.task}")
    return able


def _can_run(label: str, builder: Builder) -> bool:
    """Whether it runs with this policy as a robot could run it."""
    text = parse_strategy(label)
    try:
        strategy: Any = builder.strategy(text.name, **STRATEGY_DEFAULTS | dict(text.options))()
    except Unsupported:
        return False
    return text.name != Auto.name and not strategy.privileged
