"""What the strategies share: a policy that is conditioned, drawn from, and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rtc.path import Time
from rtc.prefix import first_rows
from rtc.prior import Prior
from rtc.runtime.controller import Request
from rtc.runtime.mask import prefix_weights
from rtc.runtime.observation import Observation
from rtc.runtime.planning import check_expected
from rtc.sample import integrate, uniform_times
from rtc.solvers import Solver, named_solver

PAPER = "Black, Galliker & Levine 2025 (arXiv 2506.07339)"
Noise = Float[Tensor, "batch horizon action_dim"]
Chunks = Float[np.ndarray, "batch horizon action_dim"]
Actions = Float[np.ndarray, "batch action_dim"]


@runtime_checkable
class FlowPolicy(Protocol):
    """A flow-matching policy over chunks of `horizon` actions with `action_dim` numbers."""

    horizon: int
    action_dim: int

    def condition(self, obs: Any) -> Prior:
        """The prior over normalised chunks [B, H, D] given raw observations; the costly encoding, paid once.

        obs: a tensor [B, ...], or a dict of them.
        """
        ...

    def normalize(self, actions: Float[Tensor, "batch horizon action_dim"]) -> Tensor:
        """Env units to policy units."""
        ...

    def denormalize(self, actions: Float[Tensor, "batch horizon action_dim"]) -> Tensor:
        """Policy units to env units, clipped to the action space: what the env executes."""
        ...


@dataclass(frozen=True)
class About:
    """What a strategy says of itself. calls: its cost in flow steps n. needs: beyond a flow policy."""

    summary: str
    calls: str
    source: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class InferenceInfo:
    """What one batched inference cost and where it broke.

    network_calls, vjps: forward passes of the policy and vector-Jacobian products, for the batch as a whole.
    guided: [B], the rows that the VJPs were for.
    nonfinite_step: [B], the first flow step (from 0) at which a row was not finite, num_steps if only the
        finished chunk was not, -1 = fine.
    redrawn, replaced: [B], the rows whose guided chunk looked unfit and was drawn again without guidance, at
        the cost of as many calls, and those of them that gave way (see `guard`); None: none.
    """

    network_calls: int
    vjps: int
    guided: np.ndarray
    nonfinite_step: Int[np.ndarray, "batch"]
    redrawn: np.ndarray | None = None
    replaced: np.ndarray | None = None


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
    def privileged(self) -> bool:
        """Whether it is given environments in place of observations."""
        ...

    @property
    def horizon(self) -> int:
        """Actions in a chunk."""
        ...

    @property
    def history(self) -> int:
        """Observations that it looks back on; 1: the present one."""
        ...

    @property
    def expected(self) -> str:
        """Which of the delays counted lately it plans for."""
        ...

    @property
    def max_delay(self) -> int | None:
        """The longest delay, in ticks, that it can do with; None: any."""
        ...

    def __call__(
        self, obs: Any, requests: Sequence[Request | None], noise: Noise
    ) -> tuple[Chunks, InferenceInfo]:
        """Chunks [B, H, D] in env units, float32; a request is None for the first chunk of an episode."""
        ...


@runtime_checkable
class Correcting(Protocol):
    """A strategy that has a word at every tick, too: it corrects the action that is about to be executed."""

    def correct(self, obs: Observation, actions: Actions, rows: Int[np.ndarray, " batch"]) -> Actions:
        """What runs in the place of `actions`, which are rows 0..H-1 of their chunks; env units, float32.

        obs: what each robot sees at this tick. An action depends on nothing else of the batch.
        """
        ...


class Counted:
    """A prior that counts its forward passes."""

    def __init__(self, prior: Prior) -> None:
        self.path = prior.path
        self.calls = 0
        self._prior = prior

    def denoise(self, x: Tensor, tau: Time) -> Tensor:
        """The prior's, one call more."""
        self.calls += 1
        return self._prior.denoise(x, tau)


@dataclass(frozen=True)
class Flow:
    """What the strategies share.

    num_steps: flow steps n. device: where the policy is. expected: the delay to plan for where it varies, see
    `rtc.runtime.planning`; raises InvalidArgument for another.
    """

    policy: FlowPolicy
    num_steps: int = 5
    device: torch.device | str = "cpu"
    expected: str = field(default="longest", kw_only=True)
    name: str = field(default="", init=False)
    waits: bool = field(default=False, init=False)
    privileged: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        check_expected(self.expected)

    @property
    def horizon(self) -> int:
        """Actions in a chunk."""
        return self.policy.horizon

    @property
    def history(self) -> int:
        """Observations that the policy looks back on; 1 unless it says so."""
        return getattr(self.policy, "history", 1)

    @property
    def max_delay(self) -> int | None:
        """The longest delay, in ticks, that it can do with; None: any."""
        return None

    def condition(self, obs: Observation) -> Counted:
        """The policy's prior for these observations, counted."""
        return Counted(self.policy.condition(self.tensors(obs)))

    def tensors(self, obs: Observation) -> Any:
        """Observations as the policy takes them, where it is."""
        if isinstance(obs, dict):
            return {name: torch.from_numpy(part).to(self.device) for name, part in obs.items()}
        return torch.from_numpy(obs).to(self.device)

    def draw(
        self, prior: Prior, noise: Noise, *, solver: str | Solver = "euler"
    ) -> tuple[Chunks, np.ndarray]:
        """Chunks in env units, and for each the first flow step at which it was not finite (-1 = none)."""
        return self.execute(*self.flow(prior, self.begin(prior, noise), self.times, solver))

    def begin(self, prior: Prior, noise: Noise) -> Noise:
        """Where the flow begins, at tau = 0, for standard normal noise."""
        return prior.path.sigma(0.0) * noise.to(self.device)

    @property
    def times(self) -> list[float]:
        """The flow times of n equal steps."""
        return uniform_times(self.num_steps)

    def flow(
        self, prior: Prior, x: Noise, times: Sequence[float], solver: str | Solver = "euler"
    ) -> tuple[Noise, list[Tensor]]:
        """x, which is at times[0], carried to data in policy units; for each step which rows were finite."""
        finite: list[Tensor] = []
        chunks = integrate(
            prior,
            x,
            times,
            solver=named_solver(solver),
            callback=lambda step, tau, x, x1_hat: finite.append(x1_hat.isfinite().all(-1).all(-1)),
        )
        return chunks, finite

    def execute(self, chunks: Noise, finite: list[Tensor]) -> tuple[Chunks, np.ndarray]:
        """`draw`'s answer from `flow`'s."""
        actions = self.policy.denormalize(chunks).float()
        # The flow was watched above because the clip to the action space hides an infinite action.
        broken = ~torch.stack([*finite, actions.isfinite().all(-1).all(-1)])
        first = torch.where(broken.any(0), broken.int().argmax(0), -1)
        return actions.cpu().numpy(), first.cpu().numpy()

    def plans(self, requests: Sequence[Request | None]) -> Float[Tensor, "batch horizon action_dim"]:
        """The plans in progress in the units of the policy; zeros for a first chunk."""
        shape = (self.horizon, self.policy.action_dim)
        plans = [np.zeros(shape, np.float32) if request is None else request.previous for request in requests]
        return self.policy.normalize(torch.from_numpy(np.stack(plans)).to(self.device))


def frozen_rows(requests: Sequence[Request | None], like: Noise) -> Float[Tensor, "batch horizon 1"]:
    """1 on the frozen rows of each plan, else 0; a first chunk (None) has none. like: of the same length."""
    return row_mask([0 if request is None else len(request.frozen) for request in requests], like)


def row_mask(counts: Sequence[int], like: Noise) -> Float[Tensor, "batch horizon 1"]:
    """1 on the first `counts` rows of each chunk, else 0. like: of the same length."""
    return first_rows(torch.tensor(counts), like.shape[1])[..., None].to(like)


def chance(noise: Float[Tensor, "horizon action_dim"]) -> np.random.Generator:
    """What a strategy decides by chance besides its noise: a function of the episode's own noise."""
    return np.random.default_rng(np.abs(noise.numpy().ravel()[:4].view(np.int32)).tolist())


def weights_of(
    request: Request | None, horizon: int, schedule: str, mask_end: int | None = None
) -> Float[np.ndarray, " horizon"]:
    """How firmly each row of a new chunk is held to the plan (`rtc.runtime.mask`); a first chunk is free.

    mask_end: if given, at most this many rows are frozen or blended, though more remain.
    """
    remaining = 0 if request is None else request.remaining
    end = remaining if mask_end is None else min(remaining, mask_end)
    delay = 0 if request is None else request.inference_delay
    return _prefix_weights(horizon, delay, horizon - end, schedule)


@lru_cache(maxsize=4096)
def _prefix_weights(horizon: int, inference_delay: int, execution_horizon: int, schedule: str) -> np.ndarray:
    weights = prefix_weights(horizon, inference_delay, execution_horizon, schedule, dtype=torch.float32)
    return weights.numpy()
