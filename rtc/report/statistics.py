"""Numbers over episodes, with their uncertainty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from rtc.errors import InvalidArgument

CONFIDENCE = 0.95
ALPHA = 0.05
RESAMPLES = 9999


Values = Sequence[float] | np.ndarray
"""One number an episode."""
Outcomes = Sequence[bool] | np.ndarray
"""Success of every episode; paired ones are of the same seeds in the same order."""


class Estimate(NamedTuple):
    """A value and its 95 % confidence interval."""

    value: float
    low: float
    high: float


def success_rate(successes: int, episodes: int) -> Estimate:
    """The share of successes in 0..1 with the interval of Wilson (1927); episodes >= 1."""
    interval = stats.binomtest(successes, episodes).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(successes / episodes, float(interval.low), float(interval.high))


def paired_difference(first: Values, second: Values, seed: int = 0) -> Estimate:
    """The mean of first - second over pairs, with the interval of `mean`.

    Both hold one value an episode, of the same episodes in the same order.
    """
    return mean(np.asarray(first, np.float64) - np.asarray(second, np.float64), seed)


def mean(values: Values, seed: int = 0) -> Estimate:
    """The mean of one value an episode, with the percentile bootstrap over episodes (Efron 1979), seeded."""
    values = np.asarray(values, np.float64)
    if np.ptp(values) == 0:  # the bootstrap of a constant is that constant
        return Estimate(*[float(values[0])] * 3)
    result = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=1000,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    interval = result.confidence_interval
    return Estimate(float(values.mean()), float(interval.low), float(interval.high))


def success_share(first: Outcomes, second: Outcomes, seed: int = 0) -> Estimate | None:
    """Successes of `first` over successes of `second`, 0 or more, paired; None where `second` has none.

    The interval is the percentile bootstrap over pairs, seeded; resamples in which `second` has no success
    have no share and are left out.
    """
    first, second = _paired(first, second)
    if not second.any():
        return None
    kinds = [
        (first & second).sum(),
        (first & ~second).sum(),
        (~first & second).sum(),
        (~first & ~second).sum(),
    ]
    # Drawing pairs with replacement is drawing how many there are of each of the four kinds.
    draws = np.random.default_rng(seed).multinomial(len(first), np.array(kinds) / len(first), RESAMPLES)
    over, under = draws[:, 0] + draws[:, 1], draws[:, 0] + draws[:, 2]
    low, high = np.quantile(over[under > 0] / under[under > 0], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(first.sum() / second.sum()), float(low), float(high))


def mcnemar(first: Outcomes, second: Outcomes) -> float:
    """The p-value of equal success rates on the same episodes: two-sided, exact (McNemar 1947).

    ```
                    second succeeds   second fails        If the rates are equal, each pair that disagrees
    first succeeds  says nothing      b                   is b or c like a coin: b ~ Binomial(b + c, 1/2).
    first fails     c                 says nothing        Without such pairs nothing speaks against it: 1.
    ```
    """
    first, second = _paired(first, second)
    only_first, differing = int((first & ~second).sum()), int((first != second).sum())
    return float(stats.binomtest(only_first, differing).pvalue) if differing else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the order given: those below alpha are wrong anywhere with chance alpha at most.

    Source: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, (len(p_values) - rank) * p_values[index])
        adjusted[index] = min(1.0, largest)
    return adjusted


def leaders(outcomes: Sequence[Outcomes]) -> list[int]:
    """The index of the best by success, then of all that are not significantly worse, by success.

    outcomes: one row a contender, of the same episodes in the same order; of equals the first is the best.
    The comparisons are `mcnemar`'s; the family is all pairs (`holm`, ALPHA), not only those with the best:
    which one is the best was found by looking, and equals would be called worse more often than ALPHA says.
    """
    successes = [int(np.sum(row)) for row in outcomes]
    order = sorted(range(len(outcomes)), key=lambda index: -successes[index])
    pairs = list(combinations(order, 2))  # those with the best come first
    adjusted = holm([mcnemar(outcomes[one], outcomes[other]) for one, other in pairs])
    return [order[0], *(pairs[index][1] for index in range(len(order) - 1) if adjusted[index] >= ALPHA)]


def _paired(first: Outcomes, second: Outcomes) -> tuple[np.ndarray, np.ndarray]:
    if len(first) != len(second) or not len(first):
        raise InvalidArgument(
            f"{len(first)} outcomes beside {len(second)}; pairs need the same episodes, at least 1"
        )
    return np.asarray(first, bool), np.asarray(second, bool)


@dataclass(frozen=True)
class Summary:
    """One cell in numbers. None: no episode had the number.

    delay: ticks, or the text of what draws them; mean_delay: as counted, ticks. execution_horizon: rows.
    failures: how often each reason ended an episode. time_to_success: seconds, mean over successes.
    boundary_jump, prefix_error: action units, median over chunks. rms_jerk: m/s^3, mean over episodes.
    starved_ticks, network_calls, vjps: mean an episode.
    """

    strategy: str
    delay: int | str
    mean_delay: float | None
    execution_horizon: int
    episodes: int
    successes: int
    success: Estimate
    failures: dict[str, int]
    time_to_success: float | None
    boundary_jump: float | None
    prefix_error: float | None
    rms_jerk: float | None
    starved_ticks: float
    network_calls: float
    vjps: float


def summarise(
    strategy: str, delay: int | str, execution_horizon: int, records: Sequence[dict[str, Any]]
) -> Summary:
    """The summary of a cell's episode records (`rtc.sweep.episode_record`); at least one."""
    if not records:
        raise InvalidArgument(f"no episodes of {strategy} at a delay of {delay}; give at least 1 record")
    successes = sum(record["success"] for record in records)
    jumps = [jump for record in records for jump in record["boundary_jumps"]]
    errors = [error for record in records for error in record["prefix_errors"]]
    return Summary(
        strategy=strategy,
        delay=delay,
        mean_delay=_over(np.mean, (delay for record in records for delay in record["delays"])),
        execution_horizon=execution_horizon,
        episodes=len(records),
        successes=successes,
        success=success_rate(successes, len(records)),
        failures=dict(Counter(record["failure"] for record in records if record["failure"]).most_common()),
        time_to_success=_over(np.mean, (record["time_to_success"] for record in records)),
        boundary_jump=_over(np.median, jumps),
        prefix_error=_over(np.median, errors),
        rms_jerk=_over(np.mean, (record["rms_jerk"] for record in records)),
        starved_ticks=float(np.mean([record["starved_ticks"] for record in records])),
        network_calls=float(np.mean([record["network_calls"] for record in records])),
        vjps=float(np.mean([record["vjps"] for record in records])),
    )


def _over(reduce: Callable[..., Any], values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(reduce(known)) if known else None
