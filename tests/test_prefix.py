"""Training-time RTC: a policy that is told which rows are committed, and draws the others to match."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from policies.checkpoint import load_policy
from policies.flow import NETWORKS, FlowPolicy
from policies.training import Training, TrainingRecipe, flow_matching_loss
from rtc.errors import InvalidArgument, Unsupported
from rtc.prefix import Prefix
from rtc.sample import sample

OBS, ACTION, HORIZON, LONGEST = 3, 2, 6, 4


def new_policy(network: str = "mixer", seed: int = 0, max_delay: int = LONGEST) -> FlowPolicy:
    torch.manual_seed(seed)
    return FlowPolicy("X-v0", OBS, ACTION, HORIZON, 16, 8, 16, 1, network=network, max_delay=max_delay)


def awake(network: str = "mixer") -> FlowPolicy:
    """One in which every weight counts."""
    policy = new_policy(network)
    for parameter in policy.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return policy.eval().requires_grad_(False)


def some(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("network", NETWORKS)
def test_committed_rows_stand_in_every_estimate_and_in_the_chunk_to_the_bit(network: str) -> None:
    policy, actions = awake(network), some(3, HORIZON, ACTION)
    prefix = Prefix(actions, torch.tensor([0, 2, LONGEST]))
    estimates = []
    prior = policy.condition(some(3, OBS), prefix)
    chunk = sample(
        prior,
        some(3, HORIZON, ACTION, seed=2),
        5,
        callback=lambda step, tau, x, x1_hat: estimates.append(x1_hat),
    )
    for x1_hat in [*estimates, chunk]:
        assert torch.equal(x1_hat[prefix.committed], actions[prefix.committed])
        assert not torch.isclose(x1_hat, actions)[~prefix.committed].any()


@pytest.mark.parametrize("network", NETWORKS)
def test_free_rows_know_the_committed_ones_and_nothing_else_of_the_old_plan(network: str) -> None:
    policy, obs, x = awake(network), some(2, OBS), some(2, HORIZON, ACTION, seed=2)
    actions, delay = some(2, HORIZON, ACTION), torch.tensor([2, 3])
    committed = Prefix(actions, delay).committed

    def estimate(actions: Tensor, x: Tensor) -> Tensor:
        return policy.condition(obs, Prefix(actions, delay)).denoise(x, 0.3)[~committed]

    given = estimate(actions, x)
    beyond = torch.where(committed[..., None], actions, torch.nan)
    under = torch.where(committed[..., None], torch.nan, x)
    assert torch.equal(estimate(beyond, under), given)
    assert not torch.allclose(estimate(actions + 0.5, x), given, atol=1e-3)


def test_a_prefix_of_no_rows_is_no_prefix_and_rows_of_a_batch_do_not_mix() -> None:
    policy, obs, x = awake(), some(3, OBS), some(3, HORIZON, ACTION, seed=2)
    actions, delay = some(3, HORIZON, ACTION), torch.tensor([0, 1, 4])
    together = policy.condition(obs, Prefix(actions, delay)).denoise(x, 0.3)
    assert torch.allclose(together[0], policy.condition(obs).denoise(x, 0.3)[0], atol=1e-6)
    for row in range(3):
        one = slice(row, row + 1)
        alone = policy.condition(obs[one], Prefix(actions[one], delay[one])).denoise(x[one], 0.3)
        assert torch.allclose(together[one], alone, atol=1e-6)


def test_a_time_for_each_chunk_goes_with_a_prefix() -> None:
    policy, obs, x = awake(), some(2, OBS), some(2, HORIZON, ACTION, seed=2)
    prior = policy.condition(obs, Prefix(some(2, HORIZON, ACTION), torch.tensor([1, 3])))
    each = prior.denoise(x, torch.tensor([0.2, 0.7]))
    assert torch.allclose(each[0], prior.denoise(x, 0.2)[0], atol=1e-6)
    assert torch.allclose(each[1], prior.denoise(x, 0.7)[1], atol=1e-6)


def test_the_loss_gives_the_prefix_and_asks_for_the_rest() -> None:
    """Written out value by value, with the generator's delays, times and noise."""
    policy, obs, chunks = awake(), some(32, OBS), some(32, HORIZON, ACTION)
    valid = torch.arange(HORIZON) < torch.randint(2, HORIZON + 1, (32, 1))
    for mask in (None, valid):
        given = flow_matching_loss(policy, obs, chunks, mask, generator=torch.Generator().manual_seed(5))
        generator = torch.Generator().manual_seed(5)
        delay = torch.randint(LONGEST + 1, (32,), generator=generator).tolist()
        tau, noise = torch.rand(32, generator=generator), torch.randn(chunks.shape, generator=generator)
        assert set(delay) == set(range(LONGEST + 1))
        errors = []
        for row in range(32):
            x = (1 - tau[row]) * noise[row] + tau[row] * chunks[row]
            x[: delay[row]] = chunks[row, : delay[row]]
            times = torch.full((1, HORIZON), tau[row].item())
            times[0, : delay[row]] = 1.0
            velocity = policy.velocity(x[None], times, policy.encode(obs[row : row + 1]))[0]
            error = (velocity - (chunks[row] - noise[row])).square().mean(-1)
            asked = range(delay[row], HORIZON)
            errors += [error[k] for k in asked if mask is None or bool(mask[row, k])]
        assert given.item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
def test_what_the_prefix_began_is_gone_on_with(network: str) -> None:
    """A chunk is +1 or -1 throughout, and nothing but its first row tells which."""
    policy = new_policy(network, max_delay=2)
    recipe = TrainingRecipe(steps=250, batch_size=64, warmup=10, learning_rate=1e-2, ema_decay=0.9)
    training = Training(policy, recipe)
    sign = torch.tensor([1.0, -1.0]).repeat(32)
    chunks = sign[:, None, None].expand(64, HORIZON, ACTION) + 0.05 * some(64, HORIZON, ACTION)
    for _ in range(recipe.steps):
        training.advance(torch.zeros(64, OBS), chunks)
    policy, obs, noise = training.average, torch.zeros(64, OBS), some(64, HORIZON, ACTION, seed=4)
    assert isinstance(policy, FlowPolicy)
    told = sample(policy.condition(obs, Prefix(chunks, torch.ones(64, dtype=torch.int64))), noise, 5)
    untold = sample(policy.condition(obs), noise, 5)
    agree = [(drawn[:, 1:].mean((1, 2)).sign() == sign).double().mean() for drawn in (told, untold)]
    assert agree[0] > 0.95
    assert 0.2 < agree[1] < 0.8
    assert (told[:, 1:] - sign[:, None, None]).abs().mean() < 0.35


def test_a_prefix_that_was_not_trained_on_is_refused_with_a_remedy() -> None:
    actions = some(2, HORIZON, ACTION)
    with pytest.raises(Unsupported, match=r"not trained on prefixes; train one with `rtc train --max-delay"):
        new_policy(max_delay=0).condition(some(2, OBS), Prefix(actions, torch.tensor([0, 1])))
    with pytest.raises(
        InvalidArgument, match=r"\[1, 5\] rows; .*trained on 0\.\.4 \(`rtc train --max-delay 5`"
    ):
        new_policy().condition(some(2, OBS), Prefix(actions, torch.tensor([1, 5])))


def test_a_plain_checkpoint_goes_on_as_one_with_prefixes_and_knows_it_then(tmp_path: Path) -> None:
    plain, obs, x = awake(), some(2, OBS), some(2, HORIZON, ACTION)
    plain.save_pretrained(tmp_path)
    further = load_policy(tmp_path, max_delay=3, obs_dropout=0.1)
    assert (further.max_delay, further.obs_dropout) == (3, 0.1)
    assert torch.equal(further.condition(obs).denoise(x, 0.3), plain.condition(obs).denoise(x, 0.3))
    further.save_pretrained(tmp_path)
    assert load_policy(tmp_path).max_delay == 3
    again = load_policy(tmp_path, obs_dropout=0.0)
    assert again.nothing is None


def test_committed_rows_are_always_given_and_in_half_of_the_draws_nothing_more() -> None:
    """The flow times that the network sees: 1 in the given rows; their number against its law."""
    batch, longest, known = 6000, 4, 2
    policy = FlowPolicy("ReachPastPost-v0", 5, 3, 8, channels=8, blocks=1, max_delay=longest)
    seen: list[torch.Tensor] = []

    def velocity(x: torch.Tensor, tau: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        seen.append(tau)
        return torch.zeros_like(x)

    policy.velocity = velocity  # pyright: ignore[reportAttributeAccessIssue]
    obs, chunks = torch.zeros(batch, 5), torch.zeros(batch, 8, 3)
    generator = torch.Generator().manual_seed(0)
    flow_matching_loss(policy, obs, chunks, None, torch.full((batch,), known), generator=generator)
    given = (seen[0] == 1).sum(1)
    # max(2, d) with d = 0 in half of the draws, else 0..4 each as often: 2 has .5 + .5 * 3/5, 3 and 4 .1 each
    shares = torch.bincount(given, minlength=6)[:6] / batch
    expected = torch.tensor([0.0, 0.0, 0.8, 0.1, 0.1, 0.0])
    assert (shares - expected).abs().max() < 5 * (0.25 / batch) ** 0.5
    assert (shares[expected == 0] == 0).all()
    flow_matching_loss(policy, obs, chunks, None, torch.full((batch,), 7), generator=generator)
    assert ((seen[1] == 1).sum(1) == longest).all()  # no more than the policy is made for
