"""What a sweep says, in words: the question, the answer, the winner of every cell, and what to copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rtc.report.html.command import rollout_command
from rtc.report.html.delays import in_order, is_constant
from rtc.report.html.tab import best_horizons, interval, percent
from rtc.report.sweep_summary import Cell, Summary
from rtc.report.statistics import Estimate
from rtc.report.winners import NAIVE, ORACLE, Contest, WinnerTable, winner_table

TIE_NOTE = (
    "Large: success. A tie: these strategies are not significantly worse than the best (exact McNemar test on the "
    "same seeds, Holm's correction over the comparisons with the best, 5 %). The oracle does not compete: it sees "
    "the simulator and the frozen actions, and its success is the ceiling."
)
OVERALL_NOTE = (
    "Every strategy over all combinations of task and delay in which it ran. Behind: how much less success than the "
    "winner of each, in points. Worse: significantly worse than the better of naive and synchronous. In brackets: 95 %."
)
OVERALL_HEADS = ("ran in", "success", "behind", "best or tied", "worse", "network calls", "VJPs")


@dataclass(frozen=True)
class Won:
    """A cell of the winner table, as text."""

    strategy: str
    success: str
    tie: bool
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
    """All that the first screen says. winners: (task, delay) -> who won."""

    question: str
    answer: str
    facts: list[str]
    winners: dict[tuple[str, str], Won]
    advices: list[Advice]
    overall: list[Row]


def make_verdict(summary: Summary) -> Verdict:
    """The verdict of a sweep's summary."""
    cells: list[Cell] = summary["cells"]
    table = winner_table(cells)
    tasks = list(dict.fromkeys(cell["task"] for cell in cells))
    return Verdict(
        question=question(summary),
        answer=answer(table, cells),
        facts=_facts(summary),
        winners={(contest.task, contest.delay): _won(contest) for contest in table.contests},
        advices=[
            advice
            for task in tasks
            if (advice := _advice(task, summary["tasks"][task]["title"], cells, table)) is not None
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
        parts.append(f"{constant[0]} to {constant[-1]} ticks" if len(constant) > 1 else f"{constant[0]} ticks")
    if len(constant) < len(delays):
        parts.append("a varying time")
    return (
        f"How should chunks of {' or '.join(map(str, horizons))} actions be executed on {_count(len(tasks), 'task')} "
        f"while inference takes {' or '.join(parts)}?"
    )


def answer(table: WinnerTable, cells: Sequence[Cell]) -> str:
    """Who won most often, how often alone, and what the ceiling is."""
    if not table.standings:
        return "Only the oracle ran: there is nobody to compare."
    best = max(table.standings, key=lambda standing: (standing.won_or_tied, standing.success.value))
    alone = sum(contest.best.strategy == best.strategy and not contest.tied for contest in table.contests)
    ceiling = _oracle_success(cells)
    return (
        f"{best.strategy} is best or ties with the best in {best.won_or_tied} of {len(table.contests)} combinations "
        f"of task and delay, in {alone} of them alone. Over all it succeeds in {percent(best.success.value)}"
        + (f", the oracle in {percent(ceiling)}." if ceiling is not None else ".")
    )


def _oracle_success(cells: Sequence[Cell]) -> float | None:
    """The oracle's mean over tasks and delays, with the better of its execution horizons; None without one."""
    best: dict[tuple[str, str], float] = {}
    for cell in filter(_is_oracle, cells):
        place = (cell["task"], cell["delay"])
        best[place] = max(best.get(place, 0.0), cell["success"]["value"])
    return sum(best.values()) / len(best) if best else None


def _is_oracle(cell: Cell) -> bool:
    return cell["strategy"].partition(":")[0] == ORACLE


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _facts(summary: Summary) -> list[str]:
    cells = summary["cells"]
    episodes = sorted({cell["episodes"] for cell in cells})
    seeds = summary.get("seeds")
    return [
        f"{' or '.join(map(str, episodes))} episodes a cell"
        + (f", the same seeds {seeds[0]} to {seeds[1]} in all of them" if seeds else ""),
        _count(len({cell["strategy"] for cell in cells}), "strategy").replace("strategys", "strategies"),
        _count(len(cells), "cell"),
    ]


def _won(contest: Contest) -> Won:
    naive, share = contest.over_naive, contest.oracle_share
    notes = [
        f"{points(naive)} over naive" if naive and contest.best.strategy != NAIVE else "",
        f"{percent(share.value)} {interval(share.low, share.high)} of the oracle" if share else "",
        f"no worse: {', '.join(contest.tied)}" if contest.tied else "",
    ]
    success = percent(contest.best.success.value)
    return Won(contest.best.strategy, success, bool(contest.tied), [note for note in notes if note])


def points(difference: Estimate) -> str:
    """`+16 [12, 19]`, in percentage points."""
    value, low, high = (round(100 * number) + 0 for number in difference)
    return f"{value:+d} [{low}, {high}]"


def _advice(task: str, title: str, cells: Sequence[Cell], table: WinnerTable) -> Advice | None:
    """The strategy with most success over the delays of `task`, of those that ran at most of them."""
    rows: dict[str, list[Cell]] = {}
    for (label, _), cell in best_horizons([cell for cell in cells if cell["task"] == task]).items():
        if not _is_oracle(cell):
            rows.setdefault(label, []).append(cell)
    if not rows:
        return None
    most = max(map(len, rows.values()))
    means = {
        label: sum(cell["success"]["value"] for cell in row) / most
        for label, row in rows.items()
        if len(row) == most  # who left the hard delays out is no better for it
    }
    best = max(means, key=lambda label: means[label])
    contests = [contest for contest in table.contests if contest.task == task]
    good = sum(best in (contest.best.strategy, *contest.tied) for contest in contests)
    reason = f"{percent(means[best])} over {_count(most, 'delay')}; best or tied at {good} of {len(contests)}"
    return Advice(title, best, reason, rollout_command(rows[best]))


def _overall(table: WinnerTable, cells: Sequence[Cell]) -> list[Row]:
    """The standings, best first."""
    return [
        Row(
            standing.strategy,
            [
                f"{standing.contests} of {len(table.contests)}",
                f"{percent(standing.success.value)} {interval(standing.success.low, standing.success.high)}",
                f"{100 * standing.shortfall.value:.1f}",
                str(standing.won_or_tied),
                "–" if standing.worse is None else str(len(standing.worse)),
                *(_mean(cells, standing.strategy, name) for name in ("network_calls", "vjps")),
            ],
        )
        for standing in sorted(table.standings, key=lambda standing: -standing.success.value)
    ]


def _mean(cells: Sequence[Cell], strategy: str, name: str) -> str:
    values = [cell[name] for cell in cells if cell["strategy"] == strategy]
    return f"{sum(values) / len(values):.0f}"
