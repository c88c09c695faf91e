"""Real-time chunking: the next chunk is painted into what is already committed, by guidance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rtc.errors import InvalidArgument
from rtc.guidance.pigdm import guide
from rtc.measurement import Measurement, SoftMask
from rtc.path import Time
from rtc.prior import Prior, from_denoiser
from rtc.runtime.controller import Request
from rtc.runtime.observation import Observation
from rtc.runtime.strategies.base import PAPER, About, Chunks, InferenceInfo, Noise, weights_of
from rtc.runtime.strategies.guard import Guided


@dataclass(frozen=True)
class Realtime(Guided):
    """Real-time chunking: guide the flow to agree with the rows that will run anyway (paper, eqs 1-5).

    ```
    previous   | frozen: W = 1 | blended: W falls | free: W = 0 |
               0               d          remaining = H - s     H
    ```

    schedule: how W falls over the blended rows; "zeros" is the hard mask (paper, eq 5 and A.4).
    jacobian, max_weight, data_std: see `rtc.guidance.pigdm.guide`.
    mask_end: if given, at most this many rows (0..H) are frozen or blended, though more remain.
    vjp_every: with the exact Jacobian, a VJP at every so many flow steps from the first, else J = I.
    Raises InvalidArgument for values out of range.
    """

    schedule: str = "exp"
    jacobian: str = "exact"
    max_weight: float | str = 5.0
    data_std: float = 1.0
    mask_end: int | None = None
    vjp_every: int = 1
    name: str = field(default="realtime", init=False)
    about: ClassVar[About] = About(
        "guides the flow to agree with what will have run (PiGDM, clipped and weighted)",
        calls="n + n VJPs (identity: n)",
        source=PAPER,
        needs=("gradients through the policy, unless the Jacobian is the identity",),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask_end is not None and not 0 <= self.mask_end <= self.horizon:
            raise InvalidArgument(f"mask_end={self.mask_end}; it must be 0..{self.horizon}, rows of a chunk")
        if self.vjp_every < 1:
            raise InvalidArgument(f"vjp_every={self.vjp_every}; it counts flow steps and is at least 1")
        # The mask and the guidance know their own ranges: let them refuse now, not at the first request.
        self._weights(None)
        self._posterior(from_denoiser(lambda x, tau: x), SoftMask(torch.zeros(1, 1), torch.zeros(1)))

    @torch.no_grad()
    def __call__(
        self, obs: Observation, requests: Sequence[Request | None], noise: Noise
    ) -> tuple[Chunks, InferenceInfo]:
        """Sample from the policy guided by what remains of each plan; a first chunk (None) is not guided."""
        weights = np.stack([self._weights(request) for request in requests])
        guided = np.any(weights > 0.0, axis=1)
        prior = self.condition(obs)
        if not guided.any():
            chunks, nonfinite_step = self.draw(prior, noise)
            return chunks, InferenceInfo(prior.calls, 0, guided, nonfinite_step)
        plan = self.plans(requests)
        posterior = self._posterior(prior, SoftMask(plan, torch.from_numpy(weights).to(plan)))
        vjps = math.ceil(self.num_steps / self.vjp_every) if self.jacobian == "exact" else 0
        return self.answer(prior, posterior, noise, plan, requests, vjps, guided)

    def _weights(self, request: Request | None) -> Float[np.ndarray, " horizon"]:
        return weights_of(request, self.horizon, self.schedule, self.mask_end)

    def _posterior(self, prior: Prior, measurement: Measurement) -> Prior:
        guided = partial(
            guide,
            prior,
            measurement,
            max_weight=self.max_weight,
            num_steps=self.num_steps,
            data_std=self.data_std,
        )
        chosen = guided(jacobian=self.jacobian)
        if self.vjp_every == 1 or self.jacobian != "exact":
            return chosen
        between, steps, every = guided(jacobian="identity"), self.num_steps, self.vjp_every

        def denoise(x: Tensor, tau: Time) -> Tensor:
            return (between if round(float(tau) * steps) % every else chosen).denoise(x, tau)

        return from_denoiser(denoise, prior.path)
