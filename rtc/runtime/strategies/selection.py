"""Bidirectional decoding: draw several chunks, keep the one that fits the plan best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rtc.errors import InvalidArgument
from rtc.prior import Prior
from rtc.runtime.controller import Request
from rtc.runtime.observation import Observation
from rtc.runtime.strategies.base import (
    About,
    Chunks,
    Counted,
    Flow,
    FlowPolicy,
    InferenceInfo,
    Noise,
    weights_of,
)

Candidates = Float[Tensor, "samples batch horizon action_dim"]
Mode = Float[Tensor, "mode_size batch horizon action_dim"]


@dataclass(frozen=True)
class Bid(Flow):
    """Of `samples` chunks the one with the least loss: near to the plan, and unlike a weak policy's.

    samples: N >= 1; they are one batch, so the calls are n but N times as large. weak: an early checkpoint
    of the policy, for the forward contrast; without one the backward loss alone. mode_size: K, the chunks of
    either policy that it compares with, 1..N. mask: how it falls behind the frozen rows (`rtc.runtime.mask`).
    Raises InvalidArgument for values out of range.
    """

    samples: int = 16
    weak: FlowPolicy | None = None
    mode_size: int = 3
    mask: str = "exp"
    name: str = field(default="bid", init=False)
    about: ClassVar[About] = About(
        "draws N chunks and keeps the one that fits the plan best",
        calls="n of N chunks (twice that with a weak policy)",
        source="Liu et al. 2024 (arXiv 2408.17355), as Black et al. 2025 run it",
        needs=("optionally a weak policy: an early checkpoint",),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 1 or not 1 <= self.mode_size <= self.samples:
            raise InvalidArgument(
                f"samples={self.samples}, mode_size={self.mode_size}; N is at least 1 and K is 1..N"
            )
        weights_of(None, self.horizon, self.mask)

    @torch.no_grad()
    def __call__(
        self, obs: Observation, requests: Sequence[Request | None], noise: Noise
    ) -> tuple[Chunks, InferenceInfo]:
        """Sample and select; a first chunk (None) is the first sample."""
        batch, noises = len(requests), several(noise, self.samples)
        strong, finite, calls = self._candidates(self.policy, obs, noises)
        weak = None
        if self.weak is not None:
            weak, _, more = self._candidates(self.weak, obs, noises)
            calls += more
        weights = np.stack([weights_of(request, self.horizon, self.mask) for request in requests])
        target = self.plans(requests)
        chosen = select(strong, target, torch.from_numpy(weights).to(target), weak, self.mode_size)
        rows = torch.arange(batch, device=chosen.device)
        kept = [step.unflatten(0, (self.samples, batch))[chosen, rows] for step in finite]
        chunks, nonfinite_step = self.execute(strong[chosen, rows], kept)
        return chunks, InferenceInfo(calls, 0, np.zeros(batch, bool), nonfinite_step)

    def _candidates(
        self, policy: FlowPolicy, obs: Observation, noises: Float[Tensor, "all horizon action_dim"]
    ) -> tuple[Candidates, list[Tensor], int]:
        encoded: Prior = policy.condition(self.tensors(repeated(obs, self.samples)))
        prior = Counted(encoded)
        chunks, finite = self.flow(prior, self.begin(prior, noises), self.times)
        return chunks.unflatten(0, (self.samples, -1)), finite, prior.calls


def select(
    strong: Candidates,
    target: Float[Tensor, "batch horizon action_dim"],
    weights: Float[Tensor, "batch horizon"],
    weak: Candidates | None = None,
    mode_size: int = 3,
) -> Int[Tensor, " batch"]:
    """Which of the samples has the least loss, for each chunk of the batch; not finite is the worst.

    Backward: sum_i W_i |a_i - Y_i|. Forward: the distances to the `mode_size` strong chunks of least backward
    loss minus those to as many weak ones, over N; a chunk counts its distance 0 to itself.
    Source: the released code of Black et al. 2025.
    """
    loss = _backward(strong, target, weights)
    if weak is not None:
        best = _best(strong, loss, mode_size)
        worst = _best(weak, _backward(weak, target, weights), mode_size)
        loss = loss + (_distances(strong, best) - _distances(strong, worst)) / len(strong)
    return loss.nan_to_num(nan=torch.inf).argmin(0)


def _backward(chunks: Candidates, target: Tensor, weights: Tensor) -> Float[Tensor, "samples batch"]:
    return ((chunks - target).norm(dim=-1) * weights).sum(-1)


def _best(chunks: Candidates, loss: Tensor, count: int) -> Mode:
    order = loss.argsort(0)[:count]
    return torch.take_along_dim(chunks, order[..., None, None], 0)


def _distances(chunks: Candidates, others: Mode) -> Float[Tensor, "samples batch"]:
    return (chunks[:, None] - others[None]).norm(dim=-1).sum(-1).sum(1)


def several(noise: Noise, count: int) -> Float[Tensor, "all horizon action_dim"]:
    """`count` times as much noise, sample after sample: the given one first, the others drawn from it."""
    drawn = [noise]
    if count > 1:
        streams = [
            torch.Generator().manual_seed(int(own.flatten()[:2].view(torch.int32).sum()) & 0x7FFFFFFF)
            for own in noise.float().cpu()
        ]
        shape = (count - 1, *noise.shape[1:])
        more = torch.stack([torch.randn(shape, generator=stream) for stream in streams], 1)
        drawn.append(more.flatten(0, 1).to(noise))
    return torch.cat(drawn)


def repeated(obs: Observation, count: int) -> Observation:
    """The batch of observations `count` times, one after the other."""
    if isinstance(obs, dict):
        return {name: np.concatenate([part] * count) for name, part in obs.items()}
    return np.concatenate([obs] * count)
