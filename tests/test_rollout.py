"""The control loop: timing, randomness, failures, accounts, and real-time chunking at what it is for."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from delays import delay_texts
from hypothesis import given, settings
from hypothesis import strategies as st
from point_mass import GaussianPolicy, PointMass
from torch import Tensor

from rtc.errors import InvalidArgument, Unsupported
from rtc.prior import Prior, from_denoiser
from rtc.runtime.controller import ChunkController, Request, Starvation, State
from rtc.runtime.delay_text import parse_delay
from rtc.runtime.episode import Episode, rms_jerk
from rtc.runtime.latency import (
    ConstantDelay,
    DelayModel,
    DistributionDelay,
    TraceDelay,
)
from rtc.runtime.planning import at_least
from rtc.runtime.rollout import rollout, rollout_batch
from rtc.runtime.strategies import STRATEGIES, InferenceInfo, Strategy, make_strategy

HORIZON = 8


class Labelled:
    """A strategy whose chunks say who they are: row r of the n-th inference is (n, r) / 1000."""

    name = "labelled"
    horizon, history = HORIZON, 1
    privileged, max_delay = False, None

    def __init__(self, waits: bool = False, expected: str = "longest") -> None:
        self.waits, self.expected = waits, expected
        self.obs: list[np.ndarray] = []
        self.requests: list[Request | None] = []
        self.noise: list[Tensor] = []

    def __call__(
        self, obs: np.ndarray, requests: Sequence[Request | None], noise: Tensor
    ) -> tuple[np.ndarray, InferenceInfo]:
        self.obs += list(obs)
        self.requests += requests
        self.noise += list(noise)
        number = np.full(HORIZON, len(self.requests) - 1)
        chunk = np.stack([number, np.arange(HORIZON)], axis=1).astype(np.float32) / 1000
        none = np.zeros(len(obs), bool)
        return np.repeat(chunk[None], len(obs), 0), InferenceInfo(1, 0, none, np.full(len(obs), -1))


def labels(episode: Episode) -> list[tuple[int, int]]:
    return [(int(number), int(row)) for number, row in np.round(episode.actions * 1000)]


def run(
    strategy: Any = "naive", delay: DelayModel | int = 2, execution_horizon: Any = 4, **options: Any
) -> Episode:
    infer = make_strategy(strategy, GaussianPolicy()) if isinstance(strategy, str) else strategy
    model = ConstantDelay(delay) if isinstance(delay, int) else delay
    env = options.pop("env", None) or PointMass()
    return rollout(env, infer, execution_horizon=execution_horizon, delay=model, **options)


def test_the_first_chunk_is_free_and_a_later_one_joins_in_time() -> None:
    episode = run(Labelled(), delay=2, execution_horizon=4)
    first = [(0, row) for row in range(6)]
    second = [(1, row) for row in range(2, 6)]
    assert labels(episode)[:14] == first + second + [(2, row) for row in range(2, 6)]
    assert set(episode.delays) == {2}
    assert episode.starved_ticks == 0


def test_a_delay_of_zero_is_delivered_at_once_with_the_current_observation() -> None:
    strategy = Labelled()
    env = PointMass(time_limit=9)
    episode = run(strategy, delay=0, execution_horizon=3, env=env)
    assert labels(episode) == [(number, row) for number in range(3) for row in range(3)]
    positions = [obs[:2] for obs in strategy.obs]
    np.testing.assert_allclose(positions, np.asarray(episode.positions)[[0, 3, 6], :2], rtol=1e-6)


def test_the_synchronous_baseline_stops_while_it_thinks() -> None:
    episode = run(Labelled(waits=True), delay=3, execution_horizon=4, starvation="zero")
    still = [(0, 0)] * 3
    assert labels(episode)[:14] == [(0, r) for r in range(4)] + still + [(1, r) for r in range(4)] + still
    assert episode.starved_ticks == labels(episode)[4:].count((0, 0))
    assert all(len(record.frozen) == 0 and record.first_row == 0 for record in episode.chunks)


def test_without_delay_synchronous_and_naive_are_the_same() -> None:
    synchronous, naive = run("synchronous", 0, seed=3), run("naive", 0, seed=3)
    np.testing.assert_array_equal(synchronous.actions, naive.actions)
    assert synchronous.boundary_jumps == naive.boundary_jumps


def test_the_planned_delay_is_the_largest_of_the_last_ones_and_so_is_the_execution_horizon() -> None:
    strategy = Labelled()
    delays = TraceDelay([1, 5, 0, 2, 2, 2, 2, 2])
    episode = run(strategy, delays, at_least(2, HORIZON), delay_window=3)
    planned = [record.inference_delay for record in episode.chunks[1:8]]
    assert planned == [1, 1, 5, 5, 5, 2, 2]
    for before, record in itertools.pairwise(episode.chunks[1:]):
        # s realised is max(counted delay, s_min, planned delay).
        assert record.executed == max(before.delay, 2, record.inference_delay)


def test_a_strategy_that_expects_the_median_plans_for_it() -> None:
    delays = TraceDelay([1, 5, 0, 2, 2, 2, 2, 2])
    episode = run(Labelled(expected="median"), delays, 2, delay_window=3)
    # of the last three counted ones; of two the longer
    assert [record.inference_delay for record in episode.chunks[1:8]] == [1, 1, 1, 1, 2, 2, 2]


def test_a_planned_delay_can_be_fixed() -> None:
    episode = run(Labelled(), TraceDelay([1, 3]), inference_delay=2)
    assert {record.inference_delay for record in episode.chunks[1:]} == {2}
    assert {len(record.frozen) for record in episode.chunks[1:]} == {2}
    assert episode.delays[:4] == [1, 3, 1, 3]


delay_models = st.one_of(  # a text, or the values of a trace
    delay_texts,
    st.lists(st.integers(0, 12), min_size=1, max_size=8),
)


def built(delay_model: str | list[int]) -> DelayModel:
    return parse_delay(delay_model) if isinstance(delay_model, str) else TraceDelay(delay_model)


@settings(max_examples=60)
@given(
    delay_model=delay_models,
    execution_horizon=st.integers(1, HORIZON),
    starvation=st.sampled_from(["hold", "zero", "decay"]),
    inference_delay=st.one_of(st.none(), st.integers(0, 10)),
    seed=st.integers(0, 2**31),
)
def test_for_any_delay_each_row_runs_once_and_the_frozen_prefix_is_what_ran(
    delay_model: str | list[int],
    execution_horizon: int,
    starvation: Starvation,
    inference_delay: int | None,
    seed: int,
) -> None:
    strategy = Labelled()
    episode = run(
        strategy,
        built(delay_model),
        execution_horizon,
        starvation=starvation,
        inference_delay=inference_delay,
        seed=seed,
    )
    assert episode.ticks == len(episode.actions)
    found, starved = labels(episode), 0
    delivered = [record.delivery_tick for record in episode.chunks]
    assert delivered == sorted(delivered)
    executed = []
    for tick in range(episode.ticks):
        number = max(index for index, delivery in enumerate(delivered) if delivery <= tick)
        row = tick - episode.chunks[number].request_tick
        if row < HORIZON:
            assert found[tick] == (number, row)
            executed.append(found[tick])
        else:
            starved += 1
    assert episode.starved_ticks == starved
    assert len(set(executed)) == len(executed)
    # Whatever was skipped inside a chunk lies before its first row: outlived when it was delivered.
    for number, rows in itertools.groupby(executed, key=lambda pair: pair[0]):
        first = episode.chunks[number].first_row
        assert [row for _, row in rows] == list(range(first, first + executed_rows(executed, number)))
    for record in episode.chunks[1:]:
        assert record.delay == record.delivery_tick - record.request_tick == record.first_row
        ran = episode.actions[record.request_tick : record.delivery_tick][: len(record.frozen)]
        assert ran.tobytes() == record.frozen[: len(ran)].tobytes()
    assert episode.delays == [record.delay for record in episode.chunks[1:]]


def executed_rows(executed: list[tuple[int, int]], number: int) -> int:
    return sum(each == number for each, _ in executed)


def untrained(name: str) -> Strategy:
    """The strategy on a policy in closed form; one that needs more than a policy says so and is skipped."""
    try:
        return make_strategy(name, GaussianPolicy())
    except Unsupported as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("name", STRATEGIES)
@settings(max_examples=12)
@given(
    delay_model=delay_models,
    execution_horizon=st.integers(1, HORIZON),
    inference_delay=st.one_of(st.none(), st.integers(0, HORIZON)),
    seed=st.integers(0, 2**31),
)
def test_every_strategy_executes_one_row_a_tick_in_order_under_any_delay(
    name: str, delay_model: str | list[int], execution_horizon: int, inference_delay: int | None, seed: int
) -> None:
    strategy, env = untrained(name), PointMass(time_limit=30)
    episode = run(
        strategy,
        built(delay_model),
        execution_horizon,
        env=env,
        starvation="zero",
        inference_delay=inference_delay,
        seed=seed,
    )
    assert len(episode.actions) == episode.ticks == env.tick
    ends = [record.delivery_tick for record in episode.chunks[1:]] + [episode.ticks]
    tick = 0
    for record, end in zip(episode.chunks, ends, strict=True):
        assert tick == record.delivery_tick
        rows = record.chunk[record.first_row : record.first_row + end - tick]
        if strategy.waits:  # it begins with its first row and runs s of them
            assert record.first_row == 0
            rows = rows[:execution_horizon]
        else:  # it joins in time
            assert record.first_row == tick - record.request_tick
        ran = episode.actions[tick:end]
        assert ran[: len(rows)].tobytes() == rows.tobytes()
        assert not ran[len(rows) :].any()  # starved
        tick = end


@pytest.mark.parametrize("starvation", ["hold", "zero", "decay"])
def test_delays_longer_than_the_chunk_starve_and_the_loop_goes_on(starvation: Starvation) -> None:
    strategy = Labelled()
    episode = run(strategy, TraceDelay([HORIZON + 3, 1]), 4, starvation=starvation, inference_delay=2)
    assert episode.ticks == 60
    assert episode.chunks[1].first_row == HORIZON + 3
    # Asked at tick 4, outlived at tick 15, asked again at once, and there at tick 16.
    assert (episode.chunks[2].request_tick, episode.chunks[2].delivery_tick) == (15, 16)
    assert labels(episode)[16] == (2, 1)
    if starvation == "hold":
        assert labels(episode)[8:16] == [(0, 7)] * 8
    if starvation == "zero":
        assert not episode.actions[8:16].any()


@pytest.mark.parametrize("strategy", ["synchronous", "naive", "realtime"])
def test_an_episode_does_not_depend_on_its_batch(strategy: str) -> None:
    infer = make_strategy(strategy, GaussianPolicy())
    seeds = [11, 4, 7, 100, 0, 5, 9, 2]
    delay = DistributionDelay(range(HORIZON + 3))  # some plans run out, so guided and unguided rows meet
    batch, _ = rollout_batch(
        [PointMass(20 + seed) for seed in seeds], infer, execution_horizon=3, delay=delay, seeds=seeds
    )
    assert len({episode.ticks for episode in batch}) > 2
    for seed, together in zip(seeds, batch, strict=True):
        alone = rollout(PointMass(20 + seed), infer, execution_horizon=3, delay=delay, seed=seed)
        assert (alone.seed, alone.ticks, alone.success, alone.failure) == (
            together.seed,
            together.ticks,
            together.success,
            together.failure,
        )
        assert (alone.delays, alone.starved_ticks) == (together.delays, together.starved_ticks)
        assert (alone.network_calls, alone.vjps) == (together.network_calls, together.vjps)
        np.testing.assert_allclose(alone.actions, together.actions, atol=1e-6)


def test_the_noise_of_an_episode_is_its_own_to_the_bit() -> None:
    alone, together = Labelled(), Labelled()
    run(alone, seed=5, delay=1, env=PointMass(time_limit=20))
    envs = [PointMass(time_limit=20) for _ in range(3)]
    rollout_batch(envs, together, execution_horizon=4, delay=ConstantDelay(1), seeds=[8, 5, 2])
    assert all(torch.equal(one, other) for one, other in zip(alone.noise, together.noise[1::3], strict=True))
    drawn = torch.stack(together.noise)
    assert len(drawn.flatten().unique()) > 0.99 * drawn.numel()


def test_the_same_seed_is_the_same_episode_and_another_is_another() -> None:
    first, again, other = (run("realtime", DistributionDelay([0, 3]), seed=seed) for seed in (1, 1, 2))
    assert first.actions.tobytes() == again.actions.tobytes()
    assert first.actions[:10].tobytes() != other.actions[:10].tobytes()


class BrokenPolicy(GaussianPolicy):
    """Not a number from flow step 2 of 5 on, once the mass is left of `edge`."""

    def __init__(self, edge: float) -> None:
        super().__init__()
        self.edge = edge

    def condition(self, obs: Tensor) -> Prior:  # pyright: ignore[reportIncompatibleMethodOverride]
        exact, broken = super().condition(obs), (obs[:, 0] < self.edge)[:, None, None]
        return from_denoiser(
            lambda x, tau: torch.where(broken & (tau > 0.3), float("nan"), exact.denoise(x, tau))
        )


@pytest.mark.parametrize("strategy", ["synchronous", "naive", "realtime"])
def test_a_chunk_that_is_not_finite_ends_its_own_episode_only(strategy: str) -> None:
    seeds, options = list(range(12)), {"execution_horizon": 4, "delay": ConstantDelay(2)}
    edge = -0.6
    broken, _ = rollout_batch(
        [PointMass() for _ in seeds], make_strategy(strategy, BrokenPolicy(edge)), seeds=seeds, **options
    )
    whole, _ = rollout_batch(
        [PointMass() for _ in seeds], make_strategy(strategy, GaussianPolicy()), seeds=seeds, **options
    )
    failed = [episode for episode in broken if episode.failure and "finite" in episode.failure]
    assert 0 < len(failed) < len(seeds)
    assert any(episode.ticks == 0 for episode in failed)
    assert any(episode.ticks > 0 for episode in failed)
    for episode, reference in zip(broken, whole, strict=True):
        assert np.isfinite(episode.actions).all()
        if episode in failed:
            tick = max(0, episode.ticks - 2)  # two ticks after the request the chunk came and was refused
            expected = f"{strategy}: chunk requested at tick {tick} is not finite from flow step 2 on"
            assert episode.failure == expected
            assert not episode.success
            assert episode.positions is not None
            assert episode.positions[tick, 0] < edge
        else:
            np.testing.assert_allclose(episode.actions, reference.actions, atol=1e-6)


def test_a_failure_is_what_the_env_says_or_a_timeout() -> None:
    assert run(Labelled(), env=PointMass(time_limit=5)).failure == "timeout"
    assert run(Labelled(), env=PointMass(wall=0.0)).failure == "collision"
    episode = run("naive", 0, 1, env=PointMass(time_limit=400))
    assert (episode.success, episode.failure) == (True, None)
    assert episode.time_to_success == episode.ticks / 50
    assert run(Labelled(), env=PointMass(time_limit=5)).time_to_success is None


@pytest.mark.parametrize(("strategy", "vjps_each"), [("synchronous", 0), ("naive", 0), ("realtime", 5)])
def test_an_episode_counts_what_its_chunks_cost(strategy: str, vjps_each: int) -> None:
    infer = make_strategy(strategy, GaussianPolicy(), num_steps=5)
    asked, again = [], []

    class Watched:
        name, waits, horizon, privileged = infer.name, infer.waits, infer.horizon, False
        history, expected, max_delay = 1, "longest", None

        def __call__(self, obs, requests, noise):
            chunks, info = infer(obs, requests, noise)
            asked.append(len(requests))
            again.append(0 if info.redrawn is None else int(info.redrawn.sum()))
            return chunks, info

    episode = run(Watched(), 2)
    assert episode.network_calls == 5 * (len(asked) + sum(again))
    assert episode.vjps == vjps_each * (len(asked) - 1)


def test_the_boundary_jump_is_the_step_in_the_action_at_the_join() -> None:
    strategy = make_strategy("naive", GaussianPolicy())
    episode = run(strategy, TraceDelay([2, 0, 5, 9]), 3, inference_delay=2)
    expected = []
    for before, record in itertools.pairwise(episode.chunks):
        old_row = record.executed + record.delay
        if old_row < HORIZON:
            expected.append(np.linalg.norm(record.chunk[record.first_row] - before.chunk[old_row]))
    assert 0 < len(expected) < len(episode.delays)
    np.testing.assert_allclose(episode.boundary_jumps, expected, rtol=1e-5)


def test_the_prefix_error_is_how_far_a_chunk_is_from_what_was_committed() -> None:
    episode = run(make_strategy("naive", GaussianPolicy()), TraceDelay([2, 0, 5, 9]), 3, inference_delay=2)
    expected = [
        np.sqrt(np.mean((record.chunk[:2] - before.chunk[record.executed : record.executed + 2]) ** 2))
        for before, record in itertools.pairwise(episode.chunks)
        if record.executed + 2 <= HORIZON
    ]
    assert len(expected) > 2
    np.testing.assert_allclose(episode.prefix_errors[: len(expected)], expected, rtol=1e-5)


@pytest.mark.parametrize("schedule", ["exp", "zeros"])
def test_realtime_joins_more_smoothly_than_naive(schedule: str) -> None:
    seeds = list(range(16))
    jumps = {}
    for name in ("naive", "realtime"):
        infer = make_strategy(name, GaussianPolicy(), schedule=schedule)
        episodes, _ = rollout_batch(
            [PointMass() for _ in seeds], infer, execution_horizon=4, delay=ConstantDelay(3), seeds=seeds
        )
        jumps[name] = np.array([np.mean(episode.boundary_jumps) for episode in episodes])
    assert (jumps["realtime"] < jumps["naive"]).all()
    assert jumps["realtime"].mean() < 0.5 * jumps["naive"].mean()


def test_jerk_is_the_third_derivative_of_the_position() -> None:
    time = np.arange(100)[:, None] / 50
    cubic = np.concatenate([time**3 / 6, time**2, 0.5 * time**3], axis=1)
    assert rms_jerk(cubic, 50) == pytest.approx(np.hypot(1.0, 3.0), rel=1e-6)
    assert rms_jerk(cubic[:3], 50) is None
    episode = run()
    assert episode.positions is not None
    assert episode.positions.shape == (episode.ticks + 1, 3)
    assert episode.rms_jerk == rms_jerk(episode.positions, 50)


def test_the_hook_sees_every_tick_before_it_acts_and_the_last_state() -> None:
    seen: list[tuple[int, int, State, int]] = []

    def on_tick(index: int, env: Any, controller: ChunkController) -> None:
        assert env.tick == controller.tick
        seen.append((index, controller.tick, controller.state, len(controller.frozen)))

    envs = [PointMass(time_limit=6), PointMass(time_limit=8)]
    rollout_batch(
        envs,
        Labelled(),
        execution_horizon=4,
        delay=ConstantDelay(2),
        seeds=[0, 1],
        on_tick=on_tick,
    )
    assert [tick for index, tick, *_ in seen if index == 0] == list(range(7))
    assert [tick for index, tick, *_ in seen if index == 1] == list(range(9))
    assert [frozen for index, _, _, frozen in seen if index == 1] == [0, 0, 0, 0, 2, 1, 0, 0, 0]
    assert (1, 5, State.INFERRING, 1) in seen


def test_the_time_is_accounted_for() -> None:
    envs = [PointMass() for _ in range(4)]
    infer = make_strategy("naive", GaussianPolicy())
    episodes, timing = rollout_batch(envs, infer, execution_horizon=4, delay=ConstantDelay(1), seeds=range(4))
    assert timing.control_steps == sum(episode.ticks for episode in episodes)
    assert min(timing.env, timing.policy, timing.other) > 0
    assert timing.env + timing.policy + timing.other == pytest.approx(timing.total)
    assert timing.steps_per_second == pytest.approx(timing.control_steps / timing.total)


def test_what_cannot_be_run_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="1 envs but 2 seeds"):
        rollout_batch([PointMass()], Labelled(), execution_horizon=4, delay=ConstantDelay(0), seeds=[1, 2])
    with pytest.raises(InvalidArgument, match=r"must be 1\.\.8"):
        run(Labelled(), 0, HORIZON + 1)
    env = PointMass()
    env.metadata = {}
    with pytest.raises(InvalidArgument, match="control_hz"):
        run(Labelled(), env=env)
