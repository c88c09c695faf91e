"""Closed forms and reference values: what the library is held to and shares no code with."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, silu
from torch.overrides import TorchFunctionMode

from rtc.exact import GaussianPrior
from rtc.path import STRAIGHT, VE, VP, Cosine, Path, Time
from rtc.prior import Prior
from rtc.sample import sample
from rtc.solvers import Solver

GOLDEN = FilePath(__file__).parent / "golden"
DOUBLE = torch.float64


def golden(name: str) -> Any:
    """The content of tests/golden/<name>.json."""
    return json.loads((GOLDEN / f"{name}.json").read_text())


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=DOUBLE)


def relative_error(given: Tensor, expected: Tensor) -> float:
    """Largest difference in units of max |expected|: what golden/README.md states tolerances in."""
    return float((given.double() - expected).abs().max() / expected.abs().max())


PATHS: dict[str, Path] = {
    "ot": STRAIGHT,
    "vp_0.1_20": VP(),
    "vp_0.2_10": VP(0.2, 10.0),
    "cosine": Cosine(),
    "ve_0.01_50": VE(),
}
"""Every path of golden/paths.json, by its name there."""


def isotropic(mean: float, variance: float, size: int = 1, path: Path = STRAIGHT) -> GaussianPrior:
    """N(mean, variance I) over chunks [size, 1]."""
    return GaussianPrior(
        torch.full((size, 1), mean, dtype=DOUBLE), variance * torch.eye(size, dtype=DOUBLE), path
    )


class Counted(torch.autograd.Function):
    """The identity; it counts how often it is evaluated and how often a gradient runs back through it."""

    forwards = vjps = 0

    @classmethod
    def clear(cls) -> None:
        """Begin to count."""
        cls.forwards = cls.vjps = 0

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        Counted.forwards += 1
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        pass

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> Tensor:
        Counted.vjps += 1
        return gradients[0]


@dataclass(frozen=True)
class Matrix:
    """A dense linear operator on vectors: A [m, d]."""

    a: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.a.T

    def adjoint(self, y: Tensor) -> Tensor:
        return y @ self.a

    def solve(self, residual: Tensor, r2: Time, noise_variance: Time) -> Tensor:
        identity = torch.eye(len(self.a), dtype=self.a.dtype)
        return torch.linalg.solve(r2 * self.a @ self.a.T + noise_variance * identity, residual[..., None])[
            ..., 0
        ]


class Identity:
    """A = I, with a noise variance for each value."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        return y

    def solve(self, residual: Tensor, r2: Time, noise_variance: Time) -> Tensor:
        return residual / (r2 + noise_variance)


class Law(NamedTuple):
    """N(mean, factor factor^T), a column of factor being the image of one unit vector of noise.

    The first d columns are those of the noise that the sampler starts from.
    """

    mean: Tensor
    factor: Tensor

    @property
    def cov(self) -> Tensor:
        return self.factor @ self.factor.T


class Draws(TorchFunctionMode):
    """Every torch.randn is zero, but that draw k has a unit vector in each of the rows first + k d, ..."""

    def __init__(self, size: int, first: int) -> None:
        self.size, self.first, self.count = size, first, 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is not torch.randn:
            return func(*args, **(kwargs or {}))
        noise, start = torch.zeros(*args, dtype=DOUBLE), self.first + self.count * self.size
        self.count += 1
        rows = noise.reshape(len(noise), -1)[start : start + self.size]
        rows.copy_(torch.eye(self.size, dtype=DOUBLE)[: len(rows)])
        return noise


def law_of(run: Callable[[Tensor], Tensor], event: tuple[int, ...]) -> Law:
    """The exact law of run(x0), x0 ~ N(0, I) [batch, *event], if run is affine in x0 and in its own noise.

    An affine denoiser makes an affine sampler: x1 = q + Phi x0 + sum_k Psi_k n_k. One run finds them all: q
    is the image of nothing, and each column of each matrix that of one unit vector.
    """
    size = math.prod(event)
    with Draws(size, 1) as dry:
        run(torch.zeros(1, *event, dtype=DOUBLE))
    starts = torch.zeros(1 + size * (1 + dry.count), size, dtype=DOUBLE)
    starts[1 : 1 + size] = torch.eye(size, dtype=DOUBLE)
    with Draws(size, 1 + size):
        ends = run(starts.reshape(-1, *event)).reshape(-1, size)
    return Law(ends[0], (ends[1:] - ends[0]).T)


def law_of_sampler(
    prior: Prior, num_steps: int, event: tuple[int, ...], solver: str | Solver = "euler"
) -> Law:
    """The exact law of `sample` for a prior that is affine in x, found without sampling."""
    return law_of(lambda noise: sample(prior, noise, num_steps, solver=solver), event)


class GoldenPolicy:
    """The small policy of golden/README.md section 3, evaluated from its stored parameters.

    It is a velocity field over chunks [B, H, D] for the stored observations [B, obs_dim].
    """

    def __init__(self, dtype: torch.dtype = DOUBLE) -> None:
        self.arrays = {
            name: torch.tensor(array).to(dtype) for name, array in np.load(GOLDEN / "flow_policy.npz").items()
        }
        self.cases = golden("flow_policy")

    def __getitem__(self, name: str) -> Tensor:
        return self.arrays[name]

    def linear(self, name: str, x: Tensor) -> Tensor:
        out = x @ self[f"param/{name}.kernel"]
        bias = self.arrays.get(f"param/{name}.bias")
        return out if bias is None else out + bias

    def position_embedding(self, tau: Tensor) -> Tensor:
        half = self.cases["config"]["channel_dim"] // 2
        period = 0.004 * 1000 ** (torch.arange(half, dtype=tau.dtype) / (half - 1))
        angle = 2 * math.pi * tau[..., None] / period
        return torch.cat([angle.sin(), angle.cos()], -1)

    def mix(self, h: Tensor, name: str, kind: str, embedding: Tensor, adaln: str) -> Tensor:
        scale, shift, gate = self.linear(f"{name}.{adaln}", embedding).chunk(3, -1)
        inner = normalised(h) * (1 + scale) + shift
        inner = inner.mT if kind == "token" else inner
        hidden = gelu(self.linear(f"{name}.{kind}_mix_in", inner), approximate="tanh")
        out = self.linear(f"{name}.{kind}_mix_out", hidden)
        return h + gate * (out.mT if kind == "token" else out)

    def velocity(self, x: Tensor, tau: Time) -> Tensor:
        tau = torch.as_tensor(tau, dtype=x.dtype).expand(len(x))
        embedding = silu(self.linear("time_mlp.layers.0", self.position_embedding(tau)))
        embedding = silu(self.linear("time_mlp.layers.2", embedding))[:, None]
        obs = self["obs"][:, None].expand(-1, x.shape[1], -1)
        h = self.linear("in_proj", torch.cat([x, obs], -1))
        for layer in range(self.cases["config"]["num_layers"]):
            h = self.mix(h, f"mlp_stack.{layer}", "token", embedding, "adaln_1")
            h = self.mix(h, f"mlp_stack.{layer}", "channel", embedding, "adaln_2")
        scale, shift = self.linear("final_adaln", embedding).chunk(2, -1)
        return self.linear("out_proj", normalised(h) * (1 + scale) + shift)


def normalised(h: Tensor) -> Tensor:
    return layer_norm(h, h.shape[-1:], eps=1e-6)
