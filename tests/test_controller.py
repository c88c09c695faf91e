"""The state machine: every transition, every refusal, the published traces, and what holds for any timing."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtc.errors import IllegalEvent, InvalidArgument
from rtc.runtime.controller import (
    TRANSITIONS,
    ChunkController,
    Event,
    Starvation,
    State,
    legal_events,
    transition,
)
from rtc.runtime.planning import DelayEstimator

TRACES = json.loads((Path(__file__).parent / "golden" / "execution.json").read_text())["algorithm1"]
H = 4


def labelled(number: int, horizon: int = H) -> np.ndarray:
    """A chunk whose rows are (number, row): each action says where it is from."""
    return np.stack([np.full(horizon, number), np.arange(horizon)], axis=1).astype(np.float32)


def run(controller: ChunkController, ticks: int) -> list[list[float]]:
    return [controller.next_action().tolist() for _ in range(ticks)]


def executing() -> ChunkController:
    controller = ChunkController(labelled(0))
    run(controller, 2)
    return controller


def inferring() -> ChunkController:
    controller = executing()
    controller.request(1)
    return controller


def starved_in_flight() -> ChunkController:
    controller = inferring()
    run(controller, 3)
    return controller


def starved_idle() -> ChunkController:
    controller = executing()
    run(controller, 3)
    return controller


def snapshot(controller: ChunkController) -> list[object]:
    private = {name: repr(value) for name, value in vars(controller).items()}
    return [controller.chunk.tobytes(), private, controller.plan.tobytes(), controller.frozen.tobytes()]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("in_flight", [False, True])
def test_every_event_either_follows_the_table_or_says_what_was_legal(state, event, in_flight) -> None:
    legal = legal_events(state, in_flight)
    if event in legal:
        assert transition(state, event, in_flight) is TRANSITIONS[state, event]
        return
    with pytest.raises(IllegalEvent) as error:
        transition(state, event, in_flight)
    message = str(error.value)
    assert f"{event.name} is illegal in state {state.name}" in message
    assert message.endswith("legal now: " + ", ".join(each.name for each in legal))


def test_the_table_allows_exactly_these_events() -> None:
    idle = {state.name: {event.name for event in legal_events(state, False)} for state in State}
    flight = {state.name: {event.name for event in legal_events(state, True)} for state in State}
    assert idle["EXECUTING"] == {"TICK", "EXHAUST", "REQUEST"}
    assert idle["STARVED"] == {"EXHAUST", "REQUEST"}
    assert flight["INFERRING"] == {"TICK", "EXHAUST", "DELIVER", "OUTLIVE"}
    assert flight["STARVED"] == {"EXHAUST", "DELIVER", "OUTLIVE"}


@pytest.mark.parametrize(
    ("situation", "state", "call", "named"),
    [
        (executing, State.EXECUTING, lambda c: c.deliver(labelled(1)), "DELIVER"),
        (starved_idle, State.STARVED, lambda c: c.deliver(labelled(1)), "DELIVER"),
        (inferring, State.INFERRING, lambda c: c.request(1), "REQUEST"),
        (starved_in_flight, State.STARVED, lambda c: c.request(1), "REQUEST"),
    ],
)
def test_an_illegal_call_changes_nothing(
    situation: Callable[[], ChunkController], state: State, call: Callable, named: str
) -> None:
    controller = situation()
    assert controller.state is state
    before = snapshot(controller)
    with pytest.raises(IllegalEvent, match=f"{named} is illegal in state {state.name}.*legal now"):
        call(controller)
    assert snapshot(controller) == before


@pytest.mark.parametrize("situation", [executing, inferring, starved_in_flight, starved_idle])
def test_an_action_can_always_be_had(situation: Callable[[], ChunkController]) -> None:
    assert np.isfinite(situation().next_action()).all()


@pytest.mark.parametrize("trace", TRACES, ids=range(len(TRACES)))
def test_the_published_traces_of_algorithm_1_are_reproduced(trace: dict) -> None:
    horizon, latencies = trace["H"], trace["latencies"]
    controller = ChunkController(labelled(0, horizon))
    estimator = DelayEstimator(trace["b"], trace["d_init"])
    actions, inferences, due = [], [], None
    for tick in range(len(trace["actions"]) + 1):
        if due == tick:
            counted = controller.deliver(labelled(len(inferences), horizon))
            estimator.observe(counted)
            inferences[-1] |= {"counted_delay": counted, "swap_before_tick": tick}
        if tick == len(trace["actions"]):
            break
        if len(inferences) < len(latencies) and controller.should_infer(trace["s_min"]):
            request = controller.request(estimator.delay)
            due = tick + latencies[len(inferences)]
            inferences.append(
                {
                    "start_after_tick": request.tick - 1,
                    "s": request.executed,
                    "d": request.inference_delay,
                    "mask_start": len(request.frozen),
                    "mask_end": request.remaining,
                }
            )
        index, starved = controller.row, controller.starved_ticks
        action = controller.next_action()
        if controller.starved_ticks == starved:
            assert action[1] == index
        chunk = controller.chunk[0, 0]
        actions.append([tick, chunk, index, controller.starved_ticks > starved])
    assert actions == trace["actions"]
    complete = [each for each in trace["inferences"] if each["swap_before_tick"] <= len(trace["actions"])]
    assert inferences[: len(complete)] == complete
    assert len(complete) == len(latencies)


def test_a_late_chunk_joins_in_time() -> None:
    controller = ChunkController(labelled(0))
    run(controller, 1)
    controller.request(2)
    assert run(controller, 2) == [[0, 1], [0, 2]]
    assert controller.deliver(labelled(1)) == 2
    assert controller.state is State.EXECUTING
    assert run(controller, 2) == [[1, 2], [1, 3]]


def test_a_chunk_delivered_at_once_runs_from_its_first_row() -> None:
    controller = executing()
    controller.request(0)
    assert controller.deliver(labelled(1)) == 0
    assert run(controller, 4) == [[1, 0], [1, 1], [1, 2], [1, 3]]


def test_an_outlived_chunk_starves_reports_its_delay_and_can_be_asked_for_again() -> None:
    controller = inferring()
    run(controller, H)
    assert controller.deliver(labelled(1)) == H
    assert (controller.state, controller.outlived_chunks) == (State.STARVED, 1)
    assert controller.should_infer(H)
    request = controller.request(1)
    assert (request.executed, request.remaining, len(request.frozen)) == (H, 0, 0)
    assert run(controller, 1) == [[0, 3]]
    assert controller.deliver(labelled(2)) == 1
    assert run(controller, 1) == [[2, 1]]
    assert controller.starved_ticks == 3


def test_a_chunk_outlived_at_the_tick_that_the_old_one_ends_starves() -> None:
    controller = ChunkController(labelled(0))
    controller.request(1)
    run(controller, H)
    assert controller.state is State.INFERRING
    assert controller.deliver(labelled(1)) == H
    assert controller.state is State.STARVED


@pytest.mark.parametrize(
    ("starvation", "expected"),
    [("hold", [4.0, 4.0, 4.0]), ("zero", [0.0, 0.0, 0.0]), ("decay", [2.0, 1.0, 0.5])],
)
def test_starvation_does_what_was_chosen_and_is_counted(starvation: Starvation, expected: list) -> None:
    controller = ChunkController(np.full((2, 1), 4.0, np.float32), starvation=starvation, decay=0.5)
    run(controller, 2)
    assert [action for (action,) in run(controller, 3)] == expected
    assert controller.starved_ticks == 3
    assert controller.state is State.STARVED


def test_a_waiting_controller_stands_still_and_starts_the_new_chunk_at_its_first_row() -> None:
    controller = ChunkController(labelled(0), starvation="zero", waits=True)
    run(controller, 2)
    controller.request(2)
    assert controller.plan.size == controller.frozen.size == 0
    assert run(controller, 5) == [[0, 0]] * 5
    assert controller.state is State.STARVED
    assert controller.deliver(labelled(1)) == 5
    assert not controller.should_infer(1)
    assert run(controller, 4) == [[1, 0], [1, 1], [1, 2], [1, 3]]
    assert controller.starved_ticks == 5


def test_the_frozen_rows_shrink_as_they_run() -> None:
    controller = executing()
    controller.request(1)
    assert controller.frozen.tolist() == [[0, 2]]
    assert controller.plan.tolist() == [[0, 2], [0, 3]]
    run(controller, 1)
    assert controller.frozen.tolist() == []
    assert controller.plan.tolist() == [[0, 3]]


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (labelled(1).astype(np.float64), "float64.*float32"),
        (labelled(1, H + 1), r"\[5, 2\].*\[4, 2\]"),
        (labelled(1)[:, :1], r"\[4, 1\].*\[4, 2\]"),
        (np.where(labelled(1) == 2, np.float32(np.nan), labelled(1)), "not finite.*row 2"),
        (np.where(labelled(1) == 3, np.float32(np.inf), labelled(1)), "not finite.*row 3"),
    ],
)
def test_an_unfit_chunk_changes_nothing(chunk, message: str) -> None:
    controller = inferring()
    before = snapshot(controller)
    with pytest.raises(InvalidArgument, match=message):
        controller.deliver(chunk)
    assert snapshot(controller) == before
    controller.deliver(labelled(1))


def test_what_a_caller_does_to_its_chunk_afterwards_is_not_executed() -> None:
    first, second = labelled(0), labelled(1)
    controller = ChunkController(first)
    first[:] = 99
    controller.request(0)
    controller.deliver(second)
    second[:] = 99
    assert run(controller, 2) == [[1, 0], [1, 1]]
    with pytest.raises(ValueError, match="read-only"):
        controller.next_action()[:] = 99


@pytest.mark.parametrize("execution_horizon", [0, -1, H + 1])
def test_an_execution_horizon_outside_the_chunk_is_refused(execution_horizon: int) -> None:
    with pytest.raises(InvalidArgument, match=r"must be 1\.\.4"):
        executing().should_infer(execution_horizon)


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="decay"):
        ChunkController(labelled(0), decay=1.5)
    with pytest.raises(InvalidArgument, match="0 or more"):
        executing().request(-1)
    with pytest.raises(InvalidArgument, match="neither of them 0"):
        ChunkController(np.zeros((0, 2), np.float32))


@given(
    horizon=st.integers(1, 12),
    data=st.data(),
    delays=st.lists(st.integers(0, 20), min_size=1, max_size=12),
    planned=st.integers(0, 15),
    starvation=st.sampled_from(["hold", "zero", "decay"]),
)
def test_for_any_timing_each_row_runs_once_in_order_and_the_frozen_prefix_is_what_ran(
    horizon: int, data: st.DataObject, delays: list[int], planned: int, starvation: Starvation
) -> None:
    execution_horizon = data.draw(st.integers(1, horizon))
    controller = ChunkController(labelled(0, horizon), starvation=starvation)
    delay_of = itertools.cycle(delays)
    requests, starts, actions, due = [], [(0, 0)], [], None  # starts: (tick of delivery, tick of row 0)
    for tick in range(80):
        if due == tick:
            counted = controller.deliver(labelled(len(requests), horizon))
            assert counted == tick - requests[-1].tick
            starts.append((tick, requests[-1].tick))
            due = None
        if controller.should_infer(execution_horizon):
            requests.append(controller.request(planned))
            assert requests[-1].tick == tick
            due = tick + next(delay_of)
            if due == tick:
                assert controller.deliver(labelled(len(requests), horizon)) == 0
                starts.append((tick, tick))
        actions.append(controller.next_action())

    executed, starved = [], 0
    for tick, action in enumerate(actions):  # an account of it that knows no state machine
        number = max(index for index, (delivery, _) in enumerate(starts) if delivery <= tick)
        row = tick - starts[number][1]
        if row < horizon:
            assert action.tolist() == [number, row]
            executed.append((number, row))
        else:
            starved += 1
    assert controller.starved_ticks == starved
    assert len(set(executed)) == len(executed)
    for (number, row), (next_number, next_row) in itertools.pairwise(executed):
        if number == next_number:
            assert next_row == row + 1
    for request, (delivery, _) in zip(requests, starts[1:], strict=False):
        ran = actions[request.tick : delivery]
        for row, action in zip(request.frozen, ran, strict=False):
            assert row.tobytes() == action.tobytes()
        for row, action in zip(request.previous[: request.remaining], ran, strict=False):
            assert row.tobytes() == action.tobytes()
