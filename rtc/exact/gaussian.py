"""The Gaussian prior, over events of any shape."""

from __future__ import annotations

import copy
import math

from jaxtyping import Float
from torch import Generator, Tensor

from rtc.errors import InvalidArgument
from rtc.exact.conditioning import Conditioning, condition
from rtc.exact.likelihood import ExactPrior
from rtc.exact.spectrum import spectrum
from rtc.kernel import normal
from rtc.path import STRAIGHT, Path, Time, spread


class GaussianPrior(ExactPrior):
    """x1 ~ N(mean, cov), exactly; points are [*batch, *event], and d is the number of values in an event.

    mean: [*event]. cov: [d, d] over the flattened event, or a number v for v I, which costs O(d) only;
    symmetric, without negative eigenvalues. Computed in the dtype of `mean`; answers come in the dtype of the
    point. Measurements (a, y) are [m, d] and [m], over the flattened event.

    Raises InvalidArgument for other covariances and shapes, and, where no noise is left, for a singular one.
    """

    def __init__(
        self, mean: Float[Tensor, "*event"], cov: Float[Tensor, "..."] | float, path: Path = STRAIGHT
    ) -> None:
        self.path, self.mean = path, mean
        variances, axes = spectrum(cov, mean.reshape(1, -1))
        self._variances, self._axes = variances[0], None if axes is None else axes[0]
        self._singular = not bool(self._variances.all())

    @property
    def cov(self) -> Float[Tensor, "d d"]:
        """The covariance of the flattened event."""
        if self._axes is None:
            return self._variances.diag()
        return self._axes * self._variances @ self._axes.T

    def on(self, path: Path) -> GaussianPrior:
        """The same prior on another path, at all of its times."""
        other = copy.copy(self)
        other.path = path
        return other

    def denoise(self, x: Float[Tensor, "*shape"], tau: Time) -> Float[Tensor, "*shape"]:
        """x1_hat = mean + alpha C (alpha^2 C + sigma^2 I)^-1 (x - alpha mean); affine in x."""
        alpha, total, along = self._at(x, tau)
        moved = self._from_axes(alpha * self._variances / total * along)
        return (self.mean + moved.reshape(x.shape)).to(x)

    def vjp(
        self, x: Float[Tensor, "..."], tau: Time, cotangent: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """J^T cotangent, J = d x1_hat / d x = alpha C (alpha^2 C + sigma^2 I)^-1, which is symmetric."""
        alpha, total, _ = self._at(x, tau)
        pulled = self._from_axes(alpha * self._variances / total * self._to_axes(self._flatten(cotangent)))
        return pulled.reshape(cotangent.shape).to(cotangent)

    def jacobian(self, x: Float[Tensor, "..."], tau: Time) -> Float[Tensor, "*batch d d"]:
        """d x1_hat / d x over the flattened event; (sigma^2 / alpha) times it is Cov[x1 | x]."""
        alpha, total, along = self._at(x, tau)
        shrink = (alpha * self._variances / total).expand(along.shape)
        if self._axes is None:
            return shrink.diag_embed().to(x)
        return ((self._axes * shrink[..., None, :]) @ self._axes.T).to(x)

    def log_density(self, x: Float[Tensor, "..."], tau: Time) -> Float[Tensor, "*batch"]:
        """log p_tau(x), with x = alpha x1 + sigma x0; its gradient is the score."""
        _, total, along = self._at(x, tau)
        return -0.5 * (along**2 / total + (2.0 * math.pi * total).log()).sum(-1).to(x)

    def posterior(
        self, a: Float[Tensor, "..."], y: Float[Tensor, "..."], noise_variance: Time
    ) -> GaussianPrior:
        """The law of x1 given y = a x1 + N(0, noise_variance I), on the same path; its `denoise` is exact.

        noise_variance: >= 0, a number or [m]; 0 is refused where a cov a^T is singular.
        """
        given = self._condition(a, y, noise_variance)
        mean = given.posterior_means()[0, 0].reshape(self.mean.shape)
        return GaussianPrior(mean, given.posterior_covs()[0], self.path)

    def log_evidence(
        self, a: Float[Tensor, "..."], y: Float[Tensor, "..."], noise_variance: Time
    ) -> Float[Tensor, ""]:
        """log p(y)."""
        return self._condition(a, y, noise_variance).log_densities()[0, 0]

    def sample(self, count: int, generator: Generator | None = None) -> Float[Tensor, "{count} *event"]:
        """Independent draws of x1."""
        noise = normal(self.mean.new_empty(count, self.mean.numel()), generator)
        return self.mean + self._from_axes(noise * self._variances.sqrt()).reshape(count, *self.mean.shape)

    def _at(self, x: Tensor, tau: Time) -> tuple[Time, Tensor, Tensor]:
        """alpha, and along the axes of C: alpha^2 C + sigma^2 I, and x - alpha mean."""
        flat = self._flatten(x)
        alpha, sigma = spread(self.path.alpha(tau), flat), spread(self.path.sigma(tau), flat)
        total = alpha**2 * self._variances + sigma**2
        if self._singular and not (total > 0.0).all():
            raise InvalidArgument(
                f"tau = {tau} leaves no noise, and the covariance is singular: there is no density; "
                "ask at an earlier tau."
            )
        return alpha, total, self._to_axes(flat - alpha * self.mean.flatten())

    def _flatten(self, x: Tensor) -> Tensor:
        batch = x.shape[: max(0, x.ndim - self.mean.ndim)]
        if x.shape != batch + self.mean.shape:
            raise InvalidArgument(
                f"x has shape {tuple(x.shape)}; a point of this prior is [*batch, *event] with the event "
                f"{tuple(self.mean.shape)}."
            )
        return x.to(self.mean).reshape(*batch, self.mean.numel())

    def _to_axes(self, values: Tensor) -> Tensor:
        return values if self._axes is None else values @ self._axes

    def _from_axes(self, values: Tensor) -> Tensor:
        return values if self._axes is None else values @ self._axes.T

    def _condition(self, a: Tensor, y: Tensor, noise_variance: Time) -> Conditioning:
        return condition(self.mean.reshape(1, 1, -1), self.cov[None], a, y, noise_variance)
