"""The two baselines of the paper: stop and think, and switch blindly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch

from rtc.runtime.controller import Request
from rtc.runtime.observation import Observation
from rtc.runtime.strategies.base import PAPER, About, Chunks, Flow, InferenceInfo, Noise


@dataclass(frozen=True)
class Naive(Flow):
    """Asynchronous and blind: prev[:d] ++ new[d:s], new sampled without regard to prev (paper, baseline)."""

    name: str = field(default="naive", init=False)
    about: ClassVar[About] = About("thinks while it moves, and switches blindly", calls="n", source=PAPER)

    @torch.no_grad()
    def __call__(
        self, obs: Observation, requests: Sequence[Request | None], noise: Noise
    ) -> tuple[Chunks, InferenceInfo]:
        """Sample from the policy; the requests do not matter."""
        prior = self.condition(obs)
        chunks, nonfinite_step = self.draw(prior, noise)
        return chunks, InferenceInfo(prior.calls, 0, np.zeros(len(requests), bool), nonfinite_step)


@dataclass(frozen=True)
class Synchronous(Naive):
    """Stop and think: s actions, then the starvation action for d ticks, then new[0:] (paper, baseline)."""

    name: str = field(default="synchronous", init=False)
    waits: bool = field(default=True, init=False)
    about: ClassVar[About] = About("stops and thinks", calls="n", source=PAPER)
