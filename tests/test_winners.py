"""Who wins: synthetic cells whose answers are known."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtc.errors import InvalidArgument
from rtc.report.winners import Contest, Standing, winner_table


def cell(strategy: str, successes: int, task: str = "Catch", delay: str = "4", s: int = 4) -> dict[str, Any]:
    """Of 100 episodes the first so many succeed, so n points between two cells are n pairs, all one way."""
    return {
        "task": task,
        "delay": delay,
        "strategy": strategy,
        "execution_horizon": s,
        "outcomes": "1" * successes + "0" * (100 - successes),
    }


def contest(*cells: dict[str, Any]) -> Contest:
    [only] = winner_table(cells).contests
    return only


def standing(strategy: str, *cells: dict[str, Any]) -> Standing:
    [found] = [each for each in winner_table(cells).standings if each.strategy == strategy]
    return found


def test_a_clear_winner_wins_alone() -> None:
    result = contest(cell("naive", 30), cell("realtime", 80), cell("synchronous", 45), cell("oracle", 96))
    assert (result.task, result.delay) == ("Catch", "4")
    assert (result.best.strategy, result.best.execution_horizon, result.best.success.value) == (
        "realtime",
        4,
        0.8,
    )
    assert result.best.success.low < 0.8 < result.best.success.high
    assert len(result.leaders) == 1
    assert result.tied == ()


def test_a_tie_is_called_a_tie() -> None:
    result = contest(cell("naive", 30), cell("conditioned", 78), cell("realtime", 80), cell("ensemble", 79))
    assert [each.strategy for each in result.leaders] == ["realtime", "ensemble", "conditioned"]
    assert result.best.strategy == "realtime"
    assert result.tied == ("ensemble", "conditioned")


def test_the_gain_over_naive_and_the_share_of_the_oracle_have_intervals() -> None:
    result = contest(cell("naive", 30), cell("realtime", 80), cell("oracle", 90))
    assert result.over_naive is not None
    assert result.oracle_share is not None
    assert result.over_naive.value == pytest.approx(0.5)
    # 50 of 100 pairs disagree, all one way: +- 1.96 sqrt(0.5 * 0.5 / 100)
    assert (result.over_naive.low, result.over_naive.high) == pytest.approx((0.4, 0.6), abs=0.015)
    assert result.oracle_share.value == pytest.approx(8 / 9)
    assert 0.8 < result.oracle_share.low < 8 / 9 < result.oracle_share.high < 1


def test_the_oracle_does_not_compete() -> None:
    cells = cell("oracle", 96), cell("oracle:samples=4", 98), cell("naive", 30)
    table = winner_table(cells)
    assert table.contests[0].best.strategy == "naive"
    assert [each.strategy for each in table.standings] == ["naive"]
    assert table.contests[0].oracle_share is not None
    assert table.contests[0].oracle_share.value == pytest.approx(30 / 98)  # the better oracle is the ceiling
    assert winner_table([cell("oracle", 96)]) == ((), ())


def test_what_did_not_run_is_not_compared_with() -> None:
    result = contest(cell("realtime", 80))
    assert (result.over_naive, result.oracle_share) == (None, None)
    assert contest(cell("realtime", 80), cell("oracle", 0)).oracle_share is None


def test_a_strategy_stands_for_its_best_execution_horizon_and_does_not_tie_with_itself() -> None:
    cells = (
        cell("naive", 30, s=2),
        cell("naive", 50, s=8),
        cell("realtime", 78, s=2),
        cell("realtime", 80, s=8),
    )
    result = contest(*cells, cell("oracle", 80, s=2), cell("oracle", 100, s=8))
    assert (result.best.strategy, result.best.execution_horizon) == ("realtime", 8)
    assert [each.execution_horizon for each in result.leaders] == [8, 2]
    assert result.tied == ()
    assert result.over_naive is not None
    assert result.over_naive.value == pytest.approx(0.3)
    assert result.oracle_share is not None
    assert result.oracle_share.value == pytest.approx(0.8)
    assert standing("naive", *cells).success.value == 0.5
    assert standing("realtime", *cells).won_or_tied == 1


def test_every_task_and_delay_is_a_contest_of_its_own_in_the_order_of_the_cells() -> None:
    places = [("Peg", "4"), ("Catch", "4"), ("Catch", "spiky:2:8:0.1")]
    cells = [
        cell(name, count, *place) for place in places for name, count in (("naive", 40), ("realtime", 70))
    ]
    assert [(each.task, each.delay) for each in winner_table(cells).contests] == places


def test_a_standing_is_the_mean_over_the_contests_it_took_part_in() -> None:
    cells = [
        *(cell("naive", 90, delay="0"), cell("realtime", 88, delay="0"), cell("conditioned", 60, delay="0")),
        *(cell("naive", 40, delay="4"), cell("realtime", 80, delay="4")),
        *(cell("naive", 10, delay="8"), cell("realtime", 50, delay="8"), cell("conditioned", 90, delay="8")),
    ]
    naive, realtime, conditioned = winner_table(cells).standings
    assert [each.contests for each in (naive, realtime, conditioned)] == [3, 3, 2]
    assert naive.success.value == pytest.approx((0.9 + 0.4 + 0.1) / 3)
    assert realtime.success.value == pytest.approx((0.88 + 0.8 + 0.5) / 3)
    assert conditioned.success.value == pytest.approx(0.75)
    assert realtime.shortfall.value == pytest.approx((0.02 + 0.0 + 0.4) / 3)
    assert [each.won_or_tied for each in (naive, realtime, conditioned)] == [1, 2, 1]
    assert conditioned.worse == (("Catch", "0"),)
    assert realtime.success.low < realtime.success.value < realtime.success.high


def test_worse_means_worse_than_the_better_of_naive_and_synchronous() -> None:
    cells = cell("naive", 30), cell("synchronous", 60), cell("realtime", 45), cell("auto", 58)
    assert standing("realtime", *cells).worse == (("Catch", "4"),)
    assert standing("auto", *cells).worse == ()
    assert standing("naive", *cells).worse == (("Catch", "4"),)
    assert standing("synchronous", *cells).worse == ()
    assert (
        standing("realtime", *cells[:1], *cells[2:]).worse == ()
    )  # better than naive, which is all that ran
    assert standing("realtime", *cells[2:]).worse is None


def test_worse_in_one_of_many_contests_has_to_be_clearer() -> None:
    # Six pairs, all one way: p = 0.031. One contest shows it, two do not.
    once = [cell("naive", 50), cell("auto", 44)]
    assert standing("auto", *once).worse == (("Catch", "4"),)
    twice = [*once, cell("naive", 50, delay="8"), cell("auto", 50, delay="8")]
    assert standing("auto", *twice).worse == ()


@settings(max_examples=8)
@given(
    st.permutations([("naive", 30), ("ensemble", 77), ("realtime", 80), ("conditioned", 60), ("oracle", 90)])
)
def test_the_order_of_the_cells_decides_nothing(order: list[tuple[str, int]]) -> None:
    result = contest(*(cell(*each) for each in order))
    assert [each.strategy for each in result.leaders] == ["realtime", "ensemble"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"outcomes": "1" * 99},
            "realtime on Catch at delay 4, s = 4, has 99 outcomes .* first cell has 100",
        ),
        ({"outcomes": "2" * 100}, "one mark, 0 or 1"),
        ({"strategy": "naive"}, "naive on Catch at delay 4, s = 4, is there twice"),
    ],
)
def test_cells_that_cannot_be_paired_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        winner_table([cell("naive", 30), cell("realtime", 40) | changes])
    with pytest.raises(InvalidArgument):
        winner_table([cell("naive", 30) | {"outcomes": ""}])
