"""An image network as a prior: its three readings, its labels, and its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rtc.errors import CheckpointError, InvalidArgument
from rtc.inverse.images.model import PATHS, ImageModel, load_model
from rtc.prior import Prior, eps, score, velocity


def model(loss: str = "flow", classes: int = 3, data_std: float = 0.5) -> ImageModel:
    """A small one with random weights."""
    torch.manual_seed(0)
    small = ImageModel(loss, 1, 8, 8, classes, data_std, widths=(8, 8), depth=1, embedding=8)
    for parameter in small.parameters():
        if parameter.abs().max() == 0:
            torch.nn.init.normal_(parameter, std=0.2)
    return small.eval().requires_grad_(False)


def images(*batch: int) -> Tensor:
    return torch.randn(*batch, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def scaled_score(prior: Prior, x: Tensor, tau: float) -> Tensor:
    return -prior.path.sigma(tau) * score(prior, x, tau)


READINGS = {"flow": velocity, "eps": eps, "score": scaled_score}


@pytest.mark.parametrize("loss", list(PATHS))
@pytest.mark.parametrize("tau", [0.3, 0.8])
def test_the_network_says_velocity_eps_or_minus_sigma_score(loss: str, tau: float) -> None:
    net, x = model(loss), images(2)
    said = net(x, torch.tensor([tau]))
    assert said.abs().max() > 0.1
    torch.testing.assert_close(READINGS[loss](net.prior(), x, tau), said, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("loss", list(PATHS))
def test_the_network_sees_points_at_unit_scale(loss: str) -> None:
    """Noisy points of data with this standard deviation have variance 1 when they reach the U-Net."""
    net, seen = model(loss, data_std=0.25), []
    net.network.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    generator = torch.Generator().manual_seed(2)
    for tau in (0.0, 0.5, 0.95):
        x1 = 0.25 * torch.randn(500, 1, 8, 8, generator=generator)
        x = net.path.alpha(tau) * x1 + net.path.sigma(tau) * torch.randn(x1.shape, generator=generator)
        net(x, torch.tensor([tau]))
        assert seen[-1].std().item() == pytest.approx(1.0, abs=0.02)


def test_another_loss_is_refused_with_those_that_exist() -> None:
    with pytest.raises(InvalidArgument, match="'gan'; choose from flow, eps, score"):
        model("gan")


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"height": 30}, "30 x 28; it needs sides that 4 divides"), ({"data_std": 0.0}, "data_std is 0.0")],
    ids=["size", "scale"],
)
def test_images_that_cannot_be_learnt_are_refused(settings: dict, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        ImageModel(**settings)


def test_a_prior_takes_any_leading_dimensions() -> None:
    net = model()
    prior, x = net.prior(torch.tensor([0, 1, 2])), images(2, 3)
    tau = torch.tensor([0.2, 0.7])
    together = prior.denoise(x, tau)
    for i in range(2):
        for j in range(3):
            alone = net.prior(j).denoise(x[i, j], float(tau[i]))
            torch.testing.assert_close(together[i, j], alone, rtol=1e-4, atol=1e-5)


def test_labels_steer_the_prior_and_none_is_none_of_them() -> None:
    net, x = model(), images(1)
    given = [net.prior(label).denoise(x, 0.5) for label in (0, 1, 2, None)]
    assert all((given[i] - given[j]).abs().max() > 1e-3 for i in range(4) for j in range(i))


def test_guidance_extrapolates_from_the_unconditional_prior() -> None:
    net, x = model(), images(2)
    without, conditional = net.prior().denoise(x, 0.4), net.prior(1).denoise(x, 0.4)
    for weight in (0.0, 0.5, 3.0):
        guided = net.prior(1, guidance=weight).denoise(x, 0.4)
        torch.testing.assert_close(guided, without + weight * (conditional - without), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("label", [-1, 3])
def test_an_unknown_label_is_refused_with_those_that_exist(label: int) -> None:
    with pytest.raises(InvalidArgument, match=rf"label is {label}; the labels of this prior are 0 \.\. 2"):
        model().prior(label)
    with pytest.raises(InvalidArgument, match="none: it was trained without classes"):
        model(classes=0).prior(0)


@pytest.mark.parametrize("loss", list(PATHS))
def test_a_saved_model_comes_back(loss: str, tmp_path: Path) -> None:
    net, x = model(loss), images(2)
    net.save_pretrained(tmp_path)
    again = load_model(tmp_path)
    assert (again.loss, again.shape, again.classes, again.data_std) == (loss, (1, 8, 8), 3, 0.5)
    assert again.path == net.path
    assert torch.equal(again.prior(1).denoise(x, 0.5), net.prior(1).denoise(x, 0.5))
    assert not again.training
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_weights_in_half_precision_are_read_as_float32(tmp_path: Path) -> None:
    model().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    save_file({name: value.half() for name, value in load_file(path).items()}, path)
    again = load_model(tmp_path)
    assert {value.dtype for value in again.state_dict().values()} == {torch.float32}


def broken(folder: Path, how: str) -> None:
    """Damage a saved model."""
    config, weights = folder / "config.json", folder / "model.safetensors"
    document, tensors = json.loads(config.read_text()), load_file(weights)
    if how == "no config":
        config.unlink()
    elif how == "config is no JSON":
        config.write_text("{")
    elif how == "config of something else":
        config.write_text('{"task": "x"}')
    elif how == "config of another size":
        config.write_text(json.dumps(document | {"widths": [16, 16]}))
    elif how == "config with another loss":
        config.write_text(json.dumps(document | {"loss": "gan"}))
    elif how == "no weights":
        weights.unlink()
    elif how == "truncated weights":
        weights.write_bytes(weights.read_bytes()[:-50])
    else:
        tensors["network.leave.bias"][0] = torch.nan
        save_file(tensors, weights)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("no config", "config.json is missing; train a prior"),
        ("config is no JSON", "cannot be read as JSON"),
        ("config of something else", "does not say loss, channels"),
        ("config of another size", "do not describe one image prior"),
        ("config with another loss", "do not describe one image prior.*choose from flow"),
        ("no weights", "model.safetensors is missing"),
        ("truncated weights", "truncated or damaged"),
        ("NaN", "network.leave.bias is not finite"),
    ],
)
def test_a_bad_checkpoint_is_refused_in_one_line_that_names_the_file(
    how: str, says: str, tmp_path: Path
) -> None:
    model().save_pretrained(tmp_path)
    broken(tmp_path, how)
    with pytest.raises(CheckpointError, match=says) as refusal:
        load_model(tmp_path)
    assert str(tmp_path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
