"""Training: the loss, and a run that can be stopped anywhere and goes on exactly as it would have."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from oracle import GoldenPolicy
from rich.console import Console
from torch import Tensor

from policies.flow import FlowPolicy
from policies.training import STATE, Training, TrainingRecipe, flow_matching_loss
from rtc.cli.train_loop import fit
from rtc.cli.train_policy import split
from rtc.demonstrations import Demonstrations
from rtc.errors import CheckpointError, InvalidArgument, RtcError

OBS, ACTION, HORIZON = 4, 3, 8
RECIPE = TrainingRecipe(steps=40, batch_size=16, warmup=4, learning_rate=3e-3, ema_decay=0.9)


def new_policy(seed: int = 0, horizon: int = HORIZON, blocks: int = 1) -> FlowPolicy:
    torch.manual_seed(seed)
    return FlowPolicy(
        "ReachPastPost-v0", OBS, ACTION, horizon, channels=16, row_hidden=8, channel_hidden=16, blocks=blocks
    )


def some_data(rows: int = 64, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    obs = torch.randn(rows, OBS, generator=generator)
    chunks = obs[:, None, :ACTION] * torch.linspace(0.5, 1.5, HORIZON)[:, None]
    return obs, chunks + 0.1 * torch.randn(rows, HORIZON, ACTION, generator=generator)


def trained(steps: int, recipe: TrainingRecipe = RECIPE, training: Training | None = None) -> Training:
    training = training or Training(new_policy(recipe.seed), recipe)
    for _ in range(steps):
        training.advance(*some_data())
    return training


def weights(training: Training) -> list[Tensor]:
    return [*training.policy.state_dict().values(), *training.average.state_dict().values()]


def same(one: Training, other: Training) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def test_the_loss_is_the_formula_with_the_generators_times_and_noise() -> None:
    """Written out value by value: mean of (v(x_tau, tau) - (a - noise))^2."""
    policy, (obs, chunks) = new_policy().eval(), some_data(6)
    torch.nn.init.normal_(policy.network.modulation.weight, std=0.3)
    given = flow_matching_loss(policy, obs, chunks, generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    tau, noise = torch.rand(6, generator=generator), torch.randn(chunks.shape, generator=generator)
    total = 0.0
    for row in range(6):
        x = (1 - tau[row]) * noise[row] + tau[row] * chunks[row]
        context = policy.encode(obs[row : row + 1])
        velocity = policy.velocity(x[None], tau[row : row + 1], context)[0].detach()
        total += float(((velocity - (chunks[row] - noise[row])).double() ** 2).sum())
    assert given.item() == pytest.approx(total / chunks.numel(), rel=1e-5)


def test_the_loss_is_the_released_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the stored times and noise, with the stored velocity field in place of the network."""
    golden = GoldenPolicy()
    drawn = {"rand": golden["loss_time"], "randn": golden["loss_noise"]}
    for name, value in drawn.items():
        monkeypatch.setattr(torch, name, lambda *shape, value=value, **settings: value)
    policy = new_policy()
    monkeypatch.setattr(policy, "encode", lambda obs: obs)
    monkeypatch.setattr(policy, "velocity", lambda x, tau, context: golden.velocity(x, tau))
    given = flow_matching_loss(policy, golden["obs"], golden["loss_action"])
    assert given.item() == pytest.approx(golden["loss_value"].item(), rel=1e-9)


def test_a_perfect_velocity_has_the_loss_of_what_it_cannot_know() -> None:
    """With one chunk a for all, v = (a - x) / (1 - tau) is the exact field and its loss is zero."""
    policy, chunk = new_policy(), torch.linspace(-1, 1, HORIZON * ACTION).reshape(1, HORIZON, ACTION)

    def exact(x: Tensor, tau: Tensor, context: Tensor) -> Tensor:
        return (chunk - x) / (1 - tau[:, None, None])

    policy.velocity = exact  # type: ignore[method-assign]
    loss = flow_matching_loss(
        policy, torch.zeros(256, OBS), chunk.repeat(256, 1, 1), generator=torch.Generator().manual_seed(0)
    )
    assert loss.item() < 1e-4


def test_the_learning_rate_rises_then_falls_to_a_hundredth() -> None:
    recipe = TrainingRecipe(steps=1000, warmup=100, learning_rate=2.0)
    assert recipe.rate(0) == pytest.approx(0.02)
    assert recipe.rate(49) == pytest.approx(1.0, rel=0.01)
    assert recipe.rate(500) == pytest.approx(2.0 * (0.01 + 0.99 * 0.5))
    assert recipe.rate(1000) == pytest.approx(0.02)
    rates = [recipe.rate(step) for step in range(1000)]
    assert rates[100:] == sorted(rates[100:], reverse=True)


@pytest.mark.parametrize(
    "bad", [{"steps": 0}, {"warmup": 0}, {"learning_rate": math.nan}, {"learning_rate": -1.0}], ids=str
)
def test_a_recipe_that_cannot_be_followed_is_refused(bad: dict) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(bad))):
        TrainingRecipe(**bad)


def test_a_tiny_set_is_learnt() -> None:
    recipe = replace(RECIPE, steps=250, learning_rate=1e-2)
    training, data = Training(new_policy(), recipe), some_data(8)
    before = training.held_out_loss(*data)
    for _ in range(recipe.steps):
        training.advance(*data)
    assert training.held_out_loss(*data) < 0.5 * before


def test_the_same_seed_is_the_same_training_to_the_bit_and_another_seed_is_not() -> None:
    assert same(trained(10), trained(10))
    other_batches = Training(new_policy(0), replace(RECIPE, seed=1))
    assert not same(trained(10), trained(10, training=other_batches))


@pytest.mark.parametrize("stopped_after", [1, 7])
def test_killed_and_resumed_is_never_stopped(tmp_path: Path, stopped_after: int) -> None:
    whole = trained(15)
    first = trained(stopped_after)
    first.curve.append({"step": stopped_after, "loss": 1.0})
    first.save(tmp_path)
    trained(3, training=first)  # lost
    second = Training(new_policy(99), RECIPE)  # whatever it was initialised with
    second.resume(tmp_path)
    assert second.step == stopped_after
    assert second.curve == [{"step": stopped_after, "loss": 1.0}]
    trained(15 - stopped_after, training=second)
    assert same(second, whole)
    assert [path.name for path in tmp_path.iterdir()] == [STATE]


def test_the_average_is_the_running_mean_that_it_says() -> None:
    """avg <- decay avg + (1 - decay) w, with decay = min(ema_decay, n / (n + 10)) after step n."""
    training = Training(new_policy(), RECIPE)
    name = "network.action_out.weight"
    expected = training.policy.state_dict()[name].double()
    for step in range(1, 100):
        training.advance(*some_data())
        decay = min(RECIPE.ema_decay, step / (step + 10))
        expected = decay * expected + (1 - decay) * training.policy.state_dict()[name].double()
        assert torch.allclose(training.average.state_dict()[name].double(), expected, atol=1e-6)
    assert not torch.equal(training.average.state_dict()[name], training.policy.state_dict()[name])


def test_held_out_loss_is_of_the_average_and_the_same_at_every_call() -> None:
    training, data = trained(5), some_data(3000, seed=9)
    first = training.held_out_loss(*data)
    assert training.held_out_loss(*data) == first
    state = training.generator.get_state()
    training.held_out_loss(*data)
    assert torch.equal(training.generator.get_state(), state)  # measuring changes nothing
    for parameter in training.policy.parameters():
        torch.nn.init.zeros_(parameter)
    assert training.held_out_loss(*data) == first
    # in two batches of 2048 and 952 rows, each row counts the same
    generator, average = torch.Generator().manual_seed(RECIPE.seed + 1), training.average
    assert isinstance(average, FlowPolicy)
    parts = [
        flow_matching_loss(average, data[0][rows], data[1][rows], generator=generator).item()
        * len(data[0][rows])
        for rows in (slice(0, 2048), slice(2048, 3000))
    ]
    assert first == pytest.approx(sum(parts) / 3000)


def demonstrations(episodes: int = 50) -> Demonstrations:
    random = np.random.default_rng(0)
    episode = np.repeat(np.arange(1_000_000, 1_000_000 + episodes), 3)
    return Demonstrations(
        obs=np.stack([episode, *random.normal(size=(3, len(episode)))], axis=1).astype(np.float32),
        chunks=random.normal(size=(len(episode), HORIZON, ACTION)).astype(np.float32),
        episode=episode,
        success=np.ones(episodes, np.float32),
    )


def test_every_25th_episode_is_held_out_whole_and_unseen_even_by_the_normalisation() -> None:
    policy, recorded = new_policy(), demonstrations()
    (obs, chunks, valid, committed), (held_obs, held_chunks, *_) = split(recorded, policy, 25)
    assert set(held_obs[:, 0].tolist()) == {1_000_000.0, 1_000_025.0}
    assert not set(held_obs[:, 0].tolist()) & set(obs[:, 0].tolist())
    assert len(obs) + len(held_obs) == len(recorded.obs)
    assert valid.shape == chunks.shape[:2]
    assert valid.all()
    assert committed.tolist() == [0] * len(obs)  # nothing says that there were any
    assert torch.allclose(policy.obs_mean, obs.mean(0))
    assert chunks.mean((0, 1)).abs().max() < 1e-5  # normalised by its own mean ...
    assert held_chunks.mean((0, 1)).abs().max() > 1e-3  # ... which is not that of what is held out


def test_rows_that_were_not_recorded_do_not_count() -> None:
    """Their targets may be anything; their values are inputs like the others."""
    policy, recorded = new_policy(), demonstrations()
    recorded.valid = np.arange(HORIZON) < np.arange(len(recorded.obs))[:, None] % HORIZON + 1
    rows, _ = split(recorded, policy, 25)
    assert rows[2].sum(1).unique().tolist() == list(range(1, HORIZON + 1))

    def loss(valid: Tensor) -> float:
        generator = torch.Generator().manual_seed(0)
        return flow_matching_loss(policy, *rows[:2], valid, generator=generator).item()

    first = torch.arange(HORIZON).expand_as(rows[2]) == 0
    total = loss(rows[2]) * rows[2].sum() - loss(first) * first.sum()
    rest = rows[2] & ~first
    assert loss(rest) == pytest.approx((total / rest.sum()).item(), rel=1e-4)


def test_training_reads_only_what_is_not_held_out(tmp_path: Path) -> None:
    """With NaN in everything held out the weights stay finite, and only the held-out loss is NaN."""
    training = Training(new_policy(), replace(RECIPE, steps=5))
    obs, chunks = some_data()
    fit(training, (obs, chunks), (obs, chunks * math.nan), tmp_path, Console(quiet=True))
    assert all(torch.isfinite(value).all() for value in weights(training))
    assert math.isnan(training.curve[-1]["held_out"])
    assert math.isfinite(training.curve[-1]["loss"])


def test_a_diverging_training_stops_and_says_so(tmp_path: Path) -> None:
    training = Training(new_policy(), replace(RECIPE, steps=5))
    obs, chunks = some_data()
    with pytest.raises(RtcError, match=r"the loss is nan at step 5.*lower --learning-rate"):
        fit(training, (obs, chunks * math.nan), (obs, chunks), tmp_path, Console(quiet=True))


def test_a_damaged_state_is_refused_with_a_remedy(tmp_path: Path) -> None:
    trained(2).save(tmp_path)
    path = tmp_path / STATE
    for content in (path.read_bytes()[:-100], b"", b"not a state"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"training\.pt is damaged .*delete"):
            Training(new_policy(), RECIPE).resume(tmp_path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="damaged"):
        Training(new_policy(), RECIPE).resume(tmp_path)


def test_the_state_of_another_recipe_policy_or_data_set_is_refused_by_name(tmp_path: Path) -> None:
    trained(2).save(tmp_path)
    other_recipe = replace(RECIPE, batch_size=17, seed=3)
    with pytest.raises(CheckpointError, match=r"another batch_size, seed; .*--force"):
        Training(new_policy(), other_recipe).resume(tmp_path)
    for other in (new_policy(horizon=9), new_policy(blocks=2)):
        with pytest.raises(CheckpointError, match="another policy"):
            Training(other, RECIPE).resume(tmp_path)
    elsewhere = new_policy()
    elsewhere.fit_normalisation(*some_data(seed=2))
    training = Training(elsewhere, RECIPE)
    before = weights(training)[0].clone()
    with pytest.raises(CheckpointError, match="another data set"):
        training.resume(tmp_path)
    assert torch.equal(weights(training)[0], before)  # nothing half-loaded
    assert training.step == 0
