"""The Gaussian mixture prior.

```
p_tau(x) = sum_k w_k N(x; alpha m_k, alpha^2 C_k + sigma^2 I)        C_k = axes diag(variances) axes^T
```

Everything is done along the axes of the covariances. Components that share one form a group: there is one
group of k, or there are k groups of one. So [*batch, k, d] is in memory only if each has its own covariance.
"""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from rtc.errors import InvalidArgument
from rtc.exact.conditioning import Conditioning, condition
from rtc.exact.likelihood import ExactPrior
from rtc.exact.spectrum import spectrum
from rtc.kernel import normal
from rtc.path import STRAIGHT, Path, Time, spread


class MixturePrior(ExactPrior):
    """x1 ~ sum_k weights_k N(means_k, covs_k), exactly; points are [*batch, d].

    ```
    covs      a number            [d, d]           [k, d, d]
              v I for all         one for all      one each
    cost      O(k d)              O(d^2 + k d)     O(k d^2)       a point, for denoise, vjp and log_density
    ```

    weights: [k], at least 0, of sum 1. means: [k, d]. covs: symmetric, without negative eigenvalues; a
    singular one has no density where no noise is left, and asking there is refused. Computed in the dtype of
    `means`; answers come in the dtype of the point. Raises InvalidArgument for other values and shapes.
    Source: the conditional law of jointly Gaussian vectors (Bishop 2006, eqs. 2.115-2.117), per component.
    """

    def __init__(
        self,
        weights: Float[Tensor, "..."],
        means: Float[Tensor, "..."],
        covs: Float[Tensor, "..."] | float,
        path: Path = STRAIGHT,
    ) -> None:
        _check_weights(weights, means)
        self.path, self.means = path, means
        self.log_weights = weights.to(means).log().log_softmax(-1)
        # Components with one covariance form a group: one group of k, or k groups of one.
        self._variances, self._axes = spectrum(covs, means)
        self._singular = bool((self._variances == 0.0).any())
        grouped = means.reshape(len(self._variances), -1, means.shape[-1])
        self._centers = grouped.mean(1)
        self._offsets = self._to_axes((grouped - self._centers[:, None]).movedim(0, -2)).movedim(-2, 0)

    @property
    def weights(self) -> Float[Tensor, " k"]:
        """The weights, of sum 1."""
        return self.log_weights.exp()

    @property
    def covs(self) -> Float[Tensor, "k d d"]:
        """The covariances, one for each component (a view where they share one)."""
        count, size = self.means.shape
        return self._group_covs().expand(count, size, size)

    @property
    def mean(self) -> Float[Tensor, " d"]:
        """E[x1]."""
        return self.weights @ self.means

    @property
    def cov(self) -> Float[Tensor, "d d"]:
        """Cov[x1]: within the components and between them."""
        between = (self.means - self.mean) * self.weights[:, None].sqrt()
        groups = self._group_covs()
        group_weights = self.weights.reshape(len(groups), -1).sum(1)
        return torch.einsum("g,gde->de", group_weights, groups) + between.T @ between

    def on(self, path: Path) -> MixturePrior:
        """The same prior on another path, at all of its times."""
        other = copy.copy(self)
        other.path = path
        return other

    def denoise(self, x: Float[Tensor, "*batch d"], tau: Time) -> Float[Tensor, "*batch d"]:
        """x1_hat = sum_k r_k E[x1 | x, k], r_k the probability of component k given x; differentiable."""
        at = self._at(x, tau)
        return self._mean_estimate(at, _responsibilities(self._log_components(at))).to(x)

    def vjp(
        self, x: Float[Tensor, "*batch d"], tau: Time, cotangent: Float[Tensor, "*cobatch d"]
    ) -> Float[Tensor, "*cobatch d"]:
        """J^T cotangent, J = d x1_hat / d x (symmetric), at every tau; *batch broadcasts to *cobatch.

        J = sum_k r_k J_k + sum_k r_k xh_k (s_k - s)^T with the estimates and the scores of the components:
        nothing is divided by alpha or sigma.
        """
        at, cotangents = self._at(x, tau), self._to_axes(cotangent.to(self.means)[..., None, :])
        weights = _responsibilities(self._log_components(at))
        slopes = at.alpha * torch.einsum("...gd,gjd->...gj", cotangents / at.total, self._offsets)
        slopes = slopes - (cotangents * at.x / at.total).sum(-1, keepdim=True)
        tilted = weights * (slopes - (weights * slopes).sum((-2, -1), keepdim=True))
        within = weights.sum(-1, keepdim=True) * at.alpha * self._variances / at.total * cotangents
        return (self._mean_estimate(at, tilted) + self._from_axes(within).sum(-2)).to(cotangent)

    def jacobian(self, x: Float[Tensor, "*batch d"], tau: Time) -> Float[Tensor, "*batch d d"]:
        """d x1_hat / d x; (sigma^2 / alpha) times it is Cov[x1 | x]."""
        unit = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
        return self.vjp(x[..., None, :], tau, unit.expand(*x.shape[:-1], *unit.shape))

    def responsibilities(self, x: Float[Tensor, "*batch d"], tau: Time) -> Float[Tensor, "*batch k"]:
        """The probability of each component given x at tau."""
        return _responsibilities(self._log_components(self._at(x, tau))).flatten(-2).to(x)

    def log_density(self, x: Float[Tensor, "*batch d"], tau: Time) -> Float[Tensor, "*batch"]:
        """log p_tau(x), with x = alpha x1 + sigma x0; its gradient is the score."""
        return self._log_components(self._at(x, tau)).logsumexp((-2, -1)).to(x)

    def posterior(
        self, a: Float[Tensor, "..."], y: Float[Tensor, "..."], noise_variance: Time
    ) -> MixturePrior:
        """The law of x1 given y = a x1 + N(0, noise_variance I): a mixture on the same path.

        a: [m, d]. y: [m]. noise_variance: >= 0, a number or [m]; 0 is refused where a cov a^T is singular.
        """
        given = self._condition(a, y, noise_variance)
        log_weights = (self._grouped_log_weights() + given.log_densities()).flatten()
        covs = given.posterior_covs()
        posterior = MixturePrior(
            log_weights.softmax(0),
            given.posterior_means().flatten(0, 1),
            covs if len(covs) > 1 else covs[0],
            self.path,
        )
        posterior.log_weights = log_weights.log_softmax(0)  # these hold on where the weights underflow
        return posterior

    def log_evidence(
        self, a: Float[Tensor, "..."], y: Float[Tensor, "..."], noise_variance: Time
    ) -> Float[Tensor, ""]:
        """log p(y). Arguments as in `posterior`."""
        given = self._condition(a, y, noise_variance)
        return (self._grouped_log_weights() + given.log_densities()).logsumexp((0, 1))

    def sample(self, count: int, generator: Generator | None = None) -> Float[Tensor, "{count} d"]:
        """Independent draws of x1."""
        chosen = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = normal(self.means.new_empty(count, 1, self.means.shape[1]), generator)
        moved = self._from_axes(noise * self._variances.sqrt())
        group = chosen // self._offsets.shape[1]
        return self.means[chosen] + moved[torch.arange(count, device=group.device), group]

    # Below: x, total, cotangents are [*batch, groups, d] along the axes of each group's covariance, whatever
    # has a value per component is [*batch, groups, members], and alpha, noise are numbers or [*batch, 1, 1].

    def _at(self, x: Tensor, tau: Time) -> _Point:
        if x.shape[-1:] != self.means.shape[1:]:
            raise InvalidArgument(
                f"x has shape {tuple(x.shape)}; a point of this prior is [*batch, {self.means.shape[1]}]."
            )
        lifted = x.to(self.means)[..., None, :]
        alpha, sigma = spread(self.path.alpha(tau), lifted), spread(self.path.sigma(tau), lifted)
        total = alpha**2 * self._variances + sigma**2
        if self._singular and not (total > 0.0).all():
            raise InvalidArgument(
                f"tau = {tau} leaves no noise, and this prior's covariance is singular: there is no density; "
                "ask at an earlier tau."
            )
        return _Point(alpha, sigma**2, total, self._to_axes(lifted - alpha * self._centers))

    def _log_components(self, at: _Point) -> Tensor:
        """log weights_k N(x; alpha mean_k, alpha^2 cov_k + sigma^2 I), with no [*batch, k, d] in memory."""
        common = (at.x**2 / at.total + (2.0 * math.pi * at.total).log()).sum(-1, keepdim=True)
        products = torch.einsum("...gd,gjd->...gj", at.x / at.total, self._offsets)
        squares = torch.einsum("...gd,gjd->...gj", 1.0 / at.total, self._offsets**2)
        return self._grouped_log_weights() - 0.5 * (common + at.alpha**2 * squares) + at.alpha * products

    def _mean_estimate(self, at: _Point, weights: Tensor) -> Tensor:
        """sum_k weights_k E[x1 | x, k]."""
        total_weights = weights.sum(-1, keepdim=True)
        offsets = torch.einsum("...gj,gjd->...gd", weights, self._offsets)
        moved = at.alpha * self._variances * total_weights * at.x + at.noise * offsets
        return (total_weights * self._centers + self._from_axes(moved / at.total)).sum(-2)

    def _to_axes(self, values: Tensor) -> Tensor:
        return values if self._axes is None else torch.einsum("...gd,gde->...ge", values, self._axes)

    def _from_axes(self, values: Tensor) -> Tensor:
        return values if self._axes is None else torch.einsum("...ge,gde->...gd", values, self._axes)

    def _group_covs(self) -> Tensor:
        if self._axes is None:
            return self._variances.diag_embed()
        return (self._axes * self._variances[:, None]) @ self._axes.mT

    def _grouped_log_weights(self) -> Tensor:
        return self.log_weights.reshape(self._offsets.shape[:2])

    def _condition(self, a: Tensor, y: Tensor, noise_variance: Time) -> Conditioning:
        means = self.means.reshape(self._offsets.shape)
        return condition(means, self._group_covs(), a, y, noise_variance)


class _Point(NamedTuple):
    """A point as the components see it."""

    alpha: Time
    noise: Time
    """sigma^2"""
    total: Tensor
    """alpha^2 C + sigma^2 I, along the axes"""
    x: Tensor
    """x - alpha center, along the axes"""


def _responsibilities(log_components: Tensor) -> Tensor:
    return (log_components - log_components.logsumexp((-2, -1), keepdim=True)).exp()


def _check_weights(weights: Tensor, means: Tensor) -> None:
    if means.ndim != 2 or weights.shape != means.shape[:1]:
        raise InvalidArgument(
            f"weights have shape {tuple(weights.shape)} and means {tuple(means.shape)}; "
            "they must be [k] and [k, d]."
        )
    total = float(weights.sum())
    if not (weights >= 0.0).all() or not abs(total - 1.0) <= 1e-4:
        raise InvalidArgument(
            f"weights are at least {float(weights.min()):g} and sum to {total:g}; they must be at least 0 "
            "and sum to 1 (divide them by their sum)."
        )
