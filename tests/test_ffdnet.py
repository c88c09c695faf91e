"""FFDNet: the released network's values, its measured strength on a photograph, a prior like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.func import vjp

from rtc.errors import CheckpointError, InvalidArgument
from rtc.inverse.images.ffdnet import ffdnet, load_ffdnet
from rtc.path import VE, noise_to_signal


def waves(dtype: torch.dtype = torch.float64) -> Tensor:
    """Two images [2, 3, 7, 10] in [0, 1]; both sides of one are odd."""
    return (torch.arange(420, dtype=dtype) * 0.7).sin().reshape(2, 3, 7, 10) / 2 + 0.5


def test_the_network_is_the_released_one() -> None:
    """Values that the released code gave for these images at sigma = .1 and .25, in float64."""
    given = load_ffdnet().double()(waves(), torch.tensor([0.1, 0.25], dtype=torch.float64))
    first = [0.614585081051259, 0.7434624895804265, 0.9108010633048496, 0.8618566606687554]
    last = [0.8996872068174075, 0.674778033879776, 0.29470302633218637, 0.15913590958156326]
    assert given[0, 0, 0, :4].tolist() == pytest.approx(first, rel=1e-9)
    assert given[1, 2, 6, -4:].tolist() == pytest.approx(last, rel=1e-9)
    assert given.sum().item() == pytest.approx(210.6965, abs=1e-3)


def photograph() -> Tensor:
    """The upper left 256 x 256 pixels of the astronaut, [1, 3, 256, 256] in [0, 1]."""
    data = pytest.importorskip("skimage.data", reason="needs scikit-image")
    crop = np.ascontiguousarray(data.astronaut()[:256, :256].transpose(2, 0, 1)[None])
    return torch.from_numpy(crop).float() / 255


MEASURED = [(5, 40.26), (15, 35.66), (25, 33.39), (50, 30.15), (75, 28.20)]
"""Noise in 255ths, and the PSNR in dB that another program measured on a crop of this photograph."""


@pytest.mark.parametrize(("level", "expected"), MEASURED)
def test_it_denoises_a_photograph_as_well_as_it_was_measured_to(level: int, expected: float) -> None:
    truth, prior = photograph(), ffdnet()
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(level))
    tau = prior.path.tau_at(level / 255)
    estimate = prior.denoise(truth + level / 255 * noise, tau)
    psnr = -10 * torch.log10((estimate - truth).square().mean()).item()
    assert psnr == pytest.approx(expected, abs=0.1)


def test_the_prior_is_the_network_at_the_noise_of_its_path() -> None:
    prior, x = ffdnet(sigma_max=0.4, sigma_min=0.002), waves(torch.float32)
    assert prior.path == VE(0.4, 0.002)
    for tau in (0.0, 0.3, 1.0):
        sigma = torch.tensor([noise_to_signal(prior.path, tau)])
        torch.testing.assert_close(prior.denoise(x, tau), load_ffdnet()(x, sigma))


def test_each_image_may_have_its_own_time_and_images_do_not_meet() -> None:
    prior, x = ffdnet(), waves(torch.float32)
    tau = torch.tensor([0.2, 0.6])
    together = prior.denoise(x, tau)
    for i in range(2):
        torch.testing.assert_close(together[i], prior.denoise(x[i], float(tau[i])), rtol=1e-4, atol=1e-5)
    particles = prior.denoise(x.expand(3, 2, 3, 7, 10), torch.tensor([[0.2, 0.6]]).expand(3, 2))
    torch.testing.assert_close(particles[1], together, rtol=1e-4, atol=1e-5)


def test_the_vector_jacobian_product_is_that_of_finite_differences() -> None:
    prior, x = ffdnet(network=load_ffdnet().double()), waves()[:1]
    _, pull, *_ = vjp(lambda point: prior.denoise(point, 0.5), x)
    cotangent, direction, step = x.flip(-1), x.flip(-2), 1e-7
    slope = (prior.denoise(x + step * direction, 0.5) - prior.denoise(x - step * direction, 0.5)) / (2 * step)
    expected = float((cotangent * slope).sum())
    assert float((pull(cotangent)[0] * direction).sum()) == pytest.approx(expected, rel=1e-5)


def test_a_grey_image_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"has 1 channel\(s\); this denoiser takes 3"):
        ffdnet().denoise(torch.zeros(1, 1, 8, 8), 0.5)


def test_weights_that_are_missing_or_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="missing"):
        load_ffdnet(tmp_path / "none.safetensors")
    save_file({"layers.0.weight": torch.zeros(3, 3)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"is not FFDNet.*use ffdnet_color\.safetensors") as refusal:
        load_ffdnet(tmp_path / "other.safetensors")
    assert "\n" not in str(refusal.value)
