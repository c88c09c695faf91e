"""A trained image network as a prior: what its output means, its path, and how it is saved."""

from __future__ import annotations

import math
from pathlib import Path as FilePath

import torch
from huggingface_hub import PyTorchModelHubMixin
from jaxtyping import Float, Int
from torch import Tensor, nn

from rtc.checkpoint import CONFIG, WEIGHTS, misfit, parameters_of, read_config, read_weights
from rtc.errors import InvalidArgument
from rtc.inverse.images.unet import UNet
from rtc.path import OT, VE, VP, Path, Time, spread
from rtc.prior import DenoiserPrior, classifier_free, from_eps, from_score, from_velocity

PATHS: dict[str, Path] = {"flow": OT(), "eps": VP(), "score": VE(sigma_max=20.0, sigma_min=0.01)}
"""The losses that a model can be trained with, and the path on which each is."""


class ImageModel(nn.Module, PyTorchModelHubMixin):
    """A U-Net that predicts velocity, eps or score of images [batch, channels, height, width] in [-1, 1].

    loss: "flow", "eps" or "score"; it fixes the path. data_std: root mean variance of a pixel over the data,
    which guidance needs, too. classes: 0, or the number of labels; other arguments as in UNet.
    `save_pretrained(folder)` writes config.json and model.safetensors; `load_model(folder)` reads them.
    Raises InvalidArgument for another loss, sides that 4 does not divide, or a data_std that is not positive.
    """

    def __init__(
        self,
        loss: str = "flow",
        channels: int = 1,
        height: int = 28,
        width: int = 28,
        classes: int = 0,
        data_std: float = 1.0,
        widths: tuple[int, int] | list[int] = (48, 96),
        depth: int = 2,
        embedding: int = 128,
    ) -> None:
        super().__init__()
        if loss not in PATHS:
            raise InvalidArgument(f"loss is {loss!r}; choose from {', '.join(PATHS)}")
        if height % 4 or width % 4 or min(height, width) < 4:
            raise InvalidArgument(
                f"images are {height} x {width}; it needs sides that 4 divides: crop or pad them"
            )
        if not 0.0 < data_std < math.inf:
            raise InvalidArgument(
                f"data_std is {data_std}; it must be positive and finite: are all images the same?"
            )
        self.loss, self.path = loss, PATHS[loss]
        self.shape, self.classes, self.data_std = (channels, height, width), classes, data_std
        self.network = UNet(channels, classes, widths, depth, embedding)
        self.register_buffer("scale", torch.tensor(data_std))  # so that a state tells another data set

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        tau: Float[Tensor, " times"],
        label: Int[Tensor, " labels"] | None = None,
    ) -> Float[Tensor, "batch channels height width"]:
        """Velocity, eps, or -sigma score of noisy images; the network sees them at unit scale."""
        size = (self.path.alpha(tau) ** 2 * self.data_std**2 + self.path.sigma(tau) ** 2) ** 0.5
        return self.network(x / spread(size, x), tau, label)

    def prior(self, label: int | Int[Tensor, "*batch"] | None = None, guidance: float = 1.0) -> DenoiserPrior:
        """The prior over images [*batch, channels, height, width] in [-1, 1].

        label: condition on it, one for all images or, broadcast over *batch, one each; None: images of any
        class. guidance: weight of the conditional prior against the unconditional one
        (`rtc.prior.classifier_free`; 1 costs one call, any other two). Raises InvalidArgument for labels that
        the model does not know.
        """
        if label is None:
            return self._prior(None)
        labels = torch.as_tensor(label)
        if not ((labels >= 0) & (labels < self.classes)).all():
            known = f"0 .. {self.classes - 1}" if self.classes else "none: it was trained without classes"
            raise InvalidArgument(f"label is {label}; the labels of this prior are {known}")
        conditional = self._prior(labels)
        return conditional if guidance == 1.0 else classifier_free(self._prior(None), conditional, guidance)

    def _prior(self, labels: Tensor | None) -> DenoiserPrior:
        def field(x: Tensor, tau: Time) -> Tensor:
            given = None if labels is None else _labels_of(labels, x)
            return self(x.reshape(-1, *x.shape[-3:]), per_image(tau, x), given).reshape(x.shape)

        def score(x: Tensor, tau: Time) -> Tensor:
            return -field(x, tau) / spread(self.path.sigma(tau), x)

        if self.loss == "score":
            return from_score(score, self.path)
        return (from_velocity if self.loss == "flow" else from_eps)(field, self.path)


def per_image(value: Time, x: Tensor) -> Tensor:
    """A value for all of x [*batch, c, h, w] as [1]; a tensor over its leading dimensions as one an image."""
    given = torch.as_tensor(value, dtype=x.dtype, device=x.device)
    batch = x.shape[:-3]
    if given.ndim == 0:
        return given[None]
    return given.reshape(given.shape + (1,) * (len(batch) - given.ndim)).expand(batch).reshape(-1)


def _labels_of(labels: Tensor, x: Tensor) -> Tensor:
    """[1] or [n images]; labels [b] of x [particles, b, c, h, w] are the same for every particle."""
    labels = labels.to(x.device)
    return labels.expand(x.shape[:-3]).reshape(-1) if labels.ndim else labels[None]


def load_model(folder: FilePath | str) -> ImageModel:
    """The model that `save_pretrained` wrote to `folder`, on the CPU, for inference, in float32.

    Raises CheckpointError for files that are missing, truncated or do not fit together, and for weights that
    are not finite; the message names the file and the remedy.
    """
    folder = FilePath(folder)
    remedy = "train a prior (rtc train-prior -h), or give the folder of one"
    config = read_config(folder / CONFIG, ImageModel, parameters_of(ImageModel), remedy)
    weights = read_weights(folder / WEIGHTS)
    try:
        model = ImageModel(**config)
        model.load_state_dict(weights)
    except (TypeError, ValueError, RuntimeError) as error:
        raise misfit(folder, "image prior", error) from error
    return model.eval().requires_grad_(False)
