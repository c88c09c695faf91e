"""What slowness costs Meta-World's experts, whose world stands still: the control of docs/outside.md.

    python -m benchmarks.outside [--episodes 20] [--only-report]

Runs in the environment of `make suites`. Writes benchmarks/results/outside.json and the table in
docs/outside.md.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from importlib.metadata import version
from typing import Any

import click

from benchmarks.study import DOCS, RESULTS, percent, write_between
from envs.outside import make_outside
from envs.outside_demos import expert_succeeds, outside_expert
from rtc.cli.provenance import available_cores, commit, machine
from rtc.process_pool import in_workers
from rtc.report.statistics import success_rate
from rtc.serialise import read_json, write_json

TASKS = ("reach-v3", "button-press-v3", "drawer-open-v3", "pick-place-v3", "peg-insert-side-v3")
SLOW: dict[str, dict[str, int]] = {
    "as it is": {},
    "stops for 4 ticks": {"pause": 4},
    "stops for 8 ticks": {"pause": 8},
    "4 ticks late": {"lateness": 4},
    "8 ticks late": {"lateness": 8},
}
"""Columns of the table; see `expert_succeeds`."""


def successes(task: str, column: str, seeds: range) -> int:
    """Episodes in which the expert of `task` succeeds."""
    name = f"metaworld:{task}"
    expert = outside_expert(name)
    with closing(make_outside(name)) as env:
        return sum(expert_succeeds(env, expert, seed, **SLOW[column]) for seed in seeds)


def measure(episodes: int) -> dict[str, Any]:
    """Every task in every column, on the same seeds."""
    cells, code = [(task, column) for task in TASKS for column in SLOW], commit()
    jobs = [partial(successes, *cell, range(episodes)) for cell in cells]
    found = dict(in_workers(jobs, available_cores()))
    return {
        "episodes": episodes,
        "commit": code,
        "machine": machine(),
        "versions": {name: version(name) for name in ("metaworld", "mujoco", "gymnasium")},
        "success": {
            f"{task} {column}": success_rate(found[index], episodes)._asdict()
            for index, (task, column) in enumerate(cells)
        },
    }


def report(document: dict[str, Any]) -> None:
    """The table of docs/outside.md, from the document alone."""
    lines = [f"| the expert | {' | '.join(SLOW)} |", "|---|" + "---|" * len(SLOW)]
    for task in TASKS:
        values = " | ".join(percent(document["success"][f"{task} {column}"]) for column in SLOW)
        lines.append(f"| {task} | {values} |")
    versions = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    lines += ["", f"{document['episodes']} episodes a cell, the same seeds in all; {versions}."]
    write_between(DOCS / "outside.md", "slow", "\n".join(lines))


@click.command()
@click.option("--episodes", type=click.IntRange(1), default=20, show_default=True, help="Episodes a cell.")
@click.option(
    "--only-report", is_flag=True, help="Write the table from the committed JSON, simulate nothing."
)
def main(episodes: int, only_report: bool) -> None:
    """Measure the experts and write their table."""
    out = RESULTS / "outside.json"
    if not only_report:
        write_json(out, measure(episodes))
    report(read_json(out))


if __name__ == "__main__":
    main()
