"""What a robot plans for: the delay of the inference it is about to begin, and when to begin it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from statistics import median_high

from rtc.errors import InvalidArgument
from rtc.runtime.latency import check_ticks

EXPECTED: dict[str, Callable[[Iterable[int]], int]] = {"longest": max, "median": median_high}
"""Which of the delays counted lately is expected of the next."""


def check_expected(expected: str) -> None:
    """Raise InvalidArgument for what is no key of EXPECTED."""
    if expected not in EXPECTED:
        raise InvalidArgument(
            f"expected={expected!r} is no delay to plan for; choose from {', '.join(EXPECTED)}"
        )


class DelayEstimator:
    """The delay to expect, from the last `window` counted ones.

    ```
    counted    2 2 8 2 2 2 2 2 2 2
    longest    8   nothing is ever missing from the frozen rows, but a spike ties `window` chunks to old plans
    median     2   the spike's own chunk joins with a jump, the others know no more of it
    ```

    `initial` counts as the first of them and is forgotten like any other. Of two medians the longer.
    Source: the longest is that of Black, Galliker & Levine 2025 (arXiv 2506.07339), Algorithm 1, lines 11, 17
    and 22. Raises InvalidArgument.
    """

    def __init__(self, window: int = 10, initial: int = 0, expected: str = "longest") -> None:
        if window < 1:
            raise InvalidArgument(f"window={window}; the estimator remembers at least 1 delay")
        check_ticks(initial)
        check_expected(expected)
        self._delays = deque([initial], maxlen=window)
        self._expected = EXPECTED[expected]

    def observe(self, delay: int) -> None:
        """Remember a counted delay (ticks)."""
        self._delays.append(delay)

    @property
    def delay(self) -> int:
        """The delay to plan for, in ticks."""
        return self._expected(self._delays)


def at_least(minimum: int, horizon: int) -> Callable[[int], int]:
    """The paper's execution horizon max(s_min, d) as a function of the planned delay d, held to 1..`horizon`.

    Source: Black, Galliker & Levine 2025 (arXiv 2506.07339): s >= d, and s_min keeps chunks from flickering.
    """
    if not 1 <= minimum <= horizon:
        raise InvalidArgument(f"the least execution horizon is {minimum}; it must be 1..{horizon}")
    return lambda inference_delay: min(horizon, max(minimum, inference_delay))
