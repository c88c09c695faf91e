"""The strategy that asks what the policy can do, and does no harm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from rtc.runtime.controller import Request
from rtc.runtime.observation import Observation
from rtc.runtime.strategies.base import About, Chunks, Flow, InferenceInfo, Noise, Strategy
from rtc.runtime.strategies.conditioned import Conditioned, PrefixPolicy
from rtc.runtime.strategies.realtime import Realtime


@dataclass(frozen=True)
class Auto(Flow):
    """What holds for every policy, chunk by chunk, without a knob.

    ```
    nothing is frozen (d = 0, the first chunk)    the policy as it is
    else, a policy trained on prefixes            it is told what is frozen (conditioned)
    else                                          it is guided to it: hard mask, no Jacobian, under the guard
    a delay that varies                           the median of those counted lately is planned for
    ```

    What a sweep found best for a policy goes before all this: `rtc choose`.
    The choices are those of docs/study.md: a soft mask ties the free rows to a plan that the world has
    overtaken, the exact Jacobian does so through the network, the longest delay freezes more than will run.
    """

    expected: str = field(default="median", kw_only=True)
    name: str = field(default="auto", init=False)
    about: ClassVar[About] = About(
        "runs what a sweep found best for this policy; else tells it, or guides it",
        calls="those of what it runs (n where nothing was chosen)",
        source="this project",
    )

    @cached_property
    def chosen(self) -> Strategy:
        """What it does with this policy."""
        shared = {"num_steps": self.num_steps, "device": self.device, "expected": self.expected}
        if isinstance(self.policy, PrefixPolicy) and self.policy.max_delay:
            return Conditioned(self.policy, **shared)
        return Realtime(self.policy, **shared, schedule="zeros", jacobian="identity")

    def __call__(
        self, obs: Observation, requests: Sequence[Request | None], noise: Noise
    ) -> tuple[Chunks, InferenceInfo]:
        """As the chosen strategy."""
        return self.chosen(obs, requests, noise)
