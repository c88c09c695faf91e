"""Strategies: how an observation and the plan in progress become the next chunk.

`synchronous` stops and thinks, `naive` thinks while it moves and switches blindly, `ensemble` averages,
`realtime` paints the new chunk into what is already committed, `conditioned` asks a policy that was trained
to be told. Each is a few lines over what they share: condition, draw, count. `oracle` is the ceiling.

Source: Black, Galliker & Levine 2025, "Real-Time Execution of Action Chunking Flow Policies"
(arXiv 2506.07339).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch

from rtc.errors import InvalidArgument
from rtc.runtime.strategies.base import FlowPolicy, InferenceInfo, Strategy
from rtc.runtime.strategies.baselines import Ensemble, Naive, Synchronous
from rtc.runtime.strategies.conditioned import Conditioned
from rtc.runtime.strategies.oracle import Oracle
from rtc.runtime.strategies.realtime import Realtime

__all__ = ["STRATEGIES", "FlowPolicy", "InferenceInfo", "Oracle", "Strategy", "make_strategy"]

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    factory.name: factory for factory in (Synchronous, Naive, Ensemble, Realtime, Conditioned)
}
"""What runs a policy. `Oracle` needs a simulator instead, and is built by who has one."""


def make_strategy(
    name: str,
    policy: FlowPolicy,
    *,
    num_steps: int = 5,
    schedule: str = "exp",
    jacobian: str = "exact",
    max_weight: float | str = 5.0,
    data_std: float = 1.0,
    mask_end: int | None = None,
    device: torch.device | str = "cpu",
) -> Strategy:
    """The strategy called `name`, a key of STRATEGIES; raises InvalidArgument for another name.

    The arguments are those of the strategies' classes; the baselines read num_steps and device alone.
    """
    if name not in STRATEGIES:
        raise InvalidArgument(f"strategy {name!r} does not exist; choose from {', '.join(STRATEGIES)}")
    options = {
        "num_steps": num_steps,
        "schedule": schedule,
        "jacobian": jacobian,
        "max_weight": max_weight,
        "data_std": data_std,
        "mask_end": mask_end,
        "device": device,
    }
    read = inspect.signature(STRATEGIES[name]).parameters
    return STRATEGIES[name](policy, **{key: value for key, value in options.items() if key in read})
