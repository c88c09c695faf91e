"""What a sweep says, in words: the question, the answer, the winner of every cell, and what to copy."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from rtc.report.html.command import best_command
from rtc.report.html.delays import in_order, is_constant
from rtc.report.html.tab import best_horizons
from rtc.report.html.words import count, interval, percent, points
from rtc.report.sweep_summary import Cell, Summary
from rtc.report.winners import NAIVE, ORACLE, Contest, WinnerTable, winner_table


@dataclass(frozen=True)
class Won:
    """A cell of the winner table, as text."""

    strategy: str
    success: str
    tied: list[str]
    notes: list[str]


@dataclass(frozen=True)
class Advice:
    """What to run on one task, and why."""

    title: str
    strategy: str
    reason: str
    command: str


@dataclass(frozen=True)
class Row:
    """One strategy over everything."""

    strategy: str
    texts: list[str]


@dataclass(frozen=True)
class Verdict:
    """All that the first screen says. winners: (task, delay) -> who won. overall: best first, oracle last."""

    question: str
    answer: str
    facts: list[str]
    winners: dict[tuple[str, str], Won]
    advices: list[Advice]
    overall: list[Row]


def make_verdict(summary: Summary, rollout_options: Collection[str]) -> Verdict:
    """The verdict of a sweep's summary; rollout_options: what `rtc rollout` takes."""
    cells: list[Cell] = summary["cells"]
    table = winner_table(cells)
    tasks = list(dict.fromkeys(cell["task"] for cell in cells))
    return Verdict(
        question=question(summary),
        answer=answer(table, cells),
        facts=_facts(summary),
        winners={(contest.task, contest.delay): _won(contest) for contest in table.contests},
        advices=[
            _advice(summary["tasks"][task]["title"], chosen, mine, rollout_options)
            for task in tasks
            if (mine := [contest for contest in table.contests if contest.task == task])
            for chosen in [
                best_horizons([cell for cell in cells if cell["task"] == task and not _is_oracle(cell)])
            ]
        ],
        overall=_overall(table, cells),
    )


def question(summary: Summary) -> str:
    """What the sweep asked, in one sentence."""
    cells = summary["cells"]
    tasks = list(dict.fromkeys(cell["task"] for cell in cells))
    horizons = sorted({summary["tasks"][task]["horizon"] for task in tasks})
    delays = in_order(cell["delay"] for cell in cells)
    constant = [delay for delay in delays if is_constant(delay)]
    parts = []
    if constant:
        parts.append(
            f"{constant[0]} to {constant[-1]} ticks" if len(constant) > 1 else f"{constant[0]} ticks"
        )
    if len(constant) < len(delays):
        parts.append("a varying time")
    chunks = f"chunks of {' or '.join(map(str, horizons))} actions"
    on = count(len(tasks), "task", "tasks")
    return f"How should {chunks} be executed on {on} while inference takes {' or '.join(parts)}?"


def answer(table: WinnerTable, cells: Sequence[Cell]) -> str:
    """Who won most often, how often alone, and what the ceiling is."""
    if not table.standings:
        return "Only the oracle ran: there is nobody to compare."
    best = max(table.standings, key=lambda standing: (standing.won_or_tied, standing.success.value))
    alone = sum(contest.best.strategy == best.strategy and not contest.tied for contest in table.contests)
    ceiling = _oracle_successes(cells)
    return (
        f"{best.strategy} is best or ties with the best in {best.won_or_tied} of {len(table.contests)} "
        f"combinations of task and delay, in {alone} of them alone. Over all it succeeds in "
        f"{percent(best.success.value)}" + (f", the oracle in {percent(fmean(ceiling))}." if ceiling else ".")
    )


def _oracle_successes(cells: Sequence[Cell]) -> list[float]:
    """Of the oracle at every task and delay, at the better of its execution horizons."""
    best: dict[tuple[str, str], float] = {}
    for cell in filter(_is_oracle, cells):
        place = (cell["task"], cell["delay"])
        best[place] = max(best.get(place, 0.0), cell["success"]["value"])
    return list(best.values())


def _is_oracle(cell: Cell) -> bool:
    return cell["strategy"].partition(":")[0] == ORACLE


def _facts(summary: Summary) -> list[str]:
    cells = summary["cells"]
    episodes = sorted({cell["episodes"] for cell in cells})
    seeds = summary.get("seeds")
    return [
        f"{' or '.join(map(str, episodes))} episodes a cell"
        + (f", the same seeds {seeds[0]} to {seeds[1]} in all of them" if seeds else ""),
        count(len({cell["strategy"] for cell in cells}), "strategy", "strategies"),
        count(len(cells), "cell", "cells"),
    ]


def _won(contest: Contest) -> Won:
    naive, share = contest.over_naive, contest.oracle_share
    notes = [
        f"{points(naive)} over naive" if naive and contest.best.strategy != NAIVE else "",
        f"{percent(share.value)} {interval(share)} of the oracle" if share else "",
    ]
    success = percent(contest.best.success.value)
    return Won(contest.best.strategy, success, list(contest.tied), [note for note in notes if note])


def _advice(
    title: str,
    chosen: Mapping[tuple[str, str], Cell],
    contests: Sequence[Contest],
    rollout_options: Collection[str],
) -> Advice:
    """The strategy with most success over the delays of a task, of those that ran at most of them."""
    rows: dict[str, list[Cell]] = {}
    for (label, _), cell in chosen.items():
        rows.setdefault(label, []).append(cell)
    most = max(map(len, rows.values()))  # who left the hard delays out is no better for it
    means = {
        label: sum(cell["success"]["value"] for cell in row) / most
        for label, row in rows.items()
        if len(row) == most
    }
    best = max(means, key=lambda label: means[label])
    good = sum(best in (contest.best.strategy, *contest.tied) for contest in contests)
    over = count(most, "delay", "delays")
    reason = f"{percent(means[best])} over {over}; best or tied at {good} of {len(contests)}"
    return Advice(title, best, reason, best_command(rows[best], rollout_options))


def _overall(table: WinnerTable, cells: Sequence[Cell]) -> list[Row]:
    """The standings, best first, and the ceiling."""
    rows = [
        Row(
            standing.strategy,
            [
                f"{standing.contests} of {len(table.contests)}",
                f"{percent(standing.success.value)} {interval(standing.success)}",
                f"{100 * standing.shortfall.value:.1f}",
                str(standing.won_or_tied),
                "–" if standing.worse is None else str(len(standing.worse)),
                *(_mean(cells, standing.strategy, name) for name in ("network_calls", "vjps")),
            ],
        )
        for standing in sorted(table.standings, key=lambda standing: -standing.success.value)
    ]
    for label in dict.fromkeys(cell["strategy"] for cell in filter(_is_oracle, cells)):
        best = _oracle_successes([cell for cell in cells if cell["strategy"] == label])
        rows.append(Row(label, [f"{len(best)} of {len(table.contests)}", percent(fmean(best)), *["–"] * 5]))
    return rows


def _mean(cells: Sequence[Cell], strategy: str, name: str) -> str:
    values = [cell[name] for cell in cells if cell["strategy"] == strategy]
    return f"{sum(values) / len(values):.0f}"
