"""The tables of docs/study.md, from the summaries of its sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.gate_tables import table
from benchmarks.study import percent
from rtc.report.html.delays import in_order
from rtc.report.statistics import Estimate, mean, paired_difference, success_share
from rtc.report.winners import ORACLE, Standing, winner_table

AUTO, RESIDUAL = "auto", "residual"
BAR = 0.9
JUMP_BAR = 0.5
Cell = dict[str, Any]
Key = tuple[str, str, str]
"""Task, strategy (its text) and delay (its text)."""


def by_key(cells: Sequence[Cell]) -> dict[Key, Cell]:
    """The cells; of several execution horizons the best."""
    found: dict[Key, Cell] = {}
    for cell in sorted(cells, key=lambda cell: cell["successes"]):
        found[cell["task"], cell["strategy"], cell["delay"]] = cell
    return found


def names(cells: Sequence[Cell], what: str) -> list[str]:
    """All there are, in order of appearance."""
    return list(dict.fromkeys(cell[what] for cell in cells))


def outcomes(cell: Cell) -> np.ndarray:
    """Success of each seed."""
    return np.array(list(cell["outcomes"])) == "1"


def ceiling(cells: Sequence[Cell], task: str, delay: str) -> Cell | None:
    """The best oracle there."""
    found = [
        cell
        for cell in cells
        if (cell["task"], cell["delay"]) == (task, delay) and _is_oracle(cell["strategy"])
    ]
    return max(found, key=lambda cell: cell["successes"], default=None)


def share(cells: Sequence[Cell], strategy: str, task: str, delay: str) -> Estimate | None:
    """Of the oracle's success."""
    own, top = by_key(cells).get((task, strategy, delay)), ceiling(cells, task, delay)
    return None if own is None or top is None else success_share(outcomes(own), outcomes(top))


def best_table(cells: Sequence[Cell]) -> str:
    """The best strategy of every task and delay, its success and its share of the oracle's."""
    rows = []
    for contest in winner_table(cells).contests:
        top = contest.oracle_share
        own = share(cells, AUTO, contest.task, contest.delay)
        rows.append(
            [
                contest.task.removesuffix("-v0"),
                contest.delay,
                f"`{contest.best.strategy}`",
                percent(contest.best.success),
                "-" if top is None else _marked(top),
                "-" if own is None else _marked(own),
                ", ".join(f"`{name}`" for name in contest.tied) or "-",
            ]
        )
    head = ["task", "d", "best", "success %", "of the oracle %", "`auto`: of the oracle %", "not worse"]
    return table(head, rows)


def _marked(estimate: Estimate) -> str:
    """Bold below the bar."""
    return percent(estimate) if estimate.value >= BAR else f"**{percent(estimate)}**"


def standing_table(cells: Sequence[Cell]) -> str:
    """Every strategy over all tasks and delays, best first."""
    delays = in_order(names(cells, "delay"))
    found = by_key(cells)
    tasks = names(cells, "task")
    contests = len(tasks) * len(delays)

    def at(strategy: str, delay: str) -> str:
        values = [
            found[key]["success"]["value"] for task in tasks if (key := (task, strategy, delay)) in found
        ]
        return f"{100 * fmean(values):.0f}" if len(values) == len(tasks) else "-"

    def row(standing: Standing) -> list[str]:
        worse = "-" if standing.worse is None else str(len(standing.worse))
        whole = standing.contests == contests
        return [
            f"`{standing.strategy}`",
            *(at(standing.strategy, delay) for delay in delays),
            percent(standing.success) if whole else "-",
            f"{100 * standing.shortfall.value:.1f}" if whole else "-",
            str(standing.won_or_tied),
            worse,
        ]

    standings = sorted(
        winner_table(cells).standings, key=lambda each: (each.contests == contests, each.success.value)
    )
    rows = [row(standing) for standing in reversed(standings)]
    oracles = [label for label in names(cells, "strategy") if _is_oracle(label)]
    rows += [[f"`{label}`", *(at(label, delay) for delay in delays), *["-"] * 4] for label in oracles]
    head = ["", *(f"d = {delay}" if delay.isdecimal() else delay for delay in delays)]
    return table([*head, "all", "short of the best", "best or tied", "worse than naive or waiting"], rows)


def bar_lines(cells: Sequence[Cell]) -> str:
    """The bars of the study, each with what was measured."""
    winners = winner_table(cells)
    standings = {each.strategy: each for each in winners.standings}
    auto = standings[AUTO]
    whole = [each for each in winners.standings if each.contests == len(winners.contests)]
    best = max((each for each in whole if each.strategy != AUTO), key=lambda each: each.success.value)
    worse = ", ".join(f"{task} at {delay}" for task, delay in auto.worse or ()) or "none"
    count = len(names(cells, "task"))
    everybody = names(cells, "strategy")
    headless = [name for name in everybody if name.split(":")[0] not in (AUTO, RESIDUAL)]
    kept = {
        "The best strategy of each cell keeps": _keeping(cells, everybody),
        "Without the head, which sees every tick, the best keeps": _keeping(cells, headless),
        "`auto` keeps": _keeping(cells, [AUTO]),
    }
    lines = [
        f"{words} at least 90 % of the oracle's success at every delay on {len(tasks)} of {count} tasks "
        f"({', '.join(task.removesuffix('-v0') for task in tasks) or 'none'})."
        for words, tasks in kept.items()
    ]
    lines += [
        f"`auto` is significantly worse than the better of naive and synchronous in {len(auto.worse or ())} "
        f"of {auto.contests} cells ({worse}).",
        f"The best single strategy over all cells is `{best.strategy}` with {percent(best.success)} %; "
        f"`auto` has {percent(auto.success)} %, {percent(_over(cells, AUTO, best.strategy))} points more.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _keeping(cells: Sequence[Cell], strategies: Sequence[str]) -> list[str]:
    """The tasks on which the best of these strategies reaches the bar at every delay."""

    def keeps(task: str, delay: str) -> bool:
        found = [share(cells, strategy, task, delay) for strategy in strategies if not _is_oracle(strategy)]
        return max((each.value for each in found if each is not None), default=0.0) >= BAR

    delays = names(cells, "delay")
    return [task for task in names(cells, "task") if all(keeps(task, delay) for delay in delays)]


def _is_oracle(strategy: str) -> bool:
    return strategy.split(":")[0] == ORACLE


def _over(cells: Sequence[Cell], one: str, other: str) -> Estimate:
    """Mean success of `one` minus that of `other`, paired by seed."""
    found = by_key(cells)
    places = [(task, delay) for task, strategy, delay in found if strategy == one]

    def over_all(strategy: str) -> np.ndarray:
        return np.mean([outcomes(found[task, strategy, delay]) for task, delay in places], axis=0)

    return paired_difference(over_all(one), over_all(other))


def difference_table(cells: Sequence[Cell], pairs: Sequence[tuple[str, str]]) -> str:
    """One strategy minus another, in points, mean over tasks, paired by seed."""
    found, delays, tasks = by_key(cells), in_order(names(cells, "delay")), names(cells, "task")

    def at(one: str, other: str, delay: str) -> str:
        both = [
            [outcomes(found[task, each, delay]) for each in (one, other)]
            for task in tasks
            if all((task, each, delay) in found for each in (one, other))
        ]
        if not both:
            return "-"
        first, second = np.mean(both, axis=0)
        return percent(paired_difference(first, second))

    rows = [[f"`{one}` - `{other}`", *(at(one, other, delay) for delay in delays)] for one, other in pairs]
    return table(["", *(f"d = {delay}" if delay.isdecimal() else delay for delay in delays)], rows)


def fair_table(cells: Sequence[Cell], milliseconds: dict[str, float]) -> str:
    """Success of every strategy at its own delay, by task."""
    found, tasks = by_key(cells), names(cells, "task")
    rows = []
    for label, latency in sorted(milliseconds.items(), key=lambda item: item[1]):
        own = [found.get((task, label, "fair")) for task in tasks]
        here = [cell for cell in own if cell is not None]
        ticks = f"{here[0]['mean_delay']:.0f}" if here else "-"
        mean = (
            f"{100 * fmean(cell['success']['value'] for cell in here):.0f}"
            if len(here) == len(tasks)
            else "-"
        )
        values = ["-" if cell is None else percent(cell["success"]) for cell in own]
        rows.append([f"`{label}`", f"{latency:.0f}", ticks, *values, mean])
    return table(["", "ms", "d", *(task.removesuffix("-v0") for task in tasks), "mean"], rows)


def jump_table(jumps: Sequence[dict[str, Any]]) -> str:
    """Boundary jump over naive's, by task; bold above one half."""
    tasks = list(dict.fromkeys(row["task"] for row in jumps))
    found = {(row["strategy"], row["task"]): Estimate(*row["ratio"]) for row in jumps}
    rows = []
    for strategy in dict.fromkeys(row["strategy"] for row in jumps):
        own = [found.get((strategy, task)) for task in tasks]
        rows.append([f"`{strategy}`", *("-" if each is None else _over_half(each) for each in own)])
    return table(["", *(task.removesuffix("-v0") for task in tasks)], rows)


def _over_half(estimate: Estimate) -> str:
    return f"**{percent(estimate)}**" if estimate.value > JUMP_BAR else percent(estimate)


def horizon_table(cells: Sequence[Cell]) -> str:
    """Success by execution horizon, mean over tasks."""
    tasks = names(cells, "task")
    rows = []
    for strategy in names(cells, "strategy"):
        for delay in in_order(names(cells, "delay")):
            own = [cell for cell in cells if (cell["strategy"], cell["delay"]) == (strategy, delay)]
            by_rows: dict[int, list[np.ndarray]] = {}
            for cell in own:
                by_rows.setdefault(cell["execution_horizon"], []).append(outcomes(cell))
            texts = [
                f"s = {count}: {percent(mean(np.mean(each, axis=0)))}"
                for count, each in sorted(by_rows.items())
                if len(each) == len(tasks)
            ]
            rows.append([f"`{strategy}`", delay, *texts])
    width = max(map(len, rows))
    return table(["", "d", *[""] * (width - 2)], [row + ["-"] * (width - len(row)) for row in rows])


def head_table(success: dict[str, dict[str, dict[str, float]]]) -> str:
    """Success with and without a residual head, and of the head alone, by task."""
    ways = list(next(iter(success.values())))
    rows = [[way, *(percent(row[way]) for row in success.values())] for way in ways]
    return table(["", *(task.removesuffix("-v0") for task in success)], rows)


def headline(cells: Sequence[Cell], words: dict[str, str]) -> str:
    """The README's sentence: mean success of strategies, each by the words for it."""
    found = by_key(cells)
    places = [(cell["task"], cell["delay"]) for cell in cells if cell["strategy"] == AUTO]

    def success(label: str) -> str:
        return f"{100 * fmean(found[task, label, delay]['success']['value'] for task, delay in places):.0f} %"

    parts = ", ".join(f"{words[label]} {success(label)}" for label in words)
    count, episodes = len(names(cells, "task")), cells[0]["episodes"]
    return (
        f"Over {count} tasks and delays up to half a chunk, {episodes} episodes a cell on the same seeds, "
        f"mean success: {parts}. "
        "[Which way of executing chunks is best where](docs/study.md)."
    )
