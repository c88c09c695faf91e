"""Strategies: how an observation and the plan in progress become the next chunk.

`synchronous` stops and thinks, `naive` thinks while it moves and switches blindly, `realtime` paints the new
chunk into what is already committed. Each is a few lines over what they share: condition, draw, count.

Source: Black, Galliker & Levine 2025, "Real-Time Execution of Action Chunking Flow Policies"
(arXiv 2506.07339).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rtc.errors import InvalidArgument
from rtc.guidance.pigdm import guide
from rtc.measurement import Measurement, SoftMask
from rtc.path import Time
from rtc.prior import Prior, from_denoiser
from rtc.runtime.controller import Request
from rtc.runtime.mask import prefix_weights
from rtc.sample import sample

Obs = Float[np.ndarray, "batch obs_dim"]
Noise = Float[Tensor, "batch horizon action_dim"]
Chunks = Float[np.ndarray, "batch horizon action_dim"]


@runtime_checkable
class FlowPolicy(Protocol):
    """A flow-matching policy over chunks of `horizon` actions with `action_dim` numbers."""

    horizon: int
    action_dim: int

    def condition(self, obs: Float[Tensor, "batch obs_dim"]) -> Prior:
        """The prior over normalised chunks [B, H, D] given raw observations; the costly prefix, paid once."""
        ...

    def normalize(self, actions: Float[Tensor, "batch horizon action_dim"]) -> Tensor:
        """Env units to policy units."""
        ...

    def denormalize(self, actions: Float[Tensor, "batch horizon action_dim"]) -> Tensor:
        """Policy units to env units, clipped to the action space: what the env executes."""
        ...


@dataclass(frozen=True, eq=False)
class InferenceInfo:
    """What one batched inference cost and where it broke.

    network_calls, vjps: forward passes of the policy and vector-Jacobian products, for the batch as a whole.
    guided: [B], the rows that the VJPs were for.
    nonfinite_step: [B], the first flow step (from 0) at which a row was not finite, num_steps if only the
        finished chunk was not, -1 = fine.
    """

    network_calls: int
    vjps: int
    guided: np.ndarray
    nonfinite_step: Int[np.ndarray, "batch"]


@runtime_checkable
class Strategy(Protocol):
    """Observations and plans in progress -> chunks. `waits`: the robot stops while it infers."""

    @property
    def name(self) -> str:
        """The name that `make_strategy` knows."""
        ...

    @property
    def waits(self) -> bool:
        """Whether the old chunk's rows after the request are not executed."""
        ...

    @property
    def horizon(self) -> int:
        """Actions in a chunk."""
        ...

    def __call__(
        self, obs: Obs, requests: Sequence[Request | None], noise: Noise
    ) -> tuple[Chunks, InferenceInfo]:
        """Chunks [B, H, D] in env units, float32; a request is None for the first chunk of an episode."""
        ...


class _Counted:
    """A prior that counts its forward passes."""

    def __init__(self, prior: Prior) -> None:
        self.path = prior.path
        self.calls = 0
        self._prior = prior

    def denoise(self, x: Tensor, tau: Time) -> Tensor:
        self.calls += 1
        return self._prior.denoise(x, tau)


@dataclass(frozen=True)
class _Flow:
    """What the strategies share. num_steps: flow steps n; device: where the policy is."""

    policy: FlowPolicy
    num_steps: int = 5
    device: torch.device | str = "cpu"
    name: str = field(default="", init=False)
    waits: bool = field(default=False, init=False)

    @property
    def horizon(self) -> int:
        """Actions in a chunk."""
        return self.policy.horizon

    def _condition(self, obs: Obs) -> _Counted:
        return _Counted(self.policy.condition(torch.from_numpy(obs).to(self.device)))

    def _draw(self, prior: Prior, noise: Noise) -> tuple[Chunks, np.ndarray]:
        """Chunks in env units, and for each the first flow step at which it was not finite (-1 = none)."""
        finite = []
        chunks = sample(
            prior,
            noise.to(self.device),
            self.num_steps,
            callback=lambda step, tau, x, x1_hat: finite.append(x1_hat.isfinite().all(-1).all(-1)),
        )
        actions = self.policy.denormalize(chunks).float()
        # The flow was watched above because the clip to the action space hides an infinite action.
        finite.append(actions.isfinite().all(-1).all(-1))
        broken = ~torch.stack(finite)
        first = torch.where(broken.any(0), broken.int().argmax(0), -1)
        return actions.cpu().numpy(), first.cpu().numpy()


@dataclass(frozen=True)
class Naive(_Flow):
    """Asynchronous and blind: prev[:d] ++ new[d:s], new sampled without regard to prev (paper, baseline)."""

    name: str = field(default="naive", init=False)

    @torch.inference_mode()
    def __call__(
        self, obs: Obs, requests: Sequence[Request | None], noise: Noise
    ) -> tuple[Chunks, InferenceInfo]:
        """Sample from the policy; the requests do not matter."""
        prior = self._condition(obs)
        chunks, nonfinite_step = self._draw(prior, noise)
        return chunks, InferenceInfo(prior.calls, 0, np.zeros(len(obs), bool), nonfinite_step)


@dataclass(frozen=True)
class Synchronous(Naive):
    """Stop and think: s actions, then the starvation action for d ticks, then new[0:] (paper, baseline)."""

    name: str = field(default="synchronous", init=False)
    waits: bool = field(default=True, init=False)


@dataclass(frozen=True)
class Realtime(_Flow):
    """Real-time chunking: guide the flow to agree with the rows that will run anyway (paper, eqs 1-5).

    ```
    previous   | frozen: W = 1 | blended: W falls | free: W = 0 |
               0               d          remaining = H - s     H
    ```

    schedule: how W falls over the blended rows; "zeros" is the hard mask (paper, eq 5 and A.4).
    jacobian, max_weight, data_std: see `rtc.guidance.pigdm.guide`.
    mask_end: if given, at most this many rows (0..H) are frozen or blended, though more remain.
    """

    schedule: str = "exp"
    jacobian: str = "exact"
    max_weight: float | str = 5.0
    data_std: float = 1.0
    mask_end: int | None = None
    name: str = field(default="realtime", init=False)

    def __post_init__(self) -> None:
        if self.mask_end is not None and not 0 <= self.mask_end <= self.horizon:
            raise InvalidArgument(f"mask_end={self.mask_end}; it must be 0..{self.horizon}, rows of a chunk")
        # The mask and the guidance know their own ranges: let them refuse now, not at the first request.
        self._weights(None)
        self._posterior(from_denoiser(lambda x, tau: x), SoftMask(torch.zeros(1, 1), torch.zeros(1)))

    @torch.inference_mode()
    def __call__(
        self, obs: Obs, requests: Sequence[Request | None], noise: Noise
    ) -> tuple[Chunks, InferenceInfo]:
        """Sample from the policy guided by what remains of each plan; a first chunk (None) is not guided."""
        weights = np.stack([self._weights(request) for request in requests])
        guided = np.any(weights > 0.0, axis=1)
        prior = self._condition(obs)
        posterior = self._guide(prior, requests, weights) if guided.any() else prior
        chunks, nonfinite_step = self._draw(posterior, noise)
        vjps = prior.calls if guided.any() and self.jacobian == "exact" else 0
        return chunks, InferenceInfo(prior.calls, vjps, guided, nonfinite_step)

    def _weights(self, request: Request | None) -> Float[np.ndarray, " horizon"]:
        remaining = 0 if request is None else request.remaining
        end = remaining if self.mask_end is None else min(remaining, self.mask_end)
        inference_delay = 0 if request is None else request.inference_delay
        return _prefix_weights(self.horizon, inference_delay, self.horizon - end, self.schedule)

    def _guide(self, prior: Prior, requests: Sequence[Request | None], weights: np.ndarray) -> Prior:
        shape = (self.horizon, self.policy.action_dim)
        plans = [np.zeros(shape, np.float32) if request is None else request.previous for request in requests]
        target = self.policy.normalize(torch.from_numpy(np.stack(plans)).to(self.device))
        return self._posterior(prior, SoftMask(target, torch.from_numpy(weights).to(target)))

    def _posterior(self, prior: Prior, measurement: Measurement) -> Prior:
        return guide(
            prior,
            measurement,
            max_weight=self.max_weight,
            num_steps=self.num_steps,
            jacobian=self.jacobian,
            data_std=self.data_std,
        )


@lru_cache(maxsize=4096)
def _prefix_weights(horizon: int, inference_delay: int, execution_horizon: int, schedule: str) -> np.ndarray:
    weights = prefix_weights(horizon, inference_delay, execution_horizon, schedule, dtype=torch.float32)
    return weights.numpy()


STRATEGIES: dict[str, Callable[..., Strategy]] = {
    factory.name: factory for factory in (Synchronous, Naive, Realtime)
}


def make_strategy(
    name: str,
    policy: FlowPolicy,
    *,
    num_steps: int = 5,
    schedule: str = "exp",
    jacobian: str = "exact",
    max_weight: float | str = 5.0,
    data_std: float = 1.0,
    mask_end: int | None = None,
    device: torch.device | str = "cpu",
) -> Strategy:
    """The strategy called `name`, a key of STRATEGIES; raises InvalidArgument for another name.

    The arguments are those of the strategies' classes; the baselines read num_steps and device alone.
    """
    if name not in STRATEGIES:
        raise InvalidArgument(f"strategy {name!r} does not exist; choose from {', '.join(STRATEGIES)}")
    options = {
        "num_steps": num_steps,
        "schedule": schedule,
        "jacobian": jacobian,
        "max_weight": max_weight,
        "data_std": data_std,
        "mask_end": mask_end,
        "device": device,
    }
    read = inspect.signature(STRATEGIES[name]).parameters
    return STRATEGIES[name](policy, **{key: value for key, value in options.items() if key in read})
