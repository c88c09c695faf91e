"""How long inference takes: every model has the law that it claims, repeats with its seed, and validates."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from itertools import groupby, islice

import numpy as np
import pytest
from delays import chances, delay_texts, pairs, positive
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rtc.errors import InvalidArgument
from rtc.runtime.delay_text import parse_delay
from rtc.runtime.latency import (
    BurstyDelay,
    ConstantDelay,
    DelayModel,
    DistributionDelay,
    LogNormalDelay,
    SpikyDelay,
    TraceDelay,
    UniformDelay,
)

MANY = 2000
DOUBT = 1e-7  # how rarely a correct model would fail one of the bounds below


def draws(model: DelayModel, count: int, seed: int = 0) -> list[int]:
    return list(islice(model.draws(np.random.default_rng(seed)), count))


def plausible(count: int, trials: int, chance: float) -> bool:
    """Whether `count` of `trials` is inside the exact binomial bounds."""
    low, high = stats.binom.ppf([DOUBT, 1 - DOUBT], trials, chance)
    return bool(low <= count <= high)


def test_a_constant_is_constant_and_leaves_chance_alone() -> None:
    rng = np.random.default_rng(0)
    assert list(islice(ConstantDelay(4).draws(rng), 3)) == [4, 4, 4]
    assert rng.random() == np.random.default_rng(0).random()


def test_a_trace_is_replayed_and_begins_again() -> None:
    assert draws(TraceDelay([3, 0, 5]), 7) == [3, 0, 5, 3, 0, 5, 3]


def test_a_distribution_has_the_probabilities_it_was_given() -> None:
    probabilities = [0.2, 0.0, 0.5, 0.3]
    counts = np.bincount(draws(DistributionDelay([0, 1, 2, 7], probabilities), MANY), minlength=8)
    assert counts[1] == 0
    assert all(plausible(counts[value], MANY, p) for value, p in ((0, 0.2), (2, 0.5), (7, 0.3)))


def test_a_distribution_draws_what_numpys_choice_draws() -> None:
    values, probabilities = [0, 1, 2, 7], [0.1, 0.2, 0.3, 0.4]
    expected = np.random.default_rng(5).choice(values, 200, p=probabilities)
    assert draws(DistributionDelay(values, probabilities), 200, seed=5) == expected.tolist()


@settings(max_examples=30)
@given(pair=pairs, seed=st.integers(0, 100))
def test_a_uniform_delay_takes_every_value_alike(pair: list[int], seed: int) -> None:
    low, high = pair
    found = draws(UniformDelay(low, high), MANY, seed)
    assert low <= min(found) <= max(found) <= high
    assert all(plausible(found.count(value), MANY, 1 / (high - low + 1)) for value in range(low, high + 1))


@settings(max_examples=30)
@given(median=st.floats(0.1, 40), sigma=st.floats(0.01, 1.5), seed=st.integers(0, 100))
def test_a_lognormal_delay_is_the_rounded_lognormal(median: float, sigma: float, seed: int) -> None:
    found = np.array(draws(LogNormalDelay(median, sigma), MANY, seed))
    for ticks in {0, round(0.6 * median), round(median), round(1.5 * median), round(3 * median)}:
        chance = stats.lognorm.cdf(ticks + 0.5, sigma, scale=median)
        assert plausible((found <= ticks).sum(), MANY, float(chance))


def test_a_lognormal_delay_without_spread_is_its_median() -> None:
    assert draws(LogNormalDelay(3.6, 0), 3) == [4, 4, 4]


@settings(max_examples=30)
@given(chance=chances, seed=st.integers(0, 100))
def test_a_spike_comes_with_its_chance_whatever_came_before(chance: float, seed: int) -> None:
    found = np.array(draws(SpikyDelay(2, 8, chance), MANY, seed)) == 8
    assert plausible(found.sum(), MANY, chance)
    after_spike = found[1:][found[:-1]]
    assert plausible(after_spike.sum(), len(after_spike), chance)


@settings(max_examples=15)
@given(become_busy=positive, become_calm=positive, index=st.sampled_from([0, 1, 5]))
def test_every_delay_of_a_bursty_episode_has_the_stationary_law(
    become_busy: float, become_calm: float, index: int
) -> None:
    model = BurstyDelay(2, 8, become_busy, become_calm)
    found = [draws(model, index + 1, seed)[index] for seed in range(300)]
    assert plausible(found.count(8), 300, become_busy / (become_busy + become_calm))


@settings(max_examples=30)
@given(become_busy=positive, become_calm=positive, seed=st.integers(0, 100))
def test_bursts_and_calms_are_as_long_as_their_chances_say(
    become_busy: float, become_calm: float, seed: int
) -> None:
    found = draws(BurstyDelay(2, 8, become_busy, become_calm), 4 * MANY, seed)
    runs = [(ticks, len(list(run))) for ticks, run in groupby(found)][:-1]  # the last is cut off
    for ticks, chance in ((8, become_calm), (2, become_busy)):
        lengths = [length for each, length in runs if each == ticks]
        # Each run lasts until the first success of its chance, the first one too: a chain has no memory.
        low, high = stats.nbinom.ppf([DOUBT, 1 - DOUBT], len(lengths), chance)
        assert not lengths or low - 1 / chance <= sum(lengths) - len(lengths) <= high


@pytest.mark.parametrize(
    ("model", "expected"), [(BurstyDelay(2, 8, 0.0, 1.0), [2]), (BurstyDelay(2, 8, 0.2, 0.0), [8])]
)
def test_a_state_that_is_never_left_holds_from_the_beginning(model: BurstyDelay, expected: list[int]) -> None:
    assert {tuple(draws(model, 20, seed)) for seed in range(20)} == {tuple(expected * 20)}


@given(text=delay_texts, seed=st.integers(0, 2**31))
def test_an_episodes_delays_are_a_function_of_its_seed(text: str, seed: int) -> None:
    model = parse_delay(text)
    assert isinstance(model, DelayModel)
    found = draws(model, 20, seed)
    assert draws(model, 20, seed) == found
    assert all(type(delay) is int and delay >= 0 for delay in found)
    again = pickle.loads(pickle.dumps(model))
    assert (again, hash(again)) == (model, hash(model))
    assert draws(again, 20, seed) == found


@pytest.mark.parametrize(
    "model",
    [
        DistributionDelay(range(9)),
        UniformDelay(0, 30),
        LogNormalDelay(9, 0.5),
        SpikyDelay(2, 8, 0.4),
        BurstyDelay(2, 8, 0.4, 0.4),
    ],
    ids=str,
)
def test_another_seed_is_another_episode(model: DelayModel) -> None:
    assert len({tuple(draws(model, 20, seed)) for seed in range(50)}) > 45


@pytest.mark.parametrize(
    ("model", "initial"),
    [
        (ConstantDelay(4), 4),
        (UniformDelay(2, 6), 6),
        (LogNormalDelay(4.4, 0.5), 4),
        (SpikyDelay(2, 8, 0.1), 2),
        (BurstyDelay(2, 8, 0.05, 0.3), 2),
        (DistributionDelay([0, 8, 3]), 8),
        (TraceDelay([3, 0, 5]), 3),
    ],
)
def test_what_is_assumed_before_the_first_measurement(model: DelayModel, initial: int) -> None:
    assert model.initial == initial


@pytest.mark.parametrize(
    "build",
    [
        lambda: ConstantDelay(-1),
        lambda: UniformDelay(3, 2),
        lambda: UniformDelay(-1, 2),
        lambda: LogNormalDelay(0, 0.5),
        lambda: LogNormalDelay(2e6, 0.5),
        lambda: LogNormalDelay(float("nan"), 0.5),
        lambda: LogNormalDelay(4, -0.1),
        lambda: LogNormalDelay(4, float("inf")),
        lambda: SpikyDelay(8, 2, 0.1),
        lambda: SpikyDelay(2, 8, 1.1),
        lambda: SpikyDelay(2, 8, float("nan")),
        lambda: BurstyDelay(8, 2, 0.1, 0.1),
        lambda: BurstyDelay(2, 8, -0.1, 0.1),
        lambda: BurstyDelay(2, 8, 0.1, 1.1),
        lambda: BurstyDelay(2, 8, 0, 0),
        lambda: TraceDelay([]),
        lambda: TraceDelay([1, -2]),
        lambda: DistributionDelay([]),
        lambda: DistributionDelay([1, -2]),
        lambda: DistributionDelay([1, 2], [0.5]),
        lambda: DistributionDelay([1, 2], [0.5, 0.6]),
        lambda: DistributionDelay([1, 2], [-0.5, 1.5]),
    ],
)
def test_delays_out_of_range_are_refused(build: Callable[[], object]) -> None:
    with pytest.raises(InvalidArgument):
        build()
