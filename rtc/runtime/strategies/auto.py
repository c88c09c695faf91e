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
    """The best that this policy allows, chunk by chunk, without a knob.

    ```
    nothing is frozen (d = 0, the first chunk)    the policy as it is
    else, a policy trained on prefixes            it is told what is frozen (conditioned)
    else                                          it is guided to it (realtime, hard mask), under the guard
    ```

    The hard mask, since a soft one ties the free rows to a plan that the world has overtaken (docs/delay.md).
    """

    name: str = field(default="auto", init=False)
    about: ClassVar[About] = About(
        "tells a policy that was trained to be told, and guides any other",
        calls="n, or n + n VJPs",
        source="this project",
        needs=("gradients through the policy, unless it was trained on prefixes",),
    )

    @cached_property
    def chosen(self) -> Strategy:
        """What it does with this policy."""
        if isinstance(self.policy, PrefixPolicy) and self.policy.max_delay:
            return Conditioned(self.policy, self.num_steps, self.device)
        return Realtime(self.policy, self.num_steps, self.device, schedule="zeros")

    def __call__(
        self, obs: Observation, requests: Sequence[Request | None], noise: Noise
    ) -> tuple[Chunks, InferenceInfo]:
        """As the chosen strategy."""
        return self.chosen(obs, requests, noise)
