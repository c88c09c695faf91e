"""Tests of paired successes against brute force and closed forms; test_report.py has the other statistics."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtc.errors import InvalidArgument
from rtc.report.statistics import holm, leaders, mcnemar, paired_difference, success_share

counts = st.integers(0, 12)


def pairs(both: int, only_first: int, only_second: int, neither: int) -> tuple[list[bool], list[bool]]:
    first = [True] * (both + only_first) + [False] * (only_second + neither)
    second = [True] * both + [False] * only_first + [True] * only_second + [False] * neither
    return first, second


@given(both=counts, only_first=counts, only_second=counts, neither=st.integers(1, 12))
def test_mcnemar_counts_the_coin_tosses_that_are_as_uneven(
    both: int, only_first: int, only_second: int, neither: int
) -> None:
    first, second = pairs(both, only_first, only_second, neither)
    differing, gap = only_first + only_second, abs(only_first - only_second)
    uneven = [heads for heads in range(differing + 1) if abs(2 * heads - differing) >= gap]
    expected = sum(comb(differing, heads) for heads in uneven) / 2**differing
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(second, first) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_nine_against_one() -> None:
    assert mcnemar(*pairs(40, 9, 1, 50)) == pytest.approx(22 / 1024)
    assert mcnemar(*pairs(40, 0, 0, 50)) == 1.0


def test_mcnemar_sees_pairs_where_the_rates_are_the_same() -> None:
    """20 of 100 against 30 of 100: nothing, if they disagree often; a lot, if the 20 are among the 30."""
    assert mcnemar(*pairs(2, 18, 28, 52)) > 0.1
    assert mcnemar(*pairs(20, 0, 10, 70)) == pytest.approx(2 / 2**10)


@given(st.lists(st.floats(0, 1), max_size=6))
def test_holm_is_bonferroni_on_every_family_that_a_test_is_part_of(p_values: list[float]) -> None:
    """Marcus, Peritz & Gabriel 1976: a hypothesis falls if every intersection that contains it falls."""
    everything = range(len(p_values))
    for index, adjusted in enumerate(holm(p_values)):
        families = [
            family for size in everything for family in combinations(everything, size + 1) if index in family
        ]
        bounds = [min(1.0, len(family) * min(p_values[each] for each in family)) for family in families]
        assert adjusted == pytest.approx(max(bounds))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def nested(*successes: int) -> list[list[bool]]:
    """Of 100 episodes the first so many succeed: b - a pairs disagree, all of them one way."""
    return [[index < count for index in range(100)] for count in successes]


def test_equals_all_lead_and_the_first_of_them_is_called_the_best() -> None:
    assert leaders(nested(50, 50, 50)) == [0, 1, 2]
    assert leaders(nested(50)) == [0]


def test_who_is_significantly_worse_does_not_lead() -> None:
    assert leaders(nested(20, 80, 79, 90)) == [3]
    assert leaders(nested(20, 88, 86, 90)) == [3, 1, 2]


def test_what_one_comparison_shows_may_be_chance_among_many() -> None:
    # Six pairs, all one way: p = 2 / 2^6 = 0.031, enough for one comparison and too little for two.
    assert leaders(nested(90, 84)) == [0]
    assert leaders(nested(90, 84, 88)) == [0, 2, 1]


def test_all_pairs_count_for_the_best_was_found_by_looking() -> None:
    # Eight pairs, all one way: p = 2 / 2^8 = 0.0078; four comparisons with the best would show it, ten not.
    assert leaders(nested(90, 82, 82, 82)) == [0]
    assert leaders(nested(90, 82, 82, 82, 82)) == [0, 1, 2, 3, 4]


def test_a_share_has_the_interval_of_the_delta_method_for_many_pairs() -> None:
    first, second = pairs(1100, 100, 400, 400)
    share = success_share(first, second)
    assert share is not None
    ratio = 1200 / 1500
    # The residuals of first - ratio * second over the mean of second (linearisation of a ratio).
    spread = np.std(np.array(first) - ratio * np.array(second)) / np.sqrt(2000) / 0.75
    expected = [ratio, ratio - 1.96 * spread, ratio + 1.96 * spread]
    assert share == pytest.approx(expected, abs=0.15 * spread)


def test_a_share_of_itself_is_whole_and_a_share_of_nothing_does_not_exist() -> None:
    outcomes = [True, False] * 20
    assert success_share(outcomes, outcomes) == (1, 1, 1)
    assert success_share([False] * 40, outcomes) == (0, 0, 0)
    assert success_share(outcomes, [False] * 40) is None
    assert success_share([True, True], [True, False]) is not None  # though half of the resamples have none


def test_a_share_is_reproducible_and_paired() -> None:
    first, second = pairs(60, 0, 20, 20)
    assert success_share(first, second, seed=3) == success_share(first, second, seed=3)
    shuffled = np.random.default_rng(0).permutation(second)
    together, apart = success_share(first, second), success_share(first, shuffled)
    assert together is not None
    assert apart is not None
    assert together.value == apart.value
    assert together.high - together.low < 0.8 * (apart.high - apart.low)


@pytest.mark.parametrize("compare", [mcnemar, success_share])
def test_other_episodes_are_not_pairs(compare: Callable[[list[bool], list[bool]], object]) -> None:
    with pytest.raises(InvalidArgument, match="2 outcomes beside 1"):
        compare([True, False], [True])
    with pytest.raises(InvalidArgument, match="at least 1"):
        compare([], [])


def test_the_sign_of_a_difference_agrees_with_mcnemar() -> None:
    first, second = pairs(30, 25, 5, 40)
    assert mcnemar(first, second) < 0.05
    assert paired_difference(first, second).low > 0
