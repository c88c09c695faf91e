"""How good a restoration is, on images in [0, 1]."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from rtc.measurement import LinearMeasurement


def psnr(truth: NDArray[np.floating], restored: NDArray[np.floating]) -> float:
    """Peak signal-to-noise ratio in dB of images in [0, 1]; infinite if they are equal."""
    error = float(np.mean((truth - restored) ** 2))
    return -10.0 * math.log10(error) if error > 0.0 else math.inf


def ssim(truth: NDArray[np.floating], restored: NDArray[np.floating]) -> float:
    """Structural similarity, at most 1, of images [height, width] or [height, width, channels] in [0, 1].

    Needs scikit-image (the `images` extra). Source: Wang et al. 2004.
    """
    from skimage.metrics import structural_similarity

    axis = 2 if truth.ndim == 3 else None
    value: Any = structural_similarity(truth, restored, data_range=1.0, channel_axis=axis)
    return float(value)


def data_residual(
    measurement: LinearMeasurement, restored: Float[Tensor, "batch *event"]
) -> Float[Tensor, " batch"]:
    """Root mean square of y - A x, in units of sigma_y (the truth has 1); without noise in those of y."""
    rms = measurement.residual(restored).flatten(1).square().mean(1).sqrt()
    sigma_y = torch.as_tensor(measurement.noise_variance).to(rms).mean().sqrt()
    return rms / sigma_y if sigma_y > 0.0 else rms
