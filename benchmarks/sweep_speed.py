"""What a sweep costs beside physics and network, and what a second process brings.

    python -m benchmarks.sweep_speed [--task Catch-v0] [--rounds 7]

Overhead: strategies in batches, on one thread; of all seconds of a rollout the share that neither the
environment nor the network took. Rounds of all strategies follow each other; median, best and worst round.
Workers: the same shards in one process and in two, by turns; the median of the pairs' ratios of control steps
a second, from the begin of the first shard to the end of the last one: a process needs some seconds to begin,
which a sweep of hours does not notice.
Writes benchmarks/results/sweep_speed.json and the tables of docs/sweep.md.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import click

from benchmarks.study import DOCS, RESULTS, write_between
from rtc.cli.build import Builder
from rtc.cli.plan import STRATEGY_DEFAULTS
from rtc.cli.provenance import commit, machine, versions
from rtc.process_pool import in_workers, one_thread
from rtc.runtime.latency import ConstantDelay
from rtc.serialise import read_json, write_json
from rtc.sweep import Cell, Shard, ShardResult, run_shard, split, sweep, total

STRATEGIES = ("naive", "realtime", "conditioned")
DELAY, ROWS, BATCH = 4, 4, 32
OVERHEAD_BAR, WORKERS_BAR = 0.02, 1.8
NAME = "sweep_speed"


def make_cell(builder: Builder, strategy: str) -> Cell:
    """A cell at a quarter of a chunk."""
    make = builder.strategy(strategy, **STRATEGY_DEFAULTS)
    return Cell(strategy, builder.env(), make, ConstantDelay(DELAY), ROWS, builder.starvation)


def measure_overhead(cells: list[Cell], rounds: int) -> list[dict[str, Any]]:
    """Of every strategy the share of each round, after one round of warm-up."""
    shares: dict[str, list[dict[str, float]]] = {cell.name: [] for cell in cells}
    with one_thread():
        for number in range(rounds + 1):
            for cell in cells:
                timing = total([run_shard(Shard(cell, tuple(range(BATCH)))).timing])
                if number:
                    steps = timing.control_steps
                    share, microseconds = timing.other / timing.total, 1e6 * timing.other / steps
                    shares[cell.name].append({"share": share, "microseconds_a_step": microseconds})
    return [
        {
            "strategy": name,
            "share": median(each["share"] for each in found),
            "best_share": min(each["share"] for each in found),
            "worst_share": max(each["share"] for each in found),
            "microseconds_a_step": median(each["microseconds_a_step"] for each in found),
            "passed": median(each["share"] for each in found) <= OVERHEAD_BAR,
        }
        for name, found in shares.items()
    ]


def measure_workers(cells: list[Cell], episodes: int, pairs: int) -> dict[str, Any]:
    """Control steps a second with one process and with two, by turns, and the median of their ratios."""
    shards = split(cells, range(episodes), BATCH)
    speeds = []
    for number in range(pairs):
        order = (1, 2) if number % 2 == 0 else (2, 1)  # neither always comes second
        speed = {workers: steps_per_second(shards, workers) for workers in order}
        speeds.append((speed[1], speed[2]))
    ratios = [two / one for one, two in speeds]
    return {
        "episodes_a_cell": episodes,
        "steps_per_second_of_one": median(one for one, _ in speeds),
        "steps_per_second_of_two": median(two for _, two in speeds),
        "ratios": ratios,
        "ratio": median(ratios),
        "passed": median(ratios) >= WORKERS_BAR,
    }


def steps_per_second(shards: list[Shard], workers: int) -> float:
    """Of one sweep, as `rtc sweep` runs it, from when the first worker begins to when the last one ends."""

    def pool(jobs: Sequence[Callable[[], ShardResult]]) -> Generator[tuple[int, ShardResult]]:
        return in_workers([partial(timed, job) for job in jobs], workers)

    with TemporaryDirectory() as folder:
        found = [result.timing for _, result, _ in sweep(shards, Path(folder), pool=pool, on_retry=give_up)]
    seconds = max(timing["ended"] for timing in found) - min(timing["begun"] for timing in found)
    return sum(timing["control_steps"] for timing in found) / seconds


def timed(job: Callable[[], ShardResult]) -> ShardResult:
    """What the job gives, with when it begun and ended: seconds of a clock that all processes share."""
    begun = monotonic()
    result = job()
    return replace(result, timing=result.timing | {"begun": begun, "ended": monotonic()})


def give_up(error: Exception) -> None:
    """A measurement with a retry in it is none."""
    raise error


def tables(document: dict[str, Any]) -> str:
    """What docs/sweep.md says, from the results."""
    rows = [
        f"| {each['strategy']} | {each['share']:.1%} | {each['best_share']:.1%} to {each['worst_share']:.1%} "
        f"| {each['microseconds_a_step']:.0f} | {document['overhead_bar']:.0%}, {verdict(each)} |"
        for each in document["overhead"]
    ]
    head = [
        "| strategy | overhead | of the rounds | microseconds a control step | bar |",
        "|---|---|---|---|---|",
    ]
    workers, ratios = document["workers"], document["workers"]["ratios"]
    one, two = workers["steps_per_second_of_one"], workers["steps_per_second_of_two"]
    text = [
        f"{document['task']}, batches of {document['batch']}, d = {document['delay']}, "
        f"s = {document['rows']}; median of {document['rounds']} rounds, the best and the worst of them.",
        f"Two processes make {workers['ratio']:.2f} times the steps of one ({two:,.0f} and {one:,.0f} a "
        f"second): the median of {len(ratios)} pairs from {min(ratios):.2f} to {max(ratios):.2f}; the bar "
        f"is {document['workers_bar']}, {verdict(workers)}.",
        f"Machine: {', '.join(f'{name} {value}' for name, value in document['machine'].items())}.",
    ]
    return "\n".join([*head, *rows, "", *text])


def verdict(part: dict[str, Any]) -> str:
    """In a word."""
    return "held" if part["passed"] else "not held"


@click.command()
@click.option("--task", default="Catch-v0", show_default=True, help="A task with shipped weights.")
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True, help="Of the overhead.")
@click.option("--pairs", type=click.IntRange(1), default=7, show_default=True, help="One process and two.")
@click.option("--episodes", type=click.IntRange(1), default=512, show_default=True, help="Of a cell.")
@click.option("--dry-run", is_flag=True, help="Print the tables and write nothing: the machine is not quiet.")
@click.option("--tables-only", is_flag=True, help="Write docs/sweep.md from the results that are there.")
def main(task: str, rounds: int, pairs: int, episodes: int, dry_run: bool, tables_only: bool) -> None:
    """Measure, and write the results and the tables."""
    if tables_only:
        write_between(DOCS / "sweep.md", NAME, tables(read_json(RESULTS / f"{NAME}.json")))
        return
    code, builder = commit(), Builder.check(task, None)
    cells = [make_cell(builder, strategy) for strategy in STRATEGIES]
    document = {
        **{"task": builder.task, "batch": BATCH, "delay": DELAY, "rows": ROWS},
        **{"rounds": rounds, "overhead_bar": OVERHEAD_BAR, "workers_bar": WORKERS_BAR},
        "overhead": measure_overhead(cells, rounds),
        "workers": measure_workers(cells, episodes, pairs),
        **{"versions": versions(), "machine": machine(), "commit": code},
    }
    click.echo(tables(document))
    if not dry_run:
        write_json(RESULTS / f"{NAME}.json", document)
        write_between(DOCS / "sweep.md", NAME, tables(document))


if __name__ == "__main__":
    main()
