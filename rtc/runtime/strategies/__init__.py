"""Strategies: how an observation and the plan in progress become the next chunk.

Each is a few lines over what they share: condition, draw, count (`base`).

```
baselines    synchronous stops and thinks; naive thinks while it moves and switches blindly
blending     mix chunks after they are drawn: ensemble, blend
selection    draw many, keep the one that fits: bid
steering     steer the flow without a gradient: seam, overwrite, paint, warm
realtime     guide the flow (PiGDM); posterior: by the policy's own covariance
conditioned  ask a policy that was trained to be told; auto: if it was, else guide
residual     correct every action as it is about to run, by a small head
rollforward  show the policy where the robot will be          } look ahead (world.py), and are
oracle       the expert, knowing all: the ceiling             } built by who has what that takes
```

Source: Black, Galliker & Levine 2025, "Real-Time Execution of Action Chunking Flow Policies"
(arXiv 2506.07339); the others' own in their `about`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch

from rtc.errors import InvalidArgument
from rtc.runtime.strategies.auto import Auto
from rtc.runtime.strategies.base import About, FlowPolicy, InferenceInfo, Strategy
from rtc.runtime.strategies.baselines import Naive, Synchronous
from rtc.runtime.strategies.blending import Blend, Ensemble
from rtc.runtime.strategies.conditioned import Conditioned
from rtc.runtime.strategies.oracle import Oracle
from rtc.runtime.strategies.posterior import Posterior
from rtc.runtime.strategies.realtime import Realtime
from rtc.runtime.strategies.residual import Residual
from rtc.runtime.strategies.rollforward import Rollforward
from rtc.runtime.strategies.selection import Bid
from rtc.runtime.strategies.steering import Overwrite, Paint, Seam, Warm
from rtc.runtime.strategies.world import Learned, Simulator, WorldModel

__all__ = [
    "ALL",
    "AROUND",
    "SIMULATED",
    "STRATEGIES",
    "WORLD_MODELS",
    "About",
    "FlowPolicy",
    "InferenceInfo",
    "Learned",
    "Oracle",
    "Residual",
    "Rollforward",
    "Simulator",
    "Strategy",
    "WorldModel",
    "check_name",
    "defaults_of",
    "make_strategy",
    "options_of",
]

STRATEGIES: dict[str, type[Any]] = {
    strategy.name: strategy
    for strategy in (
        *(Synchronous, Naive, Ensemble, Blend, Bid, Seam, Overwrite, Paint, Warm),
        *(Realtime, Posterior, Conditioned, Auto),
    )
}
"""What runs a policy alone."""
SIMULATED: dict[str, type[Rollforward] | type[Oracle]] = {each.name: each for each in (Rollforward, Oracle)}
"""What looks ahead, and is built by who has a simulator, or learned dynamics."""
ALL: dict[str, type[Any]] = {**STRATEGIES, Residual.name: Residual, **SIMULATED}
"""Every strategy; `residual` is built by who has its head."""
WORLD_MODELS: dict[str, type[Simulator] | type[Learned]] = {"simulator": Simulator, "learned": Learned}
"""What Rollforward can look ahead with."""
AROUND: dict[str, dict[str, str]] = {
    Rollforward.name: {"inner": Naive.name, "model": "simulator"},
    Residual.name: {"inner": Naive.name},
}
"""What those strategies are made around, where a user does not say."""


def check_name(name: str, known: Iterable[str], what: str = "strategy") -> None:
    """Raise InvalidArgument, with what exists, for a strategy (or `what`) that is not among the `known`."""
    if name not in known:
        raise InvalidArgument(f"{what} {name!r} does not exist; choose from {', '.join(known)}")


def options_of(name: str) -> dict[str, Any]:
    """The options of the strategy called `name`, with their defaults: all but what it is made around."""
    return defaults_of(ALL[name])


def defaults_of(kind: type[Any]) -> dict[str, Any]:
    """The arguments of a strategy, or of a world model, that have a default, with it."""
    parameters = inspect.signature(kind).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}


def make_strategy(
    name: str, policy: FlowPolicy, *, device: torch.device | str = "cpu", **options: Any
) -> Strategy:
    """The strategy called `name`, a key of STRATEGIES; raises InvalidArgument for another name.

    options: see the strategies' classes (num_steps, schedule, ...). One that another strategy takes, and this
    does not, is left out, so that several can be made with the same; raises InvalidArgument for any other.
    """
    check_name(name, STRATEGIES)
    read = options_of(name)
    known = {option for strategy in STRATEGIES for option in options_of(strategy)}
    for option in options:
        if option not in known:
            raise InvalidArgument(f"strategy {name} has no option {option!r}; it has {', '.join(read)}")
    chosen = {option: value for option, value in options.items() if option in read}
    return STRATEGIES[name](policy, device=device, **chosen)
