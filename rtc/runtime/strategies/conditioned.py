"""Training-time real-time chunking: a policy that was trained on committed prefixes is told this one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch

from rtc.errors import Unsupported
from rtc.prefix import Prefix
from rtc.prior import Prior
from rtc.runtime.controller import Request
from rtc.runtime.observation import Observation
from rtc.runtime.strategies.base import About, Chunks, Counted, Flow, FlowPolicy, InferenceInfo, Noise


@runtime_checkable
class PrefixPolicy(FlowPolicy, Protocol):
    """A policy that was trained on prefixes of 0..max_delay committed rows."""

    max_delay: int

    def condition(self, obs: Any, prefix: Prefix | None = None) -> Prior:
        """The prior over normalised chunks given raw observations and the rows that are committed."""
        ...


@dataclass(frozen=True)
class Conditioned(Flow):
    """The policy is conditioned on the frozen rows; no guidance, no VJP.

    ```
    previous   | frozen: given to the policy | free: drawn knowing them |
               0                             d                          H
    ```

    Beyond the delays that it was trained on it is told as much as it can take.
    Raises Unsupported for a policy without such training.
    Source: Black et al. 2025, "Training-Time Action Conditioning for Efficient Real-Time Chunking"
    (arXiv 2512.05964).
    """

    name: str = field(default="conditioned", init=False)
    about: ClassVar[About] = About(
        "tells the policy what will have run",
        calls="n",
        source="Black et al. 2025 (training-time RTC, arXiv 2512.05964)",
        needs=("a policy trained on prefixes: rtc train --max-delay",),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (isinstance(self.policy, PrefixPolicy) and self.policy.max_delay):
            raise Unsupported(
                "strategy conditioned needs a policy that was trained on committed prefixes; "
                "train one with `rtc train --max-delay 8`, or guide this one (strategy realtime)"
            )

    @property
    def max_delay(self) -> int:
        """The longest delay, in ticks, that the policy was trained to be told of."""
        assert isinstance(self.policy, PrefixPolicy)  # it was looked at when this strategy was made
        return self.policy.max_delay

    @torch.no_grad()
    def __call__(
        self, obs: Observation, requests: Sequence[Request | None], noise: Noise
    ) -> tuple[Chunks, InferenceInfo]:
        """Sample given the frozen rows of each plan; a first chunk (None) has none."""
        assert isinstance(self.policy, PrefixPolicy)  # it was looked at when this strategy was made
        most = self.max_delay
        frozen = [0 if request is None else min(most, len(request.frozen)) for request in requests]
        prefix = Prefix(self.plans(requests), torch.tensor(frozen, device=self.device))
        prior = Counted(self.policy.condition(self.tensors(obs), prefix))
        chunks, nonfinite_step = self.draw(prior, noise)
        return chunks, InferenceInfo(prior.calls, 0, np.zeros(len(requests), bool), nonfinite_step)
