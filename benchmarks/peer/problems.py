"""The problems that every package is given: one denoiser, one operator, one measurement, one list of levels.

Two kinds: Gaussian data, where the posterior is known exactly, and a photograph with the FFDNet denoiser.
The denoiser is told the noise level rho of z = x1 + rho n; what a package calls its path is built on that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rtc.inverse.images.ffdnet import load_ffdnet
from rtc.operators.kernels import gaussian as gaussian_kernel
from rtc.table import Table


class Network(nn.Module):
    """The denoiser (z, rho) -> x1_hat of a problem; it counts its forwards and VJPs, whoever makes them."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.calls = self.vjps = 0

    def forward(self, z: Tensor, rho: float | Tensor, **_: Any) -> Tensor:
        """x1_hat, shaped like z; one level for all."""
        self.calls += 1
        level = torch.as_tensor(rho, dtype=z.dtype).reshape(-1)[:1]
        return _CountVjps.apply(self.module(z, level), self)  # pyright: ignore[reportReturnType]

    def reset(self) -> None:
        """Count from 0."""
        self.calls = self.vjps = 0


class _CountVjps(torch.autograd.Function):
    """The identity, which counts how often a gradient passes it."""

    @staticmethod
    def forward(x: Tensor, network: Network) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.network = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        ctx.network.vjps += 1
        return gradients[0], None


class GaussianDenoiser(nn.Module):
    """The exact denoiser of N(mean, covariance): mean + C (C + rho^2 I)^-1 (z - mean), z [*batch, d]."""

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        super().__init__()
        self.mean = mean
        self.values, self.vectors = torch.linalg.eigh(covariance)

    def forward(self, z: Tensor, rho: Tensor) -> Tensor:
        """x1_hat; rho holds one level."""
        gain = self.values / (self.values + rho**2)
        return self.mean + ((z - self.mean) @ self.vectors * gain) @ self.vectors.T


@dataclass(frozen=True, eq=False)
class Problem:
    """y = A x1 + sigma_y n, with A a mask, a matrix or a blur.

    operator: "mask", "matrix" or "blur"; array: the mask [*event] of 0 and 1, the matrix [m, d], or the
    kernel [k, k] (circular, its middle is the origin). y: [1, ...]; for a mask laid out like the data, 0
    where unseen.
    rho: the noise levels, falling, the last 0; a sampler with len(rho) - 1 calls goes through all of them.
    start: the value that the noise is added to at the first level. data_std: standard deviation of the data,
    where a method lets the user say it. lam: DiffPIR's weight of the prior. weight: DPS's step.
    posterior, prior: mean and covariance (Gaussian data); truth: the photograph.
    """

    name: str
    network: Network
    operator: str
    array: Tensor
    y: Tensor
    sigma_y: float
    rho: tuple[float, ...]
    event: tuple[int, ...]
    chains: int
    start: float = 0.0
    data_std: float = 1.0
    lam: float = 1.0
    weight: float = 1.0
    posterior: tuple[Tensor, Tensor] | None = None
    prior: tuple[Tensor, Tensor] | None = None
    truth: Tensor | None = None

    @property
    def path(self) -> Table:
        """The levels as a variance preserving path, on which every package's sampler runs."""
        return Table(self.rho)

    @property
    def shape(self) -> tuple[int, ...]:
        """[chains, *event]."""
        return (self.chains, *self.event)

    @property
    def num_calls(self) -> int:
        """Network calls of a sampler that makes one at each level."""
        return len(self.rho) - 1

    def first(self, seed: int) -> Tensor:
        """The point at the first level of the path that every sampler starts from."""
        noise = torch.randn(self.shape, generator=torch.Generator().manual_seed(seed))
        path = self.path
        return path.alpha(0.0) * self.start + path.sigma(0.0) * noise

    def shortened(self, num_calls: int) -> Problem:
        """The same with fewer levels."""
        levels = geometric(self.rho[0], self.rho[-2], num_calls)
        return Problem(**{**vars(self), "rho": levels})


def geometric(first: float, last: float, count: int) -> tuple[float, ...]:
    """`count` levels from first to last, in equal ratios, and then 0."""
    step = math.log(last / first) / max(count - 1, 1)
    return (*(first * math.exp(step * index) for index in range(count)), 0.0)


def gaussian(name: str, *, num_calls: int = 200, chains: int = 8192) -> Problem:
    """Known answers, all with sigma_y = .3 and unit variances.

    "scalar": N(0, I) in two dimensions, the first of which is measured as 1.2. "correlated": eight
    neighbours that are correlated by .8, every second one measured. "matrix": the same data, three
    projections of it with the singular values 1.5, 1 and .5.
    """
    dimension = 2 if name == "scalar" else 8
    index = torch.arange(dimension)
    mean = torch.zeros(dimension) if name == "scalar" else 0.5 * torch.cos(index.float())
    covariance = (0.0 if name == "scalar" else 0.8) ** (index[:, None] - index[None]).abs().float()
    generator = torch.Generator().manual_seed(0)
    if name == "matrix":
        left, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator))
        right, _ = torch.linalg.qr(torch.randn(dimension, 3, generator=generator))
        array = left @ torch.diag(torch.tensor([1.5, 1.0, 0.5])) @ right.T
    else:
        array = (index % 2 == 0).float()
    rows = array if name == "matrix" else torch.eye(dimension)[array.bool()]
    sigma_y = 0.3
    truth = mean + torch.linalg.cholesky(covariance) @ torch.randn(dimension, generator=generator)
    values = rows @ truth + sigma_y * torch.randn(len(rows), generator=generator)
    values = torch.tensor([1.2]) if name == "scalar" else values
    y = values if name == "matrix" else rows.T @ values
    return Problem(
        name=name,
        network=Network(GaussianDenoiser(mean, covariance)),
        operator="matrix" if name == "matrix" else "mask",
        array=array,
        y=y[None],
        sigma_y=sigma_y,
        rho=geometric(50.0, 0.02, num_calls),
        event=(dimension,),
        chains=chains,
        posterior=condition(mean, covariance, rows, values, sigma_y),
        prior=(mean, covariance),
    )


def condition(
    mean: Tensor, covariance: Tensor, rows: Tensor, values: Tensor, sigma_y: float
) -> tuple[Tensor, Tensor]:
    """Mean and covariance of N(mean, covariance) given values = rows x + sigma_y n."""
    cross = covariance @ rows.T
    gain = cross @ torch.linalg.inv(rows @ cross + sigma_y**2 * torch.eye(len(rows)))
    return mean + gain @ (values - rows @ mean), covariance - gain @ cross.T


def photograph(operator: str, *, num_calls: int = 50, chains: int = 3, size: int = 128) -> Problem:
    """A crop of scikit-image's astronaut, sigma_y = .05 in the unit of [0, 1]; `chains` samples of it.

    "mask": every second pixel (drawn at random) is seen. "blur": a Gaussian of 1.5 pixels, circular.
    """
    from skimage.data import astronaut

    image = torch.from_numpy(astronaut().copy()).float().permute(2, 0, 1)[None] / 255.0
    top, left = 10, 160
    truth = image[..., top : top + size, left : left + size].contiguous()
    generator = torch.Generator().manual_seed(0)
    noise, sigma_y = torch.randn(truth.shape, generator=generator), 0.05
    if operator == "mask":
        array = (torch.rand(1, size, size, generator=generator) < 0.5).float().expand(3, -1, -1).contiguous()
        y = array * (truth + sigma_y * noise)
    else:
        array = gaussian_kernel(1.5).float()
        y = blur(truth, array) + sigma_y * noise
    return Problem(
        name="inpainting" if operator == "mask" else "deblurring",
        network=Network(load_ffdnet()),
        operator=operator,
        array=array,
        y=y,
        sigma_y=sigma_y,
        rho=geometric(1.0, 0.005, num_calls),
        event=tuple(truth.shape[1:]),
        chains=chains,
        start=0.5,
        data_std=0.25,
        lam=7.0,
        truth=truth,
    )


def blur(x: Tensor, kernel: Tensor) -> Tensor:
    """The circular convolution of every channel of x [*batch, height, width] with a kernel [k, k]."""
    return torch.fft.irfft2(torch.fft.rfft2(x) * transfer(kernel, x.shape[-2:]), s=x.shape[-2:])


def transfer(kernel: Tensor, size: tuple[int, ...]) -> Tensor:
    """The Fourier transform (rfft2) of a kernel whose middle is the origin."""
    padded = torch.zeros(size)
    padded[: kernel.shape[0], : kernel.shape[1]] = kernel
    return torch.fft.rfft2(padded.roll([-(side // 2) for side in kernel.shape], (0, 1)))
