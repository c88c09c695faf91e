"""The losses that train a prior: on any path, for any network, each formula once.

```
x = alpha x1 + sigma x0        tau ~ U(0, 1), x0 ~ N(0, I)

flow matching     E |v(x, tau) - (alpha_dot x1 + sigma_dot x0)|^2
data              E |x1_hat(x, tau) - x1|^2
noise ("simple")  E |eps(x, tau) - x0|^2
score matching    E sigma^2 |score(x, tau) + x0 / sigma|^2
implicit score    E [tr(grad score) + |score|^2 / 2]          no x0 in it
```

All but the last are one error seen in four units: with e the error of x1_hat, those of v, eps and score are
`(w / sigma) e`, `-(alpha / sigma) e` and `(alpha / sigma^2) e`, with w = alpha_dot sigma - alpha sigma_dot.
Means run over the batch and over the values of a point.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from rtc.autodiff import vjp
from rtc.errors import InvalidArgument
from rtc.path import STRAIGHT, Path, spread

Network: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(x [batch, *event], tau [batch]) -> [batch, *event]: velocity, x1_hat, eps or score."""


TIMES: dict[str, Callable[[Tensor], Tensor]] = {
    "uniform": lambda draws: draws,
    "beta": lambda draws: 0.999 * (1 - draws ** (1 / 1.5)),
}
"""How flow times are drawn from U(0, 1): as they are, or 1 - Beta(1.5, 1), which dwells on the noise.

Source of "beta": Black et al. 2024 (pi0, arXiv 2410.24164), appendix B, with its limit of .999.
"""


class Noisy(NamedTuple):
    """Points on a path and how they came about: x = alpha x1 + sigma x0 at the times tau.

    tau: [batch], or [batch, rows] where rows of a point have times of their own.
    """

    x: Tensor
    x0: Tensor
    tau: Tensor


def noisy(
    x1: Float[Tensor, "batch *event"],
    path: Path,
    generator: Generator | None = None,
    *,
    times: str = "uniform",
    clean: Bool[Tensor, "batch rows"] | None = None,
) -> Noisy:
    """One noisy point for each data point: tau is drawn first, then x0 ~ N(0, I).

    times: a name in TIMES. clean: rows that stay data, at time 1. Raises InvalidArgument for another name.
    """
    if times not in TIMES:
        raise InvalidArgument(f"times={times!r}; choose from {', '.join(TIMES)}")
    tau = TIMES[times](torch.rand(len(x1), generator=generator, dtype=x1.dtype, device=x1.device))
    x0 = torch.randn(x1.shape, generator=generator, dtype=x1.dtype, device=x1.device)
    if clean is not None:
        tau = torch.where(clean, 1.0, tau[:, None])
    x = spread(path.alpha(tau), x1) * x1 + spread(path.sigma(tau), x1) * x0
    return Noisy(x, x0, tau)


def flow_matching_loss(
    velocity: Network,
    x1: Float[Tensor, "batch *event"],
    path: Path = STRAIGHT,
    generator: Generator | None = None,
    *,
    times: str = "uniform",
    clean: Bool[Tensor, "batch rows"] | None = None,
    valid: Bool[Tensor, "batch rows"] | None = None,
) -> Float[Tensor, ""]:
    """E |v - (alpha_dot x1 + sigma_dot x0)|^2. Source: Lipman et al. 2023, eqs. 9 and 23.

    times, clean: see `noisy`; what is clean is given, not asked for. valid: rows that hold data; only those
    count (none: 0). With `clean` the loss of training-time RTC (Black et al. 2025, arXiv 2512.05964).
    """
    x, x0, tau = noisy(x1, path, generator, times=times, clean=clean)
    target = spread(path.alpha_dot(tau), x1) * x1 + spread(path.sigma_dot(tau), x1) * x0
    error = velocity(x, tau) - target
    if clean is None and valid is None:
        return error.square().mean()
    counted = torch.ones(x1.shape[:2], dtype=torch.bool, device=x1.device) if clean is None else ~clean
    if valid is not None:
        counted = counted & valid
    # before the square: some paths have an infinite target at time 1
    error = torch.where(counted[(...,) + (None,) * (x1.ndim - 2)], error, 0.0)
    return error.square().flatten(2).mean(2).sum() / counted.sum().clamp_min(1)


def data_loss(
    denoiser: Network,
    x1: Float[Tensor, "batch *event"],
    path: Path = STRAIGHT,
    generator: Generator | None = None,
) -> Float[Tensor, ""]:
    """E |x1_hat - x1|^2, least for the posterior mean. Source: Karras et al. 2022, eq. 2."""
    x, _, tau = noisy(x1, path, generator)
    return (denoiser(x, tau) - x1).square().mean()


def ddpm_loss(
    eps: Network, x1: Float[Tensor, "batch *event"], path: Path, generator: Generator | None = None
) -> Float[Tensor, ""]:
    """E |eps - x0|^2, the "simple" loss. Source: Ho et al. 2020, eq. 14."""
    x, x0, tau = noisy(x1, path, generator)
    return (eps(x, tau) - x0).square().mean()


def denoising_score_matching_loss(
    score: Network, x1: Float[Tensor, "batch *event"], path: Path, generator: Generator | None = None
) -> Float[Tensor, ""]:
    """E sigma^2 |score + x0 / sigma|^2, written so that nothing is divided by sigma.

    Source: Vincent 2011, eq. 9, with the weight of Song & Ermon 2019, eq. 6.
    """
    x, x0, tau = noisy(x1, path, generator)
    return (spread(path.sigma(tau), x1) * score(x, tau) + x0).square().mean()


def implicit_score_matching_loss(
    score: Network, x1: Float[Tensor, "batch *event"], path: Path, generator: Generator | None = None
) -> Float[Tensor, ""]:
    """E [tr(grad score) + |score|^2 / 2] / d over points of d values, the trace by one random probe of signs.

    It is the Fisher divergence to the true score up to a constant that needs no x0; per value, like the
    other losses. Source: Hyvarinen 2005, eq. 4; the probe is Hutchinson's (Song et al. 2020, eq. 8).
    """
    x, _, tau = noisy(x1, path, generator)
    probe = torch.empty_like(x).bernoulli_(0.5, generator=generator) * 2 - 1
    value, pull = vjp(lambda point: score(point, tau), x)
    return (probe * pull(probe)[0] + value.square() / 2).mean()
