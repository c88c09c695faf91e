"""Delay-aware demonstrations: a committed prefix, then the expert; reproducible, and with spread."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from envs.demos import Recipe, _committed_prefix, foresee, record, record_episode
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
            [foresee(env, expert, _committed_prefix(plan, recipe, random), recipe.horizon) for _ in range(40)]
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
    prefixes = [_committed_prefix(plan, recipe, random) for _ in range(300)]
    assert {len(prefix) for prefix in prefixes} == set(range(recipe.max_prefix + 1))
    for prefix in prefixes:
        assert np.array_equal(prefix, plan[: len(prefix)])
    assert len(_committed_prefix(plan[:2], RECIPE, random)) <= 2
    assert len(_committed_prefix(plan[:0], RECIPE, random)) == 0


def test_corrupted_prefixes_move_by_an_offset_and_white_noise_of_the_recipe() -> None:
    plan, random = np.zeros((12, 3)), np.random.default_rng(2)
    recipe = replace(RECIPE, corrupted=1.0, offset=0.1, white=0.05)
    prefixes = [prefix for _ in range(4000) if len(prefix := _committed_prefix(plan, recipe, random)) == 8]
    offsets = np.stack([prefix.mean(0) for prefix in prefixes])
    white = np.stack([prefix - prefix.mean(0) for prefix in prefixes])
    assert offsets.std() == pytest.approx(np.sqrt(0.1**2 + 0.05**2 / 8), rel=0.1)
    assert np.sqrt((white**2).sum() / (white.size * 7 / 8)) == pytest.approx(0.05, rel=0.05)
    wild = replace(RECIPE, corrupted=1.0, offset=5.0)
    assert max(np.abs(_committed_prefix(plan, wild, random)).max(initial=0) for _ in range(50)) == 1.0


def test_a_label_goes_on_with_the_rows_of_the_plan_that_have_not_run() -> None:
    """Unless its prefix is empty (one time in nine), its first row is one after those that were executed."""
    joined = []
    for seed in range(4):
        _, labels, _ = record_episode(ReachPastPost(), seed, replace(RECIPE, corrupted=0.0))
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
        record_episode(ReachPastPost(), seed, RECIPE)[2] for seed in (7, 8)
    ]
    env = ReachPastPost()
    assert np.array_equal(demonstrations.obs[0], env.reset(seed=7)[0])  # noise included
