"""What a robot plans for: the delay of the inference it is about to begin, and when to begin it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from rtc.errors import InvalidArgument
from rtc.runtime.latency import check_ticks


class DelayEstimator:
    """The paper's conservative delay: the largest of the last `window` counted delays.

    `initial` counts as the first of them and is forgotten like any other, so a spike lasts `window` chunks.
    Source: Black, Galliker & Levine 2025 (arXiv 2506.07339), Algorithm 1, lines 11, 17 and 22.
    """

    def __init__(self, window: int = 10, initial: int = 0) -> None:
        if window < 1:
            raise InvalidArgument(f"window={window}; the estimator remembers at least 1 delay")
        check_ticks(initial)
        self._delays = deque([initial], maxlen=window)

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
