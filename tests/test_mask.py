from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import DOUBLE, golden

from rtc.errors import InvalidArgument
from rtc.runtime.mask import SCHEDULES, prefix_weights

CASES = golden("prefix_weights")["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['schedule']}-{c['total']}-{c['start']}-{c['end']}")
def test_weights_are_those_of_the_released_mask(case: dict) -> None:
    weights = prefix_weights(
        case["total"], case["start"], case["total"] - case["end"], case["schedule"], dtype=DOUBLE
    )
    assert weights.tolist() == pytest.approx(case["weights"], rel=1e-9, abs=1e-15)


@given(
    horizon=st.integers(1, 64),
    delay=st.integers(0, 64),
    data=st.data(),
    schedule=st.sampled_from(sorted(SCHEDULES)),
)
def test_weights_are_one_while_frozen_then_fall_and_are_zero_beyond_the_previous_chunk(
    horizon: int, delay: int, data: st.DataObject, schedule
) -> None:
    execution_horizon = data.draw(st.integers(0, horizon))
    weights = prefix_weights(horizon, delay, execution_horizon, schedule, dtype=DOUBLE)
    end = horizon - execution_horizon
    assert (weights[: min(delay, end)] == 1.0).all()
    assert (weights[end:] == 0.0).all()
    assert (weights.diff() <= 0.0).all()


def test_the_hard_mask_is_below_every_other_and_the_full_one_above() -> None:
    hard, exp, linear, full = (prefix_weights(16, 4, 5, name) for name in ("zeros", "exp", "linear", "ones"))
    assert (hard <= exp).all()
    assert (exp <= linear).all()
    assert (linear <= full).all()


def test_a_mask_has_the_dtype_asked_for_and_else_the_default() -> None:
    assert prefix_weights(8, 2, 3).dtype == torch.get_default_dtype()
    assert prefix_weights(8, 2, 3, dtype=torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0, 0), "at least 1 action"),
        ((8, -1, 3), "inference_delay is -1"),
        ((8, 2, -1), r"0\.\.8"),
        ((8, 2, 9), r"0\.\.8"),
    ],
)
def test_a_mask_outside_its_chunk_is_refused(arguments: tuple[int, int, int], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        prefix_weights(*arguments)


def test_an_unknown_schedule_is_answered_with_those_that_exist() -> None:
    with pytest.raises(InvalidArgument, match="'cosine'; choose one of exp, linear, ones, zeros"):
        prefix_weights(8, 2, 3, "cosine")
