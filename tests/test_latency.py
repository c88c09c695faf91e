"""How long inference takes: models, the paper's estimator, and what a user may type."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtc.errors import InvalidArgument
from rtc.runtime.latency import (
    ConstantDelay,
    DelayEstimator,
    DelayModel,
    DistributionDelay,
    TraceDelay,
    at_least,
)


def draws(model: DelayModel, count: int, seed: int = 0) -> list[int]:
    rng = np.random.default_rng(seed)
    return [model.sample(rng, index) for index in range(count)]


def test_a_constant_is_constant() -> None:
    assert draws(ConstantDelay(4), 3) == [4, 4, 4]
    assert ConstantDelay(4).initial == 4


def test_a_trace_is_replayed_and_begins_again() -> None:
    assert draws(TraceDelay([3, 0, 5]), 7) == [3, 0, 5, 3, 0, 5, 3]
    assert TraceDelay([3, 0, 5]).initial == 3


def test_a_distribution_has_the_probabilities_it_was_given() -> None:
    probabilities = [0.2, 0.0, 0.5, 0.3]
    counts = np.bincount(draws(DistributionDelay([0, 1, 2, 7], probabilities), 20_000), minlength=8)
    expected = np.array([0.2, 0.0, 0.5, 0, 0, 0, 0, 0.3])
    assert counts[1] == 0
    np.testing.assert_allclose(counts / 20_000, expected, atol=4 * np.sqrt(0.25 / 20_000))


def test_a_distribution_repeats_with_its_seed_and_plans_for_its_worst() -> None:
    model = DistributionDelay(range(9))
    assert draws(model, 20, seed=1) == draws(model, 20, seed=1) != draws(model, 20, seed=2)
    assert model.initial == 8


@given(window=st.integers(1, 6), initial=st.integers(0, 20), delays=st.lists(st.integers(0, 20), max_size=20))
def test_the_estimate_is_the_largest_of_the_last_delays(window: int, initial: int, delays: list[int]) -> None:
    estimator = DelayEstimator(window, initial)
    for delay in delays:
        estimator.observe(delay)
    assert estimator.delay == max([initial, *delays][-window:])


def test_the_execution_horizon_is_never_shorter_than_the_delay_nor_longer_than_the_chunk() -> None:
    assert [at_least(4, 8)(delay) for delay in (0, 3, 4, 6, 20)] == [4, 4, 4, 6, 8]


@pytest.mark.parametrize(
    "build",
    [
        lambda: ConstantDelay(-1),
        lambda: TraceDelay([]),
        lambda: TraceDelay([1, -2]),
        lambda: DistributionDelay([]),
        lambda: DistributionDelay([1, 2], [0.5]),
        lambda: DistributionDelay([1, 2], [0.5, 0.6]),
        lambda: DistributionDelay([1, 2], [-0.5, 1.5]),
        lambda: DelayEstimator(0),
        lambda: DelayEstimator(3, -1),
        lambda: at_least(0, 8),
        lambda: at_least(9, 8),
    ],
)
def test_delays_out_of_range_are_refused(build: Callable[[], object]) -> None:
    with pytest.raises(InvalidArgument):
        build()
