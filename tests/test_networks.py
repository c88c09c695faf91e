"""What every network must do: know each row's flow time, and see the observation and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from policies.flow import NETWORKS, FlowPolicy
from policies.training import Training, TrainingRecipe
from policies.transformer import TransformerBlock
from rtc.errors import CheckpointError, InvalidArgument, Unsupported
from rtc.guidance.pigdm import guide
from rtc.measurement import SoftMask
from rtc.prior import classifier_free

OBS, ACTION, HORIZON = 4, 2, 6


def new_policy(network: str, **settings: object) -> FlowPolicy:
    """A small policy in which every weight counts."""
    torch.manual_seed(0)
    policy = FlowPolicy("X-v0", OBS, ACTION, HORIZON, 16, 8, 16, 2, network=network, **settings)  # type: ignore[arg-type]
    for name, parameter in policy.named_parameters():
        if not name.startswith("images"):
            torch.nn.init.normal_(parameter, std=0.3)
    return policy.eval().requires_grad_(False).double()


def trained(policy: FlowPolicy, *data: Tensor, steps: int = 150) -> FlowPolicy:
    recipe = TrainingRecipe(steps=steps, batch_size=64, warmup=10, learning_rate=1e-2, ema_decay=0.9)
    training = Training(policy.float().requires_grad_(True).train(), recipe)
    for _ in range(steps):
        training.advance(*data)
    average = training.average
    assert isinstance(average, FlowPolicy)
    return average.eval()


def some(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> str:
    return request.param


def test_the_same_time_in_every_row_is_that_time_for_the_chunk(network: str) -> None:
    policy, x = new_policy(network), some(3, HORIZON, ACTION)
    context, tau = policy.encode(some(3, OBS)), torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    each = policy.velocity(x, tau[:, None].expand(3, HORIZON), context)
    assert torch.allclose(policy.velocity(x, tau, context), each, atol=1e-12)
    one = policy.velocity(x, tau[1:2], context)
    assert torch.allclose(one, policy.velocity(x, tau[1:2].expand(3), context), atol=1e-12)


def test_every_row_has_its_own_time(network: str) -> None:
    policy, x = new_policy(network), some(1, HORIZON, ACTION)
    context = policy.encode(some(1, OBS))
    before = policy.velocity(x, torch.full((1, HORIZON), 0.4, dtype=x.dtype), context)
    for row in range(HORIZON):
        times = torch.full((1, HORIZON), 0.4, dtype=x.dtype)
        times[0, row] = 0.8
        moved = (policy.velocity(x, times, context) - before).abs().sum(-1)[0]
        assert moved[row] == moved.max() > 1e-3


def test_rows_of_a_batch_do_not_see_each_other(network: str) -> None:
    policy, x, obs = new_policy(network), some(3, HORIZON, ACTION), some(3, OBS)
    together = policy.condition(obs).denoise(x, 0.3)
    for row in range(3):
        alone = policy.condition(obs[row : row + 1]).denoise(x[row : row + 1], 0.3)
        assert torch.allclose(together[row], alone[0], atol=1e-12)


def test_guidance_has_the_networks_own_jacobian(network: str) -> None:
    """The exact correction is J^T of the weighted error: along any direction, by finite differences."""
    policy, x = new_policy(network), some(1, HORIZON, ACTION)
    prior, tau = policy.condition(some(1, OBS)), 0.3
    mask = SoftMask(some(1, HORIZON, ACTION, seed=5), torch.ones(HORIZON, dtype=x.dtype))
    with torch.inference_mode():
        moved = [
            guide(prior, mask, max_weight=5.0, jacobian=jacobian).denoise(x, tau) - prior.denoise(x, tau)
            for jacobian in ("exact", "identity")
        ]
    direction, step = some(1, HORIZON, ACTION, seed=7), 1e-5
    ahead, behind = (prior.denoise(x + sign * step * direction, tau) for sign in (1, -1))
    slope = (ahead - behind) / (2 * step)
    assert (moved[0] * direction).sum().item() == pytest.approx((moved[1] * slope).sum().item(), rel=1e-5)


def test_a_new_transformer_block_is_the_identity_and_learns_from_its_first_step() -> None:
    torch.manual_seed(0)
    block = TransformerBlock(channels=64, channel_hidden=32)
    hidden, condition, context = torch.randn(2, 8, 64), torch.randn(1, 1, 64), torch.randn(2, 3, 64)
    assert block.rows.heads == 2
    assert torch.equal(block(hidden, condition, context), hidden)
    block(hidden, condition, context).square().sum().backward()
    gradient = block.modulation.weight.grad
    assert gradient is not None
    assert all(part.abs().max() > 0 for part in gradient.chunk(9)[2::3])  # the gates, which open first


def test_transformer_rows_know_where_they_stand() -> None:
    policy, obs = new_policy("transformer"), some(1, OBS)
    x = some(1, HORIZON, ACTION)
    swapped = x.flip(1)
    assert not torch.allclose(
        policy.condition(obs).denoise(swapped, 0.3).flip(1), policy.condition(obs).denoise(x, 0.3), atol=1e-3
    )


def test_either_network_learns_a_tiny_set(network: str) -> None:
    policy = FlowPolicy("X-v0", OBS, ACTION, HORIZON, 16, 8, 16, 1, network=network)
    obs = some(16, OBS).float()
    chunks = obs[:, None, :ACTION] * torch.linspace(0.5, 1.5, HORIZON)[:, None]
    policy = trained(policy, obs, chunks)
    error = (policy.condition(obs).denoise(torch.zeros_like(chunks), 0.2) - chunks).square().mean()
    assert error < 0.2 * chunks.square().mean()


def test_a_history_is_seen_in_order(network: str) -> None:
    policy, x = new_policy(network, history=3), some(2, HORIZON, ACTION)
    obs = some(2, 3, OBS)
    policy.fit_normalisation(some(50, 3, OBS), some(50, HORIZON, ACTION))
    assert policy.obs_mean.shape == (OBS,)
    given = policy.condition(obs).denoise(x, 0.3)
    assert not torch.allclose(policy.condition(obs.flip(1)).denoise(x, 0.3), given, atol=1e-3)
    for wrong in (obs[:, 0], obs[:, :2]):
        with pytest.raises(InvalidArgument, match=r"state \[batch, .*takes state \[batch, 3, 4\]"):
            policy.condition(wrong)


def test_without_observations_the_prior_is_that_of_all_of_them(network: str) -> None:
    """Chunks are +1 or -1 as the observation says; who was told nothing expects their mean, 0."""
    policy = FlowPolicy("X-v0", OBS, ACTION, HORIZON, 16, 8, 16, 1, network=network, obs_dropout=0.4)
    sign = torch.tensor([1.0, -1.0]).repeat(32)
    obs = torch.cat([sign[:, None], some(64, OBS - 1).float()], 1)
    policy = trained(policy, obs, sign[:, None, None].expand(64, HORIZON, ACTION), steps=250)
    noise = torch.zeros(64, HORIZON, ACTION)
    told, untold = policy.condition(obs).denoise(noise, 0.05), policy.unconditional(64).denoise(noise, 0.05)
    assert (told.mean((1, 2)) - sign).abs().mean() < 0.25
    assert untold.mean((1, 2)).abs().max() < 0.25
    halfway = classifier_free(policy.unconditional(64), policy.condition(obs), 0.5).denoise(noise, 0.05)
    assert torch.allclose(halfway, (told + untold) / 2, atol=1e-6)


def test_a_policy_that_never_went_without_observations_says_so() -> None:
    with pytest.raises(Unsupported, match="rtc train --obs-dropout"):
        new_policy("mixer").unconditional(2)


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"network": "lstm"}, InvalidArgument, "'lstm'; choose from mixer, transformer"),
        ({"max_delay": 6}, InvalidArgument, r"max_delay=6; it must be 0\.\.5"),
        ({"history": 0}, InvalidArgument, "history=0; it must be at least 1"),
        ({"obs_dropout": 1.0}, InvalidArgument, r"obs_dropout=1.0; it must be in \[0, 1\)"),
        ({"format": 2}, CheckpointError, "format 2 was written by a newer version of rtc; .*upgrade"),
    ],
    ids=str,
)
def test_a_policy_that_cannot_be_is_refused(settings: dict, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        FlowPolicy("X-v0", OBS, ACTION, HORIZON, **settings)
