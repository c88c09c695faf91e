"""The strategies that mix chunks after they are drawn: ensembles over time, and blends of what overlaps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from rtc.errors import InvalidArgument
from rtc.runtime.controller import Request
from rtc.runtime.observation import Observation
from rtc.runtime.strategies.base import About, Chunks, InferenceInfo, Noise
from rtc.runtime.strategies.baselines import Naive


@dataclass(frozen=True)
class Ensemble(Naive):
    """Temporal ensembling: each action is a weighted mean of all that were predicted for its tick.

    ```
    chunk 1   a a a a a a a a
    chunk 2         b b b b b b b b            row 0 of a new chunk c was predicted twice before:
    chunk 3               c c c c c c c c      (w0 a + w1 b + w2 c) / (w0 + w1 + w2), w_i = exp(-decay i)
    ```

    decay: per prediction, 0 or more; the oldest weighs most, 0 is the plain mean. Dense with s = 1 (or
    s = d), sparse with a larger s. Raises InvalidArgument for a negative decay.
    """

    decay: float = 0.0
    name: str = field(default="ensemble", init=False)
    about: ClassVar[About] = About(
        "averages everything that was predicted for a tick",
        calls="n",
        source="Zhao et al. 2023 (ACT, arXiv 2304.13705), section IV-C",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.decay >= 0.0:
            raise InvalidArgument(f"decay={self.decay}; a decay is 0 or more (ACT: 0.01)")

    def __call__(
        self, obs: Observation, requests: Sequence[Request | None], noise: Noise
    ) -> tuple[Chunks, InferenceInfo]:
        """Sample from the policy and average with the plans."""
        chunks, info = super().__call__(obs, requests, noise)
        for index, request in enumerate(requests):
            if request is not None:
                chunks[index] = self._average(chunks[index], request)
        return chunks, info

    def _average(self, chunk: Float[np.ndarray, "horizon action_dim"], request: Request) -> np.ndarray:
        rows = np.arange(len(chunk))
        # how often each row was predicted before; the plan is the weighted mean of these
        earlier = sum((request.tick + rows - frame < len(chunk)).astype(int) for frame in request.frames)
        earlier = np.broadcast_to(earlier, rows.shape)
        weights = np.cumsum(np.exp(-self.decay * np.arange(len(request.frames) + 1)))
        before = np.where(earlier > 0, weights[earlier - 1], 0.0)[:, None]
        new = np.exp(-self.decay * earlier)[:, None]
        return ((before * request.previous + new * chunk) / (before + new)).astype(np.float32)


@dataclass(frozen=True)
class Blend(Naive):
    """Where the chunks overlap, a fixed part of the old one stays: keep old + (1 - keep) new.

    keep: 0 (naive) .. 1; raises InvalidArgument for another.
    """

    keep: float = 0.3
    name: str = field(default="blend", init=False)
    about: ClassVar[About] = About(
        "mixes the overlap in fixed parts",
        calls="n",
        source="Cadene et al. 2024 (LeRobot), the weighted average of its asynchronous queue",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.keep <= 1.0 or math.isnan(self.keep):
            raise InvalidArgument(f"keep={self.keep}; the part that stays is 0..1 (LeRobot: 0.3)")

    def __call__(
        self, obs: Observation, requests: Sequence[Request | None], noise: Noise
    ) -> tuple[Chunks, InferenceInfo]:
        """Sample from the policy and mix with the plans."""
        chunks, info = super().__call__(obs, requests, noise)
        for chunk, request in zip(chunks, requests, strict=True):
            if request is not None:
                old, rows = request.previous, slice(0, request.remaining)
                chunk[rows] = self.keep * old[rows] + (1.0 - self.keep) * chunk[rows]
        return chunks, info
