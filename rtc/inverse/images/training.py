"""Training an image prior: its recipe, and the loss of a model with labels that are sometimes left out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from rtc.errors import InvalidArgument
from rtc.inverse.images.model import ImageModel
from rtc.losses import ddpm_loss, denoising_score_matching_loss, flow_matching_loss
from rtc.path import spread
from rtc.training import Recipe, Run


@dataclass(frozen=True)
class ImageRecipe(Recipe):
    """How an image prior is trained; see Recipe.

    label_dropout: the part of the labels replaced by the null label, so that the one network learns the
    unconditional prior too (Ho & Salimans 2022, algorithm 1).
    Raises InvalidArgument for a part outside [0, 1].
    """

    steps: int = 7000
    batch_size: int = 128
    learning_rate: float = 1.5e-3
    validation: int = 20
    label_dropout: float = 0.15

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.label_dropout <= 1.0:
            raise InvalidArgument(f"label_dropout is {self.label_dropout}; it must be in [0, 1]")


class ImageTraining(Run):
    """A run over images [n, channels, height, width] in [-1, 1] and labels [n]."""

    def __init__(self, model: ImageModel, recipe: ImageRecipe, device: torch.device | str = "cpu") -> None:
        loss = partial(model_loss, label_dropout=recipe.label_dropout)
        super().__init__(model, recipe, loss, f"{model.loss} model", device)


def model_loss(
    model: ImageModel,
    images: Float[Tensor, "batch channels height width"],
    labels: Int[Tensor, " batch"],
    label_dropout: float,
    generator: Generator | None = None,
) -> Float[Tensor, ""]:
    """The loss that the model is made for, with each label left out with probability `label_dropout`."""
    given = None
    if model.classes:
        dropped = torch.rand(len(labels), generator=generator, device=labels.device) < label_dropout
        given = torch.where(dropped, model.classes, labels)

    def field(x: Tensor, tau: Tensor) -> Tensor:
        return model(x, tau, given).to(x.dtype)

    def score(x: Tensor, tau: Tensor) -> Tensor:
        return -field(x, tau) / spread(model.path.sigma(tau), x)

    if model.loss == "flow":
        return flow_matching_loss(field, images, model.path, generator)
    if model.loss == "eps":
        return ddpm_loss(field, images, model.path, generator)
    return denoising_score_matching_loss(score, images, model.path, generator)
