"""Policies that see: images as tokens, in either network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from policies.checkpoint import load_policy
from policies.flow import NETWORKS, FlowPolicy
from policies.training import Training, TrainingRecipe
from policies.vision import PLACES, ImageEncoder
from rtc.errors import InvalidArgument

OBS, ACTION, HORIZON, SIDE = 2, 1, 4, 24


def seeing(network: str, cameras: tuple[str, ...] = ("front",)) -> FlowPolicy:
    torch.manual_seed(0)
    return FlowPolicy(
        "X-v0", OBS, ACTION, HORIZON, 16, 8, 16, 1, network=network, cameras=cameras, image_size=SIDE
    )


def dots(count: int) -> tuple[Tensor, Tensor]:
    """Images of a bright dot in the left or the right half, and +1 or -1 for the side."""
    generator = torch.Generator().manual_seed(2)
    side = torch.tensor([1.0, -1.0]).repeat(count // 2)
    images = torch.randint(0, 40, (count, SIDE, SIDE, 3), generator=generator, dtype=torch.uint8)
    for image, sign in zip(images, side, strict=True):
        row, column = torch.randint(2, 8, (2,), generator=generator).tolist()
        column += SIDE // 2 if sign < 0 else 0
        image[row : row + 4, column : column + 4] = 255
    return images, side


@pytest.mark.parametrize("network", NETWORKS)
def test_what_only_the_image_tells_is_learnt(network: str) -> None:
    """Where the dot is, not how bright the image, decides; the state says nothing."""
    images, side = dots(64)
    state, chunks = torch.zeros(64, OBS), side[:, None, None].expand(64, HORIZON, ACTION)
    recipe = TrainingRecipe(steps=80, batch_size=32, warmup=10, learning_rate=5e-3, ema_decay=0.9)
    training = Training(seeing(network), recipe)
    valid, committed = torch.ones(64, HORIZON, dtype=torch.bool), torch.zeros(64, dtype=torch.int64)
    for _ in range(recipe.steps):
        training.advance(state, chunks, valid, committed, images)
    policy = training.average
    assert isinstance(policy, FlowPolicy)
    guess = policy.condition({"state": state, "front": images}).denoise(torch.zeros_like(chunks), 0.1)
    assert (guess.mean((1, 2)).sign() == side).double().mean() > 0.9


@pytest.mark.parametrize("network", NETWORKS)
def test_a_seeing_policy_comes_back_from_disk(network: str, tmp_path: Path) -> None:
    policy = seeing(network, ("front", "wrist")).eval()
    for name, parameter in policy.network.named_parameters():
        if "modulation" in name:  # zero in a new network, which then sees nothing
            torch.nn.init.normal_(parameter, std=0.3)
    policy.save_pretrained(tmp_path)
    images, _ = dots(4)
    obs = {"state": torch.ones(4, OBS), "front": images, "wrist": images.flip(1)}
    x = torch.ones(4, HORIZON, ACTION)
    given = policy.condition(obs).denoise(x, 0.3)
    assert torch.equal(load_policy(tmp_path).condition(obs).denoise(x, 0.3), given)
    other = obs | {"front": obs["wrist"], "wrist": obs["front"]}
    assert not torch.allclose(policy.condition(other).denoise(x, 0.3), given, atol=1e-5)


def test_tokens_are_few_whatever_the_image_and_images_are_scaled() -> None:
    encoder = ImageEncoder(["front", "wrist"], 16)
    assert encoder.tokens == 2 * PLACES**2
    for side in (24, 96):
        image = torch.zeros(3, side, side, 3, dtype=torch.uint8)
        assert encoder([image, image]).shape == (3, encoder.tokens, 16)


def test_an_observation_without_its_images_is_refused_by_name() -> None:
    policy, (images, _) = seeing("mixer"), dots(2)
    state = torch.zeros(2, OBS)
    takes = r"takes state \[batch, 2\], front \[batch, 24, 24, 3\]"
    for wrong in (state, {"state": state}, {"state": state, "front": images[:, :12]}, {"front": images}):
        with pytest.raises(InvalidArgument, match=takes):
            policy.condition(wrong)
