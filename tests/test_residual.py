"""The residual head, what it learns from, and the strategy that runs it at every tick."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from delays import delay_texts
from hypothesis import given, settings
from hypothesis import strategies as st
from point_mass import GaussianPolicy, PointMass
from safetensors.torch import load_file, save_file
from torch import Tensor

from policies.flow import FlowPolicy
from policies.residual import ResidualHead, ResidualRecipe, load_residual, residual_folder, residual_loss
from rtc.cli.residual_rows import errors_by_row, residual_rows
from rtc.demonstrations import Recording, expert_actions
from rtc.errors import CheckpointError, InvalidArgument, Unsupported
from rtc.runtime.delay_text import parse_delay
from rtc.runtime.latency import ConstantDelay, DistributionDelay, TraceDelay
from rtc.runtime.rollout import rollout, rollout_batch
from rtc.runtime.strategies import Residual, Strategy, make_strategy
from rtc.training import Run

HORIZON = 8


def naive() -> Strategy:
    return make_strategy("naive", GaussianPolicy())


def some_head(seed: int = 0) -> ResidualHead:
    """A head that adds something, for a point mass."""
    torch.manual_seed(seed)
    head = ResidualHead("PointMass", 6, 2, HORIZON)
    for parameter in head.parameters():
        parameter.data = 0.2 * torch.randn_like(parameter)
    return head.double().eval()


@dataclass
class Written:
    """Adds nothing, and writes down what it was asked: (row, action) of every robot, call by call."""

    calls: list[list[tuple[int, tuple[float, ...]]]]

    def correct(self, obs: Tensor, actions: Tensor, rows: Tensor) -> Tensor:
        given = zip(rows.tolist(), actions.tolist(), strict=True)
        self.calls.append([(row, tuple(action)) for row, action in given])
        return actions


class Push:
    """Adds a tenth of the robot's place, and at the robots left of `edge` what is not a number."""

    def __init__(self, edge: float = -np.inf) -> None:
        self.edge = edge

    def correct(self, obs: Tensor, actions: Tensor, rows: Tensor) -> Tensor:
        pushed = (actions + 0.1 * obs[:, :2]).clamp(-1.0, 1.0)
        return torch.where(obs[:, :1] < self.edge, float("nan"), pushed)


# --- the control loop


@settings(max_examples=12)
@given(
    delay=delay_texts,
    execution_horizon=st.integers(1, HORIZON),
    seed=st.integers(0, 2**31),
    name=st.sampled_from(["naive", "synchronous", "realtime"]),
)
def test_every_tick_with_a_row_is_corrected_once_in_order_under_any_delay(
    delay: str, execution_horizon: int, seed: int, name: str
) -> None:
    head = Written([])
    strategy = Residual(make_strategy(name, GaussianPolicy()), head)
    model = parse_delay(delay)
    options: dict[str, Any] = {
        "execution_horizon": execution_horizon,
        "delay": model,
        "seed": seed,
        "starvation": "zero",
    }
    episode = rollout(PointMass(time_limit=30), strategy, **options)
    assert len(head.calls) == episode.ticks - episode.starved_ticks
    ran = [tuple(action) for action in episode.actions.tolist()]
    asked = [action for ((_, action),) in head.calls]
    assert [action for action in ran if any(action)] == [action for action in asked if any(action)]
    rows = [row for ((row, _),) in head.calls]
    assert all(0 <= row < HORIZON for row in rows)
    ends = [record.delivery_tick for record in episode.chunks[1:]] + [episode.ticks]
    for record, end in zip(episode.chunks, ends, strict=True):
        left = 0 if strategy.waits else max(0, HORIZON - record.first_row)
        here = rows[: min(end - record.delivery_tick, left)]
        assert here == list(range(record.first_row, record.first_row + len(here)))
        rows = rows[len(here) :]


def test_what_the_env_is_given_is_corrected_by_what_is_seen_now_and_the_plan_stays() -> None:
    seen: list[np.ndarray] = []
    options: dict[str, Any] = {"execution_horizon": 4, "delay": ConstantDelay(2), "seed": 3}
    env = PointMass(time_limit=20)
    episode = rollout(
        env,
        Residual(naive(), Push()),
        on_tick=lambda *_: seen.append(env._obs()),
        **options,
    )
    for record, after in zip(episode.chunks, [*episode.chunks[1:], None], strict=True):
        until = after.delivery_tick if after else episode.ticks
        for row, tick in enumerate(range(record.delivery_tick, until), record.first_row):
            expected = np.clip(record.chunk[row] + np.float32(0.1) * seen[tick][:2], -1.0, 1.0)
            np.testing.assert_allclose(episode.actions[tick], expected, rtol=1e-6)
        if after:  # what inference was told would run are rows of the plan
            frozen = record.chunk[after.executed : after.executed + len(after.frozen)]
            assert np.array_equal(after.frozen, frozen)


def test_a_starved_robot_holds_what_it_did_last_not_what_was_planned() -> None:
    strategy = Residual(naive(), Push())
    episode = rollout(
        PointMass(), strategy, execution_horizon=4, delay=TraceDelay([HORIZON + 3, 1]), inference_delay=2
    )
    assert episode.starved_ticks
    assert np.array_equal(episode.actions[HORIZON], episode.actions[HORIZON - 1])
    assert not np.array_equal(episode.actions[HORIZON], episode.chunks[0].chunk[-1])


@pytest.mark.parametrize("name", ["naive", "synchronous", "realtime", "blend"])
def test_a_head_that_adds_nothing_leaves_the_strategy_inside_as_it_is_to_the_bit(name: str) -> None:
    inner = make_strategy(name, GaussianPolicy())
    options: dict[str, Any] = {"execution_horizon": 4, "delay": ConstantDelay(3), "seed": 5}
    plain = rollout(PointMass(), inner, **options)
    corrected = rollout(PointMass(), Residual(inner, ResidualHead("PointMass", 6, 2, HORIZON)), **options)
    assert corrected.actions.tobytes() == plain.actions.tobytes()
    assert (corrected.network_calls, corrected.success) == (plain.network_calls, plain.success)


def test_a_corrected_episode_does_not_depend_on_its_batch() -> None:
    strategy, seeds = Residual(naive(), some_head()), [11, 4, 7, 100, 0, 5, 9, 2]
    delay = DistributionDelay(range(HORIZON + 3))  # some plans run out
    options: dict[str, Any] = {"execution_horizon": 3, "delay": delay}
    batch, _ = rollout_batch([PointMass(20 + seed) for seed in seeds], strategy, seeds=seeds, **options)
    assert len({episode.ticks for episode in batch}) > 2
    for seed, together in zip(seeds, batch, strict=True):
        alone = rollout(PointMass(20 + seed), strategy, seed=seed, **options)
        np.testing.assert_allclose(alone.actions, together.actions, atol=1e-6)
        assert (alone.ticks, alone.success) == (together.ticks, together.success)


def test_a_correction_is_the_same_to_the_bit_alone_and_among_many() -> None:
    generator = torch.Generator().manual_seed(0)
    obs, actions = (torch.randn(64, size, generator=generator) for size in (6, 2))
    rows, head = torch.arange(64) % HORIZON, some_head()
    with torch.inference_mode():
        whole = head.correct(obs, actions, rows)
        assert whole.dtype == torch.float32
        for size in (1, 2, 3, 5, 17, 40):
            assert torch.equal(head.correct(obs[:size], actions[:size], rows[:size]), whole[:size])


def test_a_correction_that_is_not_finite_ends_its_own_episode_only() -> None:
    seeds, edge = list(range(12)), -0.6
    options: dict[str, Any] = {"execution_horizon": 4, "delay": ConstantDelay(2), "seeds": seeds}
    broken, _ = rollout_batch([PointMass() for _ in seeds], Residual(naive(), Push(edge)), **options)
    whole, _ = rollout_batch([PointMass() for _ in seeds], Residual(naive(), Push()), **options)
    failed = [episode for episode in broken if episode.failure and "finite" in episode.failure]
    assert 0 < len(failed) < len(seeds)
    for episode, reference in zip(broken, whole, strict=True):
        assert np.isfinite(episode.actions).all()
        if episode in failed:
            assert episode.failure == f"residual: correction at tick {episode.ticks} is not finite"
            assert episode.positions is not None
            assert episode.positions[-1, 0] < edge
        else:
            np.testing.assert_allclose(episode.actions, reference.actions, atol=1e-6)


# --- the head


def test_a_correction_stays_within_its_bound_and_the_action_space() -> None:
    head = some_head()
    head.action_std.copy_(torch.tensor([0.1, 0.3]))
    obs, rows = 100 * torch.randn(200, 6), torch.arange(200) % HORIZON
    actions = torch.rand(200, 2) * 2 - 1
    with torch.inference_mode():
        moved = head.correct(obs, actions, rows) - actions
    assert (moved.abs() <= 2.0 * head.action_std + 1e-6).all()
    assert (moved.abs().amax(0) > 1.0 * head.action_std).all()
    assert ((moved + actions).abs() <= 1.0 + 1e-6).all()


def test_a_policy_that_is_off_by_a_linear_function_of_the_observation_is_corrected() -> None:
    generator = torch.Generator().manual_seed(0)
    obs, actions = (torch.randn(4000, size, generator=generator) for size in (6, 2))
    rows = torch.arange(4000) % HORIZON
    matrix = 0.2 * torch.randn(6, 2, generator=generator)
    off = obs @ matrix + 0.3 * (rows[:, None] / HORIZON)
    recipe = ResidualRecipe(steps=600, warmup=50, batch_size=256, learning_rate=3e-3, ema_decay=0.99)
    run = Run(ResidualHead("PointMass", 6, 2, HORIZON, channels=64), recipe, residual_loss, "head")
    for _ in range(recipe.steps):
        run.advance(obs[:3000], actions[:3000], rows[:3000], off[:3000])
    head = run.kept()
    assert isinstance(head, ResidualHead)
    errors = errors_by_row(head, (obs[3000:], actions[3000:], rows[3000:], off[3000:]), HORIZON)
    assert [error["row"] for error in errors] == list(range(HORIZON))
    assert all(error["without"] > 0.3 and error["with"] < 0.06 for error in errors)


@pytest.mark.parametrize("changes", [{"channels": 0}, {"layers": 0}, {"bound": 0.0}, {"bound": float("inf")}])
def test_a_head_out_of_range_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="sizes are 1 or more"):
        ResidualHead("PointMass", 6, 2, **changes)
    with pytest.raises(InvalidArgument, match="draws=0"):
        ResidualRecipe(draws=0)


def test_a_head_of_another_size_says_so() -> None:
    with pytest.raises(InvalidArgument, match="takes 6 and 2"):
        some_head().correct(torch.zeros(3, 5), torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64))


# --- its checkpoint


@pytest.fixture
def policy() -> FlowPolicy:
    torch.manual_seed(0)
    policy = FlowPolicy("Catch-v0", 6, 2, HORIZON, channels=16, row_hidden=8, channel_hidden=16, blocks=1)
    return policy.eval().requires_grad_(False)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    head = some_head()
    head.task = "Catch-v0"
    folder = tmp_path / "X" / "residual"
    head.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"task": "Catch-v0"}))
    return folder


def test_a_head_comes_back_as_it_was_saved(saved: Path, policy: FlowPolicy) -> None:
    head, again = some_head(), load_residual(saved, policy)
    given = (torch.randn(5, 6), torch.rand(5, 2), torch.arange(5))
    torch.testing.assert_close(again.correct(*given), head.correct(*given))
    assert again.obs_mean.dtype == torch.float64  # see the test of bits
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_a_policy_that_is_told_its_prefix_has_its_own_head_or_that_of_the_plain_one(saved: Path) -> None:
    plain, told = saved.parent, saved.parent.with_name("X-prefix")
    assert residual_folder(plain) == residual_folder(told) == saved
    (told / "residual").mkdir(parents=True)
    assert residual_folder(told) == told / "residual"
    assert residual_folder(plain.with_name("Y-prefix")) == plain.with_name("Y-prefix") / "residual"


def test_what_is_no_head_of_this_policy_is_refused_with_the_remedy(saved: Path, policy: FlowPolicy) -> None:
    with pytest.raises(Unsupported, match="no residual head; train one with `rtc train-residual"):
        load_residual(saved / "nothing", policy)
    other = FlowPolicy("Peg-v0", 6, 2, HORIZON, channels=16, row_hidden=8, channel_hidden=16, blocks=1)
    longer = FlowPolicy("Catch-v0", 6, 2, 16, channels=16, row_hidden=8, channel_hidden=16, blocks=1)
    for misfit in (other, longer):
        with pytest.raises(CheckpointError, match="train one for it with `rtc train-residual`"):
            load_residual(saved, misfit)
    config = json.loads((saved / "config.json").read_text())
    for changes, message in (
        ({"format": 2}, "newer version"),
        ({"channels": 8}, "do not describe one residual head"),
        ({"bound": -1.0}, "do not describe one residual head"),
    ):
        (saved / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(CheckpointError, match=message):
            load_residual(saved, policy)
    (saved / "config.json").write_text(json.dumps(config))
    weights = load_file(saved / "model.safetensors")
    save_file(weights | {"obs_std": weights["obs_std"] * float("nan")}, saved / "model.safetensors")
    with pytest.raises(CheckpointError, match="obs_std is not finite"):
        load_residual(saved, policy)
    (saved / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        load_residual(saved, policy)


def test_what_looks_back_or_sees_images_is_refused() -> None:
    policy: Any = GaussianPolicy()
    policy.history = 2
    inner = make_strategy("naive", policy)
    with pytest.raises(Unsupported, match="looks back on 2 observations"):
        Residual(inner, some_head())
    images = {"state": np.zeros((1, 6), np.float32), "front": np.zeros((1, 4, 4, 3), np.uint8)}
    with pytest.raises(Unsupported, match="use a policy without cameras"):
        Residual(naive(), some_head()).correct(images, np.zeros((1, 2), np.float32), np.zeros(1, np.int64))


# --- what it learns from


def recording(committed: int = 2) -> Recording:
    """Two episodes of five ticks; at tick 0 and 3 of each a label, the second with a committed prefix."""
    chunks = np.arange(4 * HORIZON * 2, dtype=np.float32).reshape(4, HORIZON, 2)
    action = np.concatenate([chunks[0, :3], chunks[1, :2], chunks[2, :3], chunks[3, :2]])
    return Recording(
        state=np.random.default_rng(0).standard_normal((10, 6)).astype(np.float32),
        action=action,
        episode=np.repeat([24, 25], 5),
        replanned=np.tile([True, False, False, True, False], 2),
        chunks=chunks,
        committed=np.array([0, committed, 0, 0]),
        success=np.ones(2, np.float32),
        mode=np.array(["left", "right"]),
    )


def test_the_experts_actions_are_the_labels_rows_after_what_was_committed() -> None:
    actions, known = expert_actions(recording(committed=1))
    assert known.tolist() == [True, True, True, False, True] + [True] * 5
    assert np.array_equal(actions[known], recording().action[known])


def test_where_something_else_ran_the_expert_is_known_at_the_label_alone() -> None:
    driven = recording(committed=0)
    driven.action = driven.action + 0.5  # a policy drove, or the robot paused
    actions, known = expert_actions(driven)
    assert known.tolist() == driven.replanned.tolist()
    assert np.array_equal(actions[known], driven.chunks[:, 0])


def test_a_row_is_what_the_expert_did_less_what_the_nearest_chunk_says_at_that_tick(
    policy: FlowPolicy,
) -> None:
    data = recording()
    data.chunks, data.action = (values / 100 - 0.3 for values in (data.chunks, data.action))
    one, many = (
        residual_rows(policy, data, ResidualRecipe(frames=10, draws=draws), lambda _: None)
        for draws in (1, 64)
    )
    actions, known = expert_actions(data)
    whole = known.sum()
    assert len(one.rows) == sum(known[start:end].sum() for end in (5, 10) for start in range(end - 5, end))
    assert (one.rows == 0).sum() == whole
    first = one.rows == 0
    assert np.array_equal(one.obs[first].numpy(), data.state[known])
    np.testing.assert_allclose(
        (one.actions + one.residual)[first].numpy(), actions[known], atol=1e-6
    )  # its std is 1
    assert one.episode[first].tolist() == data.episode[known].tolist()
    assert many.residual.square().mean() < 0.8 * one.residual.square().mean()
    train, held_out = one.split(25)
    assert len(held_out[0]) == (one.episode == 25).sum() > 0
    assert len(train[0]) + len(held_out[0]) == len(one.rows)
    with pytest.raises(InvalidArgument, match="too few episodes to hold out every 7th"):
        one.split(7)


def test_rows_need_a_policy_that_sees_one_vector_and_an_expert_that_acted(policy: FlowPolicy) -> None:
    data = recording()
    data.committed = np.full(4, HORIZON)
    with pytest.raises(InvalidArgument, match="no tick at which the expert acted"):
        residual_rows(policy, data, ResidualRecipe(), lambda _: None)
    policy.history = 2
    with pytest.raises(Unsupported, match="sees one vector"):
        residual_rows(policy, data, ResidualRecipe(), lambda _: None)
