"""State roll-forward: the policy is shown where the robot will be when the new chunk begins to run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from rtc.errors import InvalidArgument, Unsupported
from rtc.runtime.controller import Request
from rtc.runtime.strategies.base import About, Chunks, InferenceInfo, Noise, Strategy
from rtc.runtime.strategies.world import WorldModel


@dataclass(frozen=True)
class Rollforward:
    """`inner`, but from the observation that `model` expects once the frozen rows have run.

    ```
    plan      | frozen: predicted through |            |
    chunk     | frozen                    | what inner draws from the observation there |
              0                           k <= d                                        H
    ```

    model: see `rtc.runtime.strategies.world`, also for the noise of the observation. ahead: rows to predict
    through, at most; what is frozen behind them is left to `inner` (a policy that is told of it, say).
    Raises InvalidArgument for a negative ahead; Unsupported for an inner strategy that waits, looks back, or
    into the simulator itself.
    """

    inner: Strategy
    model: WorldModel
    ahead: int | None = None
    name: str = field(default="rollforward", init=False)
    waits: bool = field(default=False, init=False)
    history: int = field(default=1, init=False)
    about: ClassVar[About] = About(
        "shows the policy where the robot will be when the chunk begins",
        calls="those of the strategy inside (naive: n)",
        source="VLASH (arXiv 2512.01031), with a simulator or learned dynamics as the model",
        needs=("a model of the world: a simulator that can be copied, or rtc train-dynamics",),
    )

    def __post_init__(self) -> None:
        if self.ahead is not None and self.ahead < 0:
            raise InvalidArgument(f"ahead={self.ahead}; it is 0 or more")
        if self.inner.waits or self.inner.privileged or self.inner.history > 1:
            raise Unsupported(
                f"rollforward cannot run {self.inner.name} inside: it waits, looks back on several "
                "observations, or looks into the simulator; use naive, realtime or conditioned"
            )

    @property
    def privileged(self) -> bool:
        """Whether its model looks into the simulator."""
        return self.model.privileged

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
        inner = self.inner.max_delay
        return None if inner is None or self.ahead is None else inner + self.ahead

    def __call__(
        self, obs: Any, requests: Sequence[Request | None], noise: Noise
    ) -> tuple[Chunks, InferenceInfo]:
        """Predict, draw from there, and put the rows that were predicted through in front."""
        committed = [self._committed(request, noise.shape[-1]) for request in requests]
        seen = self.model.predict(obs, committed, noise)
        later = [_later(request, len(rows)) for request, rows in zip(requests, committed, strict=True)]
        drawn, info = self.inner(seen, later, noise)
        whole = [np.concatenate(parts)[: self.horizon] for parts in zip(committed, drawn, strict=True)]
        return np.stack(whole).astype(np.float32), info

    def _committed(self, request: Request | None, action_dim: int) -> Float[np.ndarray, "rows action_dim"]:
        if request is None:
            return np.zeros((0, action_dim), np.float32)
        return request.frozen[: self.ahead]


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
