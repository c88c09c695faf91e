"""Who wins: the best strategy of every task and delay, who ties with it, and how each did over all of them.

```
contest  (task, delay)                      all that ran there, on the same seeds
cell     (strategy, execution horizon)      a contender; a strategy may run for several execution horizons
```

The oracle does not compete: it is the ceiling that the others are measured against.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rtc.errors import InvalidArgument
from rtc.report.statistics import (
    ALPHA,
    Estimate,
    holm,
    leaders,
    mcnemar,
    mean,
    paired_difference,
    success_rate,
    success_share,
)

ORACLE, NAIVE, SYNCHRONOUS = "oracle", "naive", "synchronous"

Place = tuple[str, str]
"""A task and a delay (its text)."""
Cell = Mapping[str, Any]
"""One cell of a sweep's summary.json; task, strategy, delay, execution_horizon and outcomes are read."""


@dataclass(frozen=True)
class Contender:
    """What ran: strategy (its label), execution_horizon (rows), and its share of successes."""

    strategy: str
    execution_horizon: int
    success: Estimate


@dataclass(frozen=True)
class Contest:
    """One task at one delay (its text).

    leaders: the best, then those not significantly worse than it, by success (`statistics.leaders`).
    over_naive: success of the best minus success of naive. oracle_share: success of the best over success of
    the oracle. Both paired by seed; of naive and the oracle the best execution horizon; None where they did
    not run, or the oracle never succeeded.
    """

    task: str
    delay: str
    leaders: tuple[Contender, ...]
    over_naive: Estimate | None
    oracle_share: Estimate | None

    @property
    def best(self) -> Contender:
        """The contender with the most successes."""
        return self.leaders[0]

    @property
    def tied(self) -> tuple[str, ...]:
        """The strategies that the data cannot tell from the best one, itself left out."""
        return tuple(
            name
            for name in dict.fromkeys(each.strategy for each in self.leaders[1:])
            if name != self.best.strategy
        )


@dataclass(frozen=True)
class Standing:
    """One strategy over its contests, with the best of its execution horizons in each.

    contests: in how many it ran. success: mean over them. shortfall: mean of the best's success minus its
    own, 0 or more; the best of many owes a little to luck, so even equals fall short. Their intervals are
    over seeds, which all contests share. won_or_tied: how often it is among the leaders. worse: where it is
    significantly worse than the better of naive and synchronous; the family is all contests in which it met
    one of them; None if there is none.
    """

    strategy: str
    contests: int
    success: Estimate
    shortfall: Estimate
    won_or_tied: int
    worse: tuple[Place, ...] | None


class WinnerTable(NamedTuple):
    """All contests and all standings, in the order in which the cells name them."""

    contests: tuple[Contest, ...]
    standings: tuple[Standing, ...]


class _Entry(NamedTuple):
    strategy: str
    execution_horizon: int
    outcomes: np.ndarray


def winner_table(cells: Sequence[Cell]) -> WinnerTable:
    """Who wins where, and how everybody did; raises InvalidArgument for cells that cannot be paired."""
    competing, ceilings = _by_place(cells)
    contests = [_contest(place, field, ceilings.get(place)) for place, field in competing.items()]
    strategies = dict.fromkeys(entry.strategy for field in competing.values() for entry in field)
    standings = [_standing(strategy, competing, contests) for strategy in strategies]
    return WinnerTable(tuple(contests), tuple(standings))


def _by_place(cells: Sequence[Cell]) -> tuple[dict[Place, list[_Entry]], dict[Place, list[_Entry]]]:
    """All who compete, and all oracles, by place."""
    competing: dict[Place, list[_Entry]] = {}
    ceilings: dict[Place, list[_Entry]] = {}
    for cell in cells:
        entry = _entry(cell, seeds=len(cells[0]["outcomes"]))
        places = ceilings if entry.strategy.split(":")[0] == ORACLE else competing
        field = places.setdefault((cell["task"], cell["delay"]), [])
        if any(entry[:2] == other[:2] for other in field):
            raise InvalidArgument(f"{_name(cell)} is there twice; give every cell once")
        field.append(entry)
    return competing, ceilings


def _entry(cell: Cell, seeds: int) -> _Entry:
    marks = cell["outcomes"]
    if not marks or set(marks) - {"0", "1"} or len(marks) != seeds:
        raise InvalidArgument(
            f"{_name(cell)} has {len(marks)} outcomes where the first cell has {seeds}; only cells of one "
            "sweep can be paired, which have one mark, 0 or 1, for each seed"
        )
    return _Entry(cell["strategy"], cell["execution_horizon"], np.array(list(marks)) == "1")


def _name(cell: Cell) -> str:
    return "{strategy} on {task} at delay {delay}, s = {execution_horizon},".format_map(cell)


def _best(field: Sequence[_Entry], *strategies: str) -> _Entry | None:
    """The most successful of all, or of `strategies`; of equals the first."""
    found = [entry for entry in field if not strategies or entry.strategy in strategies]
    return max(found, key=lambda entry: int(entry.outcomes.sum()), default=None)


def _contest(place: Place, field: Sequence[_Entry], ceiling: Sequence[_Entry] | None) -> Contest:
    ahead = [field[index] for index in leaders([entry.outcomes for entry in field])]
    best, naive, oracle = ahead[0].outcomes, _best(field, NAIVE), _best(ceiling or ())
    return Contest(
        *place,
        leaders=tuple(Contender(entry.strategy, entry.execution_horizon, _success(entry)) for entry in ahead),
        over_naive=None if naive is None else paired_difference(best, naive.outcomes),
        oracle_share=None if oracle is None else success_share(best, oracle.outcomes),
    )


def _success(entry: _Entry) -> Estimate:
    return success_rate(int(entry.outcomes.sum()), len(entry.outcomes))


def _standing(
    strategy: str, competing: Mapping[Place, Sequence[_Entry]], contests: Sequence[Contest]
) -> Standing:
    own, behind, worse, won_or_tied = [], [], {}, 0
    for contest, (place, field) in zip(contests, competing.items(), strict=True):
        entry, best, baseline = _best(field, strategy), _best(field), _best(field, NAIVE, SYNCHRONOUS)
        if entry is None or best is None:
            continue
        own.append(entry.outcomes)
        behind.append(best.outcomes.astype(float) - entry.outcomes)
        won_or_tied += strategy in (contest.best.strategy, *contest.tied)
        if baseline is not None:
            worse[place] = _p_worse(entry, baseline)
    adjusted = holm(list(worse.values()))
    return Standing(
        strategy,
        contests=len(own),
        success=mean(np.mean(own, axis=0)),
        shortfall=mean(np.mean(behind, axis=0)),
        won_or_tied=won_or_tied,
        worse=tuple(place for place, p in zip(worse, adjusted, strict=True) if p < ALPHA) if worse else None,
    )


def _p_worse(entry: _Entry, baseline: _Entry) -> float:
    """The p-value of a difference, two-sided, if `entry` is the worse of the two; 1 if it is not."""
    worse = entry.outcomes.sum() < baseline.outcomes.sum()
    return mcnemar(entry.outcomes, baseline.outcomes) if worse else 1.0
