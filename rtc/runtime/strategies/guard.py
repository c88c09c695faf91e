"""Guidance must never make a robot jump: a guided chunk that is unfit gives way to an unguided one.

```
guided chunk    not finite?            ---+
                far outside the data?  ---+--> drawn again without guidance, from the same noise
                far from the plan?     ---+      and replaced by that, unless it is no better there
```

Only what looks unfit costs a second draw. How far chunks stray with and without guidance is measured by
benchmarks/strategies.py (docs/strategies.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rtc.prior import Prior
from rtc.runtime.controller import Request
from rtc.runtime.strategies.base import Chunks, Flow, InferenceInfo, Noise, frozen_rows

RANGE = 2.5  # policy units (standard deviations) beyond the action space
FAR = 0.5  # policy units RMS: frozen rows farther from the plan than this are looked at again


class Guarded(NamedTuple):
    """Chunks in policy units that may be executed, and what became of each of the batch.

    finite: for each flow step which rows were. redrawn: drawn a second time. replaced: by that.
    """

    chunks: Noise
    finite: list[Tensor]
    redrawn: Bool[Tensor, " batch"]
    replaced: Bool[Tensor, " batch"]


def guard(
    flow: Flow,
    prior: Prior,
    noise: Noise,
    drawn: tuple[Noise, list[Tensor]],
    plan: Noise,
    frozen: Float[Tensor, "batch horizon 1"],
    guided: Bool[Tensor, " batch"],
) -> Guarded:
    """`drawn` where it is fit, or not guided; else drawn from `prior` alone.

    drawn: chunks and their finite steps, from `flow.flow` and this noise. plan: in policy units; frozen: 1 on
    its frozen rows, else 0. Where neither is fit the unguided one stays: if it is not finite, that ends the
    episode as it would without guidance.
    """
    chunks, finite = drawn
    bad, error = guided & _unfit(flow, chunks, finite), _distance(chunks, plan, frozen)
    redrawn = guided & (bad | (error > FAR))
    if not redrawn.any():
        return Guarded(chunks, finite, redrawn, redrawn)
    plain, plain_finite = flow.flow(prior, flow.begin(prior, noise), flow.times)
    replaced = bad | (redrawn & (_distance(plain, plan, frozen) <= error))
    whole = torch.where(replaced[:, None, None], plain, chunks)
    steps = [torch.where(replaced, ours, theirs) for ours, theirs in zip(plain_finite, finite, strict=True)]
    return Guarded(whole, steps, redrawn, replaced)


def _unfit(flow: Flow, chunks: Noise, finite: list[Tensor]) -> Bool[Tensor, " batch"]:
    """Not finite, or beyond the action space by more than RANGE."""
    return ~(torch.stack(finite).all(0) & (excess(flow, chunks) <= RANGE))  # a comparison with NaN is False


def excess(flow: Flow, chunks: Noise) -> Float[Tensor, " batch"]:
    """How far each chunk goes at most beyond the action space, to which `denormalize` clips; policy units."""
    return (chunks - flow.policy.normalize(flow.policy.denormalize(chunks))).abs().amax((1, 2))


def _distance(chunks: Noise, plan: Noise, frozen: Tensor) -> Float[Tensor, " batch"]:
    """RMS over the frozen rows [batch, horizon, 1], policy units; 0 where there are none."""
    squares = (frozen * (chunks - plan) ** 2).sum((1, 2))
    return (squares / (frozen.sum((1, 2)) * chunks.shape[2]).clamp(min=1.0)).sqrt()


@dataclass(frozen=True)
class Guided(Flow):
    """What the guided strategies share: their answer, guarded."""

    def answer(
        self,
        prior: Prior,
        posterior: Prior,
        noise: Noise,
        plan: Noise,
        requests: Sequence[Request | None],
        vjps: int,
        guided: np.ndarray,
    ) -> tuple[Chunks, InferenceInfo]:
        """Chunks drawn from `posterior`, or where that is unfit from `prior`; vjps: of the batch."""
        drawn = self.flow(posterior, self.begin(prior, noise), self.times)
        frozen = frozen_rows(requests, plan)
        safe = guard(self, prior, noise, drawn, plan, frozen, torch.from_numpy(guided).to(self.device))
        chunks, nonfinite_step = self.execute(safe.chunks, safe.finite)
        redrawn, replaced = safe.redrawn.cpu().numpy(), safe.replaced.cpu().numpy()
        return chunks, InferenceInfo(self.num_steps, vjps, guided, nonfinite_step, redrawn, replaced)
