"""Paths that are given as a table of noise levels: discrete DDPM, and any schedule of a published model.

```
tau     0 ───── 1/K ───── 2/K ── ... ──── 1
rho    rho_0    rho_1     rho_2          rho_K >= 0       falling; log rho is linear in between
```
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rtc.errors import InvalidArgument
from rtc.path import Time


@dataclass(frozen=True)
class Table:
    """A path through the noise-to-signal ratios `rho`, from noise to data; a sampler with K steps hits them.

    rho: K + 1 >= 2 falling numbers; only the last may be 0 (data; the last stretch is then linear in rho).
    preserving: True keeps alpha^2 + sigma^2 = 1 (VP), False keeps alpha = 1 (VE).
    Raises InvalidArgument for other lists.
    """

    rho: tuple[float, ...]
    preserving: bool = True

    def __post_init__(self) -> None:
        falling = all(first > second for first, second in zip(self.rho, self.rho[1:], strict=False))
        if len(self.rho) < 2 or not falling or not 0.0 <= self.rho[-1] <= self.rho[0] < math.inf:
            raise InvalidArgument(
                f"rho has {len(self.rho)} levels from {max(self.rho, default=math.nan):g}; it needs at "
                "least 2, finite, falling strictly from noise to data, the last >= 0."
            )

    def alpha(self, tau: Time) -> Time:
        """1 / sqrt(1 + rho^2), or 1."""
        return (1.0 + self._rho(tau)[0] ** 2) ** -0.5 if self.preserving else 1.0

    def sigma(self, tau: Time) -> Time:
        """rho alpha."""
        return self._rho(tau)[0] * self.alpha(tau)

    def alpha_dot(self, tau: Time) -> Time:
        """-rho rho_dot alpha^3, or 0."""
        rho, rho_dot = self._rho(tau)
        return -rho * rho_dot * (1.0 + rho**2) ** -1.5 if self.preserving else 0.0

    def sigma_dot(self, tau: Time) -> Time:
        """rho_dot alpha^3, or rho_dot."""
        rho, rho_dot = self._rho(tau)
        return rho_dot * (1.0 + rho**2) ** -1.5 if self.preserving else rho_dot

    def tau_at(self, rho: Time) -> Time:
        """The inverse of the interpolation; below 0 above the first level."""
        wanted = torch.as_tensor(rho, dtype=torch.float64)
        levels = self._levels.to(wanted.device)
        cells = len(levels) - 1
        cell = (torch.searchsorted(-levels, -wanted) - 1).clamp(0, cells - 1)
        first, second = levels[cell], levels[cell + 1]
        geometric = (wanted / first).log() / (second / first).log()
        position = (cell + torch.where(second > 0.0, geometric, 1.0 - wanted / first)) / cells
        return position.to(rho) if isinstance(rho, Tensor) else position.item()

    @cached_property
    def _levels(self) -> Tensor:
        return torch.tensor(self.rho, dtype=torch.float64)

    def _rho(self, tau: Time) -> tuple[Time, Time]:
        """rho and d rho / d tau."""
        cells = len(self.rho) - 1
        if not isinstance(tau, Tensor):  # plain arithmetic: samplers ask this several times a step
            cell = min(int(tau * cells), cells - 1)
            start, end, part = self.rho[cell], self.rho[cell + 1], tau * cells - cell
            if end == 0.0:
                return start * (1.0 - part), -start * cells
            level = start * (end / start) ** part
            return level, level * math.log(end / start) * cells
        position = tau.to(torch.float64) * cells
        cell = position.floor().clamp(0, cells - 1).long()
        levels = self._levels.to(tau.device)
        first, second, part = levels[cell], levels[cell + 1], position - cell
        rate = torch.where(second > 0.0, (second / first).log(), 0.0)
        rho = torch.where(second > 0.0, first * (part * rate).exp(), first * (1.0 - part))
        return rho.to(tau), (torch.where(second > 0.0, rho * rate, -first) * cells).to(tau)


def ddpm(betas: Sequence[float]) -> Table:
    """The discrete path of a DDPM with abar_k = prod_{i <= k} (1 - beta_i), and abar = 1 (data) at tau = 1.

    betas: in the order of the index, from data to noise, each in (0, 1). tau = 1 - k / K for the k-th of K
    levels, so that sample(..., num_steps=K) is its ancestral chain. Source: Ho et al. 2020, eq. 4.
    """
    if not all(0.0 < beta < 1.0 for beta in betas):
        raise InvalidArgument(f"betas range from {min(betas):g} to {max(betas):g}; each must lie in (0, 1).")
    log_abar = torch.tensor(betas, dtype=torch.float64).neg().log1p().cumsum(0)
    rho = torch.expm1(-log_abar).sqrt().flip(0).tolist()  # rho^2 = (1 - abar) / abar
    return Table((*rho, 0.0))


def linear_betas(count: int = 1000, first: float = 1e-4, last: float = 0.02) -> list[float]:
    """The linear schedule of Ho et al. 2020, section 4."""
    return torch.linspace(first, last, count, dtype=torch.float64).tolist()


def cosine_betas(count: int = 1000, offset: float = 0.008, largest: float = 0.999) -> list[float]:
    """The cosine schedule with its offset. Source: Nichol & Dhariwal 2021, eq. 17."""
    position = torch.linspace(0.0, 1.0, count + 1, dtype=torch.float64)
    abar = torch.cos((position + offset) / (1.0 + offset) * 0.5 * math.pi) ** 2
    return (1.0 - abar[1:] / abar[:-1]).clamp(max=largest).tolist()
