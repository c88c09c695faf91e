"""The strategies that do without guidance: stop and think, switch blindly, average what overlaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float

from rtc.runtime.controller import Request
from rtc.runtime.observation import Observation
from rtc.runtime.strategies.base import Chunks, Flow, InferenceInfo, Noise


@dataclass(frozen=True)
class Naive(Flow):
    """Asynchronous and blind: prev[:d] ++ new[d:s], new sampled without regard to prev (paper, baseline)."""

    name: str = field(default="naive", init=False)

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


@dataclass(frozen=True)
class Ensemble(Naive):
    """Temporal ensembling: each action is the mean of all that were predicted for its tick.

    ```
    chunk 1   a a a a a a a a
    chunk 2         b b b b b b b b            row 0 of a new chunk c was predicted twice before:
    chunk 3               c c c c c c c c      the plan there is (a + b) / 2, and becomes (a + b + c) / 3
    ```

    Source: Zhao et al. 2023 (ACT, arXiv 2304.13705), section IV-C, with equal weights.
    """

    name: str = field(default="ensemble", init=False)

    def __call__(
        self, obs: Observation, requests: Sequence[Request | None], noise: Noise
    ) -> tuple[Chunks, InferenceInfo]:
        """Sample from the policy and average with the plans."""
        chunks, info = super().__call__(obs, requests, noise)
        for index, request in enumerate(requests):
            if request is not None:
                chunks[index] = _average(chunks[index], request)
        return chunks, info


def _average(chunk: Float[np.ndarray, "horizon action_dim"], request: Request) -> np.ndarray:
    rows = np.arange(len(chunk))
    # how often each row was predicted before; the plan is the mean of these
    earlier = sum((request.tick + rows - frame < len(chunk)).astype(np.float32) for frame in request.frames)
    earlier = np.broadcast_to(earlier, rows.shape)[:, None]
    return ((earlier * request.previous + chunk) / (earlier + 1)).astype(np.float32)
