"""Delay-aware demonstrations: a committed prefix, then the expert; reproducible, and with spread."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from envs.card import Control
from envs.demos import Recipe, committed_prefix, conditional_variance, foresee, record, record_episode
from envs.reach_past_post import ReachPastPost
from envs.reach_past_post_expert import Expert

RECIPE = Recipe()


def on_the_way(seed: int, ticks: int = 8) -> tuple[ReachPastPost, Expert]:
    """An env in which the expert has acted for some ticks."""
    env, expert = ReachPastPost(), Expert(np.random.default_rng(seed))
    env.reset(seed=seed)
    for _ in range(ticks):
        env.step(expert.act(env))
    return env, expert


@pytest.mark.parametrize("length", [0, 1, 5, 8])
def test_a_label_is_the_prefix_and_then_what_the_expert_does(length: int) -> None:
    env, expert = on_the_way(2)
    prefix = np.random.default_rng(0).uniform(-1, 1, (length, 3))
    label = foresee(env, expert, prefix, RECIPE.horizon)
    assert label.shape == (RECIPE.horizon, 3)
    assert np.array_equal(label[:length], prefix)
    replay = env.imagine()  # an undisturbed env in the same moment, closed loop
    for row, action in enumerate(label):
        if row >= length:
            assert np.array_equal(action, expert.act(replay))
        replay.step(action)


def test_a_label_lands_where_it_was_foreseen() -> None:
    """Played open loop without disturbances, as chunks will be, in the precision of the data set."""
    env, expert = on_the_way(3)
    prefix = np.random.default_rng(0).uniform(-0.5, 0.5, (4, 3))
    label = foresee(env, expert, prefix, RECIPE.horizon)
    assert env._imagined is not None
    end = env._imagined.position
    exact, single = (env.predict_positions(chunk)[-1] for chunk in (label, label.astype(np.float32)))
    assert np.array_equal(exact, end)
    assert np.abs(single - end).max() < 1e-5


def test_looking_ahead_leaves_the_episode_alone() -> None:
    env, expert = on_the_way(4)
    other, _ = on_the_way(4)
    foresee(env, expert, np.zeros((3, 3)), RECIPE.horizon)
    action = np.array([0.1, 0.2, 0.3])
    assert np.array_equal(env.step(action)[0], other.step(action)[0])


def test_chunks_of_one_state_spread_with_the_prefix() -> None:
    """What guidance selects from: given the state, a chunk still depends on what is already under way."""
    env, expert = on_the_way(5)
    plan = foresee(env, expert, np.zeros((0, 3)), RECIPE.horizon)
    random = np.random.default_rng(0)

    def chunks(recipe: Recipe) -> np.ndarray:
        return np.stack(
            [foresee(env, expert, committed_prefix(plan, recipe, random), recipe.horizon) for _ in range(40)]
        )

    deterministic = chunks(replace(RECIPE, corrupted=0.0))
    spread = chunks(RECIPE)
    assert deterministic.std(0).max() < 1e-9  # the expert agrees with itself
    assert (spread.std(0)[: RECIPE.max_prefix] > 0.05).all()
    free = spread[:, RECIPE.max_prefix :].std(0)
    assert free.max() > 0.01  # and reacts to what the prefix did


def test_prefixes_are_the_start_of_the_plan_with_every_length_up_to_the_longest() -> None:
    plan, random = np.random.default_rng(1).uniform(-0.3, 0.3, (12, 3)), np.random.default_rng(2)
    recipe = replace(RECIPE, corrupted=0.0)
    prefixes = [committed_prefix(plan, recipe, random) for _ in range(300)]
    assert {len(prefix) for prefix in prefixes} == set(range(recipe.max_prefix + 1))
    for prefix in prefixes:
        assert np.array_equal(prefix, plan[: len(prefix)])
    assert len(committed_prefix(plan[:2], RECIPE, random)) <= 2
    assert len(committed_prefix(plan[:0], RECIPE, random)) == 0


def test_corrupted_prefixes_move_by_an_offset_and_white_noise_of_the_recipe() -> None:
    plan, random = np.zeros((12, 3)), np.random.default_rng(2)
    recipe = replace(RECIPE, corrupted=1.0, offset=0.1, white=0.05)
    prefixes = [prefix for _ in range(4000) if len(prefix := committed_prefix(plan, recipe, random)) == 8]
    offsets = np.stack([prefix.mean(0) for prefix in prefixes])
    white = np.stack([prefix - prefix.mean(0) for prefix in prefixes])
    assert offsets.std() == pytest.approx(np.sqrt(0.1**2 + 0.05**2 / 8), rel=0.1)
    assert np.sqrt((white**2).sum() / (white.size * 7 / 8)) == pytest.approx(0.05, rel=0.05)
    wild = replace(RECIPE, corrupted=1.0, offset=5.0)
    assert max(np.abs(committed_prefix(plan, wild, random)).max(initial=0) for _ in range(50)) == 1.0


def test_a_label_goes_on_with_the_rows_of_the_plan_that_have_not_run() -> None:
    """Unless its prefix is empty (one time in nine), its first row is one after those that were executed."""
    joined = []
    for seed in range(4):
        labels = record_episode(ReachPastPost(), seed, replace(RECIPE, corrupted=0.0)).chunks
        for before, label in itertools.pairwise(labels):
            rows = range(1, RECIPE.max_executed + 1)
            joined.append(any(np.array_equal(before[row], label[0]) for row in rows))
    assert len(joined) > 20
    assert np.mean(joined) > 0.7


def test_the_same_seeds_are_the_same_data_to_the_bit_whatever_was_recorded_before() -> None:
    both = record(ReachPastPost, [7, 8], RECIPE)
    alone = record(ReachPastPost, [8], RECIPE)
    rows = both.episode == 8
    assert np.array_equal(both.obs[rows], alone.obs)
    assert np.array_equal(both.chunks[rows], alone.chunks)
    assert np.array_equal(both.success[1:], alone.success)
    assert not np.array_equal(both.obs[0], alone.obs[0])


def test_a_row_holds_what_the_policy_will_see_and_say() -> None:
    count = []
    demonstrations = record(ReachPastPost, [7, 8], RECIPE, on_episode=lambda: count.append(1))
    number = len(demonstrations.obs)
    assert len(count) == 2
    assert demonstrations.obs.shape == (number, 18)
    assert demonstrations.chunks.shape == (number, RECIPE.horizon, 3)
    assert (demonstrations.obs.dtype, demonstrations.chunks.dtype) == (np.float32, np.float32)
    assert np.abs(demonstrations.chunks).max() <= 1.0
    assert demonstrations.success.tolist() == [
        record_episode(ReachPastPost(), seed, RECIPE).success[0] for seed in (7, 8)
    ]
    env = ReachPastPost()
    assert np.array_equal(demonstrations.obs[0], env.reset(seed=7)[0])  # noise included


def test_the_data_set_behind_the_shipped_weights_can_be_made_again() -> None:
    """The recipe of the weights names seeds; they must mean the same data for ever."""
    chunks = record(ReachPastPost, [1_000_000], RECIPE).chunks
    assert len(chunks) == 14
    assert np.allclose(chunks.mean((0, 1)), [-0.0103, 0.0073, 0.0299], atol=1e-3)
    assert np.allclose(chunks[5, 10], [0.4744, -0.0467, -0.1742], atol=1e-3)


def test_a_recording_replays_to_the_states_it_holds() -> None:
    recording = record_episode(ReachPastPost(), 11, RECIPE)
    env = ReachPastPost()
    (obs, info), terminated, truncated = env.reset(seed=11), False, False
    for state, action in zip(recording.state, recording.action, strict=True):
        assert np.abs(state - obs).max() < 1e-4  # actions are kept in single precision
        obs, _, terminated, truncated, info = env.step(action)
    assert terminated or truncated
    assert recording.success[0] == info["is_success"]
    assert recording.mode[0] in ReachPastPost.card.modes


def test_labels_start_where_they_were_replanned() -> None:
    recording = record_episode(ReachPastPost(), 12, RECIPE)
    rows = np.flatnonzero(recording.replanned)
    assert rows[0] == 0
    assert np.diff(rows).max() <= RECIPE.max_executed
    for label, executed in zip(recording.chunks, np.split(recording.action, rows[1:]), strict=True):
        assert np.array_equal(executed, label[: len(executed)])


def test_a_policy_that_drives_makes_the_states_and_the_expert_the_labels() -> None:
    """A policy that always pushes sideways: its actions are executed after the prefix, never as labels."""
    given: list[tuple[np.ndarray, np.ndarray]] = []
    push = np.tile([0.25, 0.0, 0.0], (RECIPE.horizon, 1))

    def act(obs: np.ndarray, committed: np.ndarray) -> np.ndarray:
        given.append((obs, committed))
        return push

    recording = record_episode(ReachPastPost(), 3, RECIPE, act)
    rows = np.flatnonzero(recording.replanned)
    assert len(given) == len(rows) > 5
    for (obs, committed), row, label in zip(given, rows, recording.chunks, strict=True):
        assert np.array_equal(obs, recording.state[row])
        assert np.array_equal(label[: len(committed)], committed.astype(np.float32))
        executed = np.concatenate([committed, push[len(committed) :]])
        following = recording.action[row : row + 1]
        assert np.array_equal(following[0], executed[0].astype(np.float32))
        assert not np.allclose(label[len(committed) :], push[len(committed) :])
    assert recording.success[0] == 0.0


def test_a_policy_that_drives_meets_experts_of_every_mode() -> None:
    """The expert chooses anew at every label: from one early state its labels go both ways round the post."""
    sides = set()
    env = ReachPastPost()

    def act(obs: np.ndarray, committed: np.ndarray) -> np.ndarray:
        return np.zeros((RECIPE.horizon, 3))

    made = env.make_expert

    def watch(random: np.random.Generator) -> object:
        expert = made(random)
        sides.add(expert.mode)
        return expert

    env.make_expert = watch  # type: ignore[method-assign]
    record_episode(env, 5, RECIPE, act)
    assert sides == {"left", "right"}


def test_the_conditional_variance_is_what_prefix_and_expert_leave_open() -> None:
    alone = conditional_variance(ReachPastPost, [1], replace(RECIPE, max_prefix=0), labels=4)
    oracle = conditional_variance(ReachPastPost, [1], RECIPE, labels=4)
    assert alone.shape == oracle.shape == (3,)
    assert alone[0] > 10 * alone[2]  # left or right is along x; the expert draws nothing about the height
    assert (oracle > 2 * alone).all()  # a disturbed prefix adds to all three


def test_measuring_the_spread_looks_ahead_without_a_trace() -> None:
    """The states at which it labels are those of the data set."""
    plans: list[np.ndarray] = []
    env = ReachPastPost()

    def look(plan: np.ndarray) -> None:
        plans.append(plan)
        foresee(env, env.make_expert(np.random.default_rng(0)), plan[:2], RECIPE.horizon)

    watched, alone = (
        record_episode(env, 9, RECIPE, on_instant=look),
        record_episode(ReachPastPost(), 9, RECIPE),
    )
    assert np.array_equal(watched.state, alone.state)
    assert np.array_equal(watched.chunks, alone.chunks)
    assert len(plans) == len(alone.chunks)


@pytest.mark.parametrize("control", ["force", "position"])
def test_a_robot_that_has_waited_is_labelled_where_it_stands(control: Control) -> None:
    env = ReachPastPost(control=control)
    recording = record_episode(env, 1_000_000, Recipe(paused=0.5))
    frames = np.arange(len(recording.action))
    last = np.maximum.accumulate(np.where(recording.replanned, frames, -1))
    label = np.cumsum(recording.replanned) - 1
    row = frames - last
    played = recording.chunks[label, np.minimum(row, 15)]
    waiting = (recording.action != played).any(1)
    assert 0.1 < waiting.mean() < 0.6
    for tick in np.flatnonzero(waiting):
        rest = recording.action[tick - 1] if control == "position" else np.zeros(3)
        assert np.array_equal(recording.action[tick], rest)
    after = np.flatnonzero(recording.replanned[1:] & waiting[:-1]) + 1
    assert len(after) > 2
    assert (recording.committed[label[after]] == 0).all()  # the plan from before has lapsed
