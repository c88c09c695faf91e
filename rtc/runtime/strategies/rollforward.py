"""State roll-forward: the policy is shown where the robot will be when the new chunk begins to run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float

from rtc.errors import InvalidArgument, Unsupported
from rtc.runtime.controller import Request
from rtc.runtime.observation import Scene
from rtc.runtime.strategies.base import About, Chunks, InferenceInfo, Noise, Strategy, chance

Predict = Callable[[Any, Float[np.ndarray, "rows action_dim"]], Float[np.ndarray, " obs"]]
"""(env, actions) -> what would be observed after them, without noise or surprise; after none: now."""


@dataclass(frozen=True)
class Rollforward:
    """`inner`, but from the observation that `predict` expects once the frozen rows have run.

    ```
    plan      | frozen: predicted through |            |
    chunk     | frozen                    | what inner draws from the observation there |
              0                           k <= d                                        H
    ```

    Its noise stays on the observation: present one + (predicted - predicted now). error: relative, of that
    change, each number by its own draw: 0 is a model without fault. ahead: rows to predict through, at most;
    what is frozen behind them is left to `inner` (a policy that is told of it, say).
    Raises InvalidArgument for a negative error or ahead; Unsupported for an inner strategy that waits, looks
    back, or into the simulator itself.
    """

    inner: Strategy
    predict: Predict
    error: float = 0.0
    ahead: int | None = None
    name: str = field(default="rollforward", init=False)
    waits: bool = field(default=False, init=False)
    privileged: bool = field(default=True, init=False)
    history: int = field(default=1, init=False)
    about: ClassVar[About] = About(
        "shows the policy where the robot will be when the chunk begins",
        calls="those of the strategy inside (naive: n)",
        source="VLASH (arXiv 2512.01031), with a simulator as the model",
        needs=("a model of the world: a simulator that can be copied",),
    )

    def __post_init__(self) -> None:
        if not self.error >= 0.0 or (self.ahead is not None and self.ahead < 0):
            raise InvalidArgument(f"error={self.error}, ahead={self.ahead}; both are 0 or more")
        if self.inner.waits or self.inner.privileged or self.inner.history > 1:
            raise Unsupported(
                f"rollforward cannot run {self.inner.name} inside: it waits, looks back on several "
                "observations, or looks into the simulator; use naive, realtime or conditioned"
            )

    @property
    def horizon(self) -> int:
        """Actions in a chunk."""
        return self.inner.horizon

    @property
    def expected(self) -> str:
        """The delay to plan for: as `inner` does."""
        return self.inner.expected

    @property
    def max_delay(self) -> int | None:
        """The longest delay, in ticks, that this and `inner` together can do with; None: any."""
        inner = getattr(self.inner, "max_delay", None)
        return None if inner is None or self.ahead is None else inner + self.ahead

    def __call__(
        self, obs: Sequence[Scene], requests: Sequence[Request | None], noise: Noise
    ) -> tuple[Chunks, InferenceInfo]:
        """Predict, draw from there, and put the rows that were predicted through in front."""
        committed = [self._committed(request, noise.shape[-1]) for request in requests]
        seen = [self._expected(*known) for known in zip(obs, committed, noise, strict=True)]
        later = [_later(request, len(rows)) for request, rows in zip(requests, committed, strict=True)]
        drawn, info = self.inner(np.stack(seen), later, noise)
        whole = [np.concatenate(parts)[: self.horizon] for parts in zip(committed, drawn, strict=True)]
        return np.stack(whole).astype(np.float32), info

    def _committed(self, request: Request | None, action_dim: int) -> Float[np.ndarray, "rows action_dim"]:
        if request is None:
            return np.zeros((0, action_dim), np.float32)
        return request.frozen[: self.ahead]

    def _expected(self, scene: Scene, committed: np.ndarray, noise: torch.Tensor) -> np.ndarray:
        if isinstance(scene.obs, dict):
            raise Unsupported("rollforward predicts numbers, not images: use a policy without cameras")
        if not len(committed):
            return scene.obs
        change = self.predict(scene.env, committed) - self.predict(scene.env, committed[:0])
        if self.error:
            change = change * (1.0 + self.error * chance(noise).standard_normal(change.shape))
        return (scene.obs + change).astype(np.float32)


def _later(request: Request | None, rows: int) -> Request | None:
    """The same request, seen from `rows` ticks on."""
    if request is None or not rows:
        return request
    previous = np.zeros_like(request.previous)
    previous[: len(previous) - rows] = request.previous[rows:]
    return replace(
        request,
        tick=request.tick + rows,
        executed=request.executed + rows,
        inference_delay=request.inference_delay - rows,
        previous=previous,
        remaining=request.remaining - rows,
    )
