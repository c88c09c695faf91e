"""How many ticks inference takes: models of it for simulation, and the estimate that planning uses."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from rtc.errors import InvalidArgument


@runtime_checkable
class DelayModel(Protocol):
    """A simulated inference delay in ticks."""

    @property
    def initial(self) -> int:
        """What a robot would assume before its first measurement (d_init of Algorithm 1)."""
        ...

    def sample(self, rng: np.random.Generator, index: int) -> int:
        """The delay of inference number `index` (from 0) of an episode."""
        ...


class ConstantDelay:
    """Every inference takes `ticks` >= 0 ticks."""

    def __init__(self, ticks: int) -> None:
        self.initial = _ticks(ticks)

    def sample(self, rng: np.random.Generator, index: int) -> int:
        """The constant; draws nothing."""
        return self.initial


class DistributionDelay:
    """Delays drawn independently; the largest possible one is assumed before the first measurement.

    values: the possible delays in ticks. probabilities: one each, summing to 1; equal ones by default.
    """

    def __init__(self, values: Sequence[int], probabilities: Sequence[float] | None = None) -> None:
        if not values:
            raise InvalidArgument("a delay distribution needs at least one value")
        weights = (
            np.full(len(values), 1 / len(values)) if probabilities is None else np.asarray(probabilities)
        )
        if weights.shape != (len(values),) or not (weights >= 0).all() or abs(weights.sum() - 1) > 1e-6:
            raise InvalidArgument(
                f"probabilities={probabilities} for {len(values)} delays; give one each, none negative, sum 1"
            )
        self._values = [_ticks(value) for value in values]
        self._cumulative = np.cumsum(weights) / weights.sum()
        self.initial = max(self._values)

    def sample(self, rng: np.random.Generator, index: int) -> int:
        """One draw, by inversion of the cumulative distribution."""
        return self._values[int(np.searchsorted(self._cumulative, rng.random(), side="right"))]


class TraceDelay:
    """Recorded delays, replayed in order and from the beginning again when they run out."""

    def __init__(self, ticks: Sequence[int]) -> None:
        if not ticks:
            raise InvalidArgument("a delay trace needs at least one value")
        self._trace = [_ticks(value) for value in ticks]
        self.initial = self._trace[0]

    def sample(self, rng: np.random.Generator, index: int) -> int:
        """Entry `index` of the trace, repeated; draws nothing."""
        return self._trace[index % len(self._trace)]


class DelayEstimator:
    """The paper's conservative delay: the largest of the last `window` counted delays.

    `initial` counts as the first of them and is forgotten like any other, so a spike lasts `window` chunks.
    Source: Black, Galliker & Levine 2025 (arXiv 2506.07339), Algorithm 1, lines 11, 17 and 22.
    """

    def __init__(self, window: int = 10, initial: int = 0) -> None:
        if window < 1:
            raise InvalidArgument(f"window={window}; the estimator remembers at least 1 delay")
        self._delays = deque([_ticks(initial)], maxlen=window)

    def observe(self, delay: int) -> None:
        """Remember a counted delay (ticks)."""
        self._delays.append(delay)

    @property
    def delay(self) -> int:
        """The delay to plan for, in ticks."""
        return max(self._delays)


def at_least(minimum: int, horizon: int) -> Callable[[int], int]:
    """The paper's execution horizon max(s_min, d) as a function of the planned delay d, held to 1..`horizon`.

    Source: Black, Galliker & Levine 2025 (arXiv 2506.07339): s >= d, and s_min keeps chunks from flickering.
    """
    if not 1 <= minimum <= horizon:
        raise InvalidArgument(f"the least execution horizon is {minimum}; it must be 1..{horizon}")
    return lambda inference_delay: min(horizon, max(minimum, inference_delay))


def _ticks(value: int) -> int:
    if value < 0 or value != int(value):
        raise InvalidArgument(f"a delay of {value} ticks; it must be a whole number, 0 or more")
    return int(value)
