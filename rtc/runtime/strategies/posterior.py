"""Guidance with the covariance that the policy itself gives: the posterior-exact version of realtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rtc.errors import InvalidArgument
from rtc.guidance.tweedie import mmps
from rtc.measurement import LinearMeasurement
from rtc.path import Time
from rtc.runtime.controller import Request
from rtc.runtime.observation import Observation
from rtc.runtime.strategies.base import About, Chunks, InferenceInfo, Noise, frozen_rows
from rtc.runtime.strategies.guard import Guided


@dataclass(frozen=True, eq=False)
class FrozenRows:
    """The operator that keeps the frozen rows of each chunk, and zeros in the place of the others."""

    frozen: Float[Tensor, "batch horizon 1"]

    def forward(self, x: Tensor) -> Tensor:
        """A x."""
        return self.frozen * x

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y: A is symmetric."""
        return self.frozen * y

    def solve(self, residual: Tensor, r2: Time, noise_variance: Time) -> Tensor:
        """(r2 A A^T + noise_variance I)^-1 residual."""
        return residual / (r2 * self.frozen + noise_variance)


@dataclass(frozen=True)
class Posterior(Guided):
    """The frozen rows are measured, and the rest follows by the policy's own covariance of chunks.

    Cov[x1 | x] = (sigma^2 / alpha) J in the place of r2 I: exact if chunks of one observation are Gaussian.
    iterations: of the solver of its system, at least 1, a VJP each. noise_std: > 0, in policy units, of the
    frozen rows: what makes the system solvable where the policy has no spread.
    Raises InvalidArgument for values out of range.
    """

    iterations: int = 3
    noise_std: float = 0.03
    name: str = field(default="posterior", init=False)
    about: ClassVar[About] = About(
        "guides the flow by the policy's own covariance of chunks",
        calls="n + n (iterations + 1) VJPs",
        source="Rozet et al. 2024 (MMPS); Boys et al. 2023 (TMPD)",
        needs=("gradients through the policy",),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.iterations < 1 or not self.noise_std > 0.0:
            raise InvalidArgument(
                f"iterations={self.iterations}, noise_std={self.noise_std}; at least 1, and above 0"
            )

    @torch.no_grad()
    def __call__(
        self, obs: Observation, requests: Sequence[Request | None], noise: Noise
    ) -> tuple[Chunks, InferenceInfo]:
        """Sample from the policy given the frozen rows of each plan; a first chunk (None) has none."""
        prior = self.condition(obs)
        guided = np.array([request is not None and len(request.frozen) > 0 for request in requests])
        if not guided.any():
            chunks, nonfinite_step = self.draw(prior, noise)
            return chunks, InferenceInfo(prior.calls, 0, guided, nonfinite_step)
        plan = self.plans(requests)
        frozen = frozen_rows(requests, plan)
        measured = LinearMeasurement(FrozenRows(frozen), frozen * plan, self.noise_std**2)
        posterior = mmps(prior, measured, iterations=self.iterations)
        vjps = self.num_steps * (self.iterations + 1)
        return self.answer(prior, posterior, noise, plan, requests, vjps, guided)
