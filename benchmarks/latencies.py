"""What each strategy costs beside naive, and what that means for a small policy and for a large one.

An inference on one thread, in turn with naive's: the median of the ratios does not depend on how busy the
machine is.

```
small   a policy as small as the shipped ones, for one robot: naive takes 20 ms, a tick, the others as much
        longer than that as they take here
large   an encoder that runs once, 62 ms, and flow steps, 14 ms times the ratio. 76 ms is what naive takes
        with pi0.5 on an RTX 4090, 14 of them for its five flow steps, and with guidance 35 (Black et al.
        2025); 16 chunks at once cost 25.9 / 13.2 of one on an A5000 (Liu et al. 2024); the other ratios are
        those for 32 robots here, where it is the operations that cost, not their start
```
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from rtc.cli.build import Builder
from rtc.cli.fair import measure_latency
from rtc.cli.plan import STRATEGY_DEFAULTS
from rtc.cli.provenance import commit, machine
from rtc.cli.strategy_text import parse_strategy
from rtc.runtime.strategies import Strategy

ROUNDS, TIMES = 7, 11
SMALL_MS, ENCODER_MS, FLOW_MS = 20.0, 62.0, 14.0
PUBLISHED = {"realtime": 35.0 / 14.0, "bid": 25.9 / 13.2}
"""Ratios of large policies on graphics cards, by strategy with its defaults."""


def ratios(labels: Sequence[str], task: str, robots: int) -> dict[str, float]:
    """Time of an inference for so many robots over that of naive, by strategy (its text)."""
    builder = Builder.check(task, None)

    def strategy(label: str) -> Strategy:
        text = parse_strategy(label)
        return builder.strategy(text.name, **STRATEGY_DEFAULTS | dict(text.options))()

    naive, env = strategy("naive"), builder.env()
    found = {"naive": 1.0}
    for label in labels:
        if label != "naive":
            one = strategy(label)
            turns = [
                [measure_latency(each, env, robots, TIMES) for each in (one, naive)] for _ in range(ROUNDS)
            ]
            # two digits are what repeats; more would put a tick between strategies that do the same
            found[label] = round(median(mine / other for mine, other in turns), 2)
    return found


def measure(labels: Sequence[str], task: str) -> dict[str, Any]:
    """The ratios, and the milliseconds that follow."""
    few, many = ratios(labels, task, 1), ratios(labels, task, 32)
    large = many | {label: ratio for label, ratio in PUBLISHED.items() if label in many}
    return {
        "commit": commit(),
        "machine": machine(),
        "task": task,
        "ratios": {"one robot": few, "32 robots": many},
        "small": {label: SMALL_MS * ratio for label, ratio in few.items()},
        "large": {label: ENCODER_MS + FLOW_MS * ratio for label, ratio in large.items()},
    }
