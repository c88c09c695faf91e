"""Numbers over episodes, with their uncertainty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from rtc.errors import InvalidArgument

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A value and its 95 % confidence interval."""

    value: float
    low: float
    high: float


def success_rate(successes: int, episodes: int) -> Estimate:
    """The share of successes in 0..1 with the interval of Wilson (1927); episodes >= 1."""
    interval = stats.binomtest(successes, episodes).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(successes / episodes, float(interval.low), float(interval.high))


def paired_difference(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Estimate:
    """The mean of first - second over pairs, with the percentile bootstrap over pairs (Efron 1979), seeded.

    Both hold one value an episode, of the same episodes in the same order.
    """
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    if np.ptp(difference) == 0:  # the bootstrap of a constant is that constant
        return Estimate(*[float(difference[0])] * 3)
    generator = np.random.default_rng(seed)
    result = stats.bootstrap(
        (difference,), np.mean, confidence_level=CONFIDENCE, method="percentile", batch=1000, rng=generator
    )
    interval = result.confidence_interval
    return Estimate(float(difference.mean()), float(interval.low), float(interval.high))


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
