"""The ceiling of every study: the expert, rolled out in a copy of the simulator, knowing the prefix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from rtc.runtime.controller import Request
from rtc.runtime.observation import Scene
from rtc.runtime.planning import check_expected
from rtc.runtime.strategies.base import About, Chunks, InferenceInfo, Noise, chance

Foresee = Callable[[Any, Float[np.ndarray, "rows action_dim"], int, np.random.Generator], np.ndarray]
"""(env, committed rows, horizon, random) -> the chunk [horizon, action_dim] that goes on from them."""


@dataclass(frozen=True)
class Oracle:
    """Not a policy: it looks into the simulator (see `rtc.runtime.observation.Scene`).

    The expert is a new one for every chunk, as a chunk policy does not remember what it chose before.
    expected: the delay to plan for where it varies, see `rtc.runtime.planning`; raises InvalidArgument for
    another.
    """

    foresee: Foresee
    horizon: int
    expected: str = "longest"
    name: str = field(default="oracle", init=False)
    waits: bool = field(default=False, init=False)
    privileged: bool = field(default=True, init=False)
    history: int = field(default=1, init=False)
    max_delay: None = field(default=None, init=False)
    about: ClassVar[About] = About(
        "the ceiling: the expert in a copy of the simulator, knowing what will have run",
        calls="0",
        source="this project",
        needs=("a simulator that can be copied, and its expert",),
    )

    def __post_init__(self) -> None:
        check_expected(self.expected)

    def __call__(
        self, obs: Sequence[Scene], requests: Sequence[Request | None], noise: Noise
    ) -> tuple[Chunks, InferenceInfo]:
        """The expert's chunk for each environment, after the frozen rows of its plan."""
        chunks = []
        for scene, request, own in zip(obs, requests, noise, strict=True):
            frozen = np.zeros((0, noise.shape[-1]), np.float32) if request is None else request.frozen
            chunks.append(self.foresee(scene.env, frozen, self.horizon, chance(own)))
        nothing = np.zeros(len(chunks), bool)
        return np.stack(chunks).astype(np.float32), InferenceInfo(0, 0, nothing, np.full(len(chunks), -1))
