"""What a robot plans for: the paper's estimate of the delay, and the execution horizon that follows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtc.errors import InvalidArgument
from rtc.runtime.planning import DelayEstimator, at_least


@given(window=st.integers(1, 6), initial=st.integers(0, 20), delays=st.lists(st.integers(0, 20), max_size=20))
def test_the_estimate_is_the_largest_of_the_last_delays(window: int, initial: int, delays: list[int]) -> None:
    estimator = DelayEstimator(window, initial)
    for delay in delays:
        estimator.observe(delay)
    assert estimator.delay == max([initial, *delays][-window:])


@given(window=st.integers(1, 6), delays=st.lists(st.integers(0, 20), min_size=1, max_size=20))
def test_the_median_is_a_counted_delay_that_half_of_them_do_not_exceed(
    window: int, delays: list[int]
) -> None:
    estimator = DelayEstimator(window, delays[0], "median")
    for delay in delays[1:]:
        estimator.observe(delay)
    last, found = delays[-window:], estimator.delay
    assert found in last
    assert 2 * sum(delay <= found for delay in last) >= len(last)
    assert 2 * sum(delay >= found for delay in last) >= len(last)


def test_the_execution_horizon_is_never_shorter_than_the_delay_nor_longer_than_the_chunk() -> None:
    assert [at_least(4, 8)(delay) for delay in (0, 3, 4, 6, 20)] == [4, 4, 4, 6, 8]


@pytest.mark.parametrize(
    "build",
    [
        lambda: DelayEstimator(0),
        lambda: DelayEstimator(3, -1),
        lambda: DelayEstimator(3, 0, "often"),
        lambda: at_least(0, 8),
        lambda: at_least(9, 8),
    ],
)
def test_plans_out_of_range_are_refused(build: Callable[[], object]) -> None:
    with pytest.raises(InvalidArgument):
        build()
