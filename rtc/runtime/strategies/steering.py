"""The strategies that steer the flow to the plan without a gradient: pull, overwrite, invert, restart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from rtc.errors import InvalidArgument
from rtc.prior import Prior, velocity
from rtc.runtime.controller import Request
from rtc.runtime.observation import Observation
from rtc.runtime.strategies.base import About, Chunks, Flow, InferenceInfo, Noise, frozen_rows, row_mask
from rtc.sample import uniform_times
from rtc.solvers import Euler, Move, Solver


@dataclass(frozen=True)
class _Steered(Flow):
    """What they share: no guidance to account for."""

    def _answer(self, prior: Prior, noise: Noise, solver: Solver) -> tuple[Chunks, InferenceInfo]:
        chunks, nonfinite_step = self.draw(prior, noise, solver=solver)
        return chunks, InferenceInfo(self.num_steps, 0, np.zeros(len(chunks), bool), nonfinite_step)


@dataclass(frozen=True)
class Seam(_Steered):
    """After each flow step the overlap is pulled to where the plan would be at that flow time.

    x <- x - 2 strength tau (x - tau plan), on the first `rows` rows that overlap (all of them by default).
    strength: 0 or more. rows: 0..H. Raises InvalidArgument for others.
    """

    strength: float = 0.1
    rows: int | None = None
    name: str = field(default="seam", init=False)
    about: ClassVar[About] = About(
        "pulls the overlap to the plan after each flow step", calls="n", source="SEAM (arXiv 2607.04609)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.strength < math.inf:
            raise InvalidArgument(f"strength={self.strength}; a pull is 0 or more (SEAM: 0.1)")
        if self.rows is not None and not 0 <= self.rows <= self.horizon:
            raise InvalidArgument(f"rows={self.rows}; it must be 0..{self.horizon}, rows of a chunk")

    @torch.no_grad()
    def __call__(
        self, obs: Observation, requests: Sequence[Request | None], noise: Noise
    ) -> tuple[Chunks, InferenceInfo]:
        """Sample with the pull; a first chunk (None) is not pulled."""
        most = self.horizon if self.rows is None else self.rows
        plan = self.plans(requests)
        held = row_mask(
            [0 if request is None else min(most, request.remaining) for request in requests], plan
        )

        def pulled(
            prior: Prior, x: Tensor, tau: float, tau_next: float, generator: Generator | None = None
        ) -> Move:
            move = Euler()(prior, x, tau, tau_next)
            pull = 2.0 * self.strength * tau_next * held * (move.x - tau_next * plan)
            return Move(move.x - pull, move.x1_hat)

        return self._answer(self.condition(obs), noise, pulled)


@dataclass(frozen=True)
class Overwrite(_Steered):
    """Before each flow step the frozen rows are set to the plan with this flow time's noise (replacement)."""

    name: str = field(default="overwrite", init=False)
    about: ClassVar[About] = About(
        "overwrites the frozen rows before each flow step",
        calls="n",
        source="Janner et al. 2022 (Diffuser), as Black et al. 2025 compare it (A.4)",
    )

    @torch.no_grad()
    def __call__(
        self, obs: Observation, requests: Sequence[Request | None], noise: Noise
    ) -> tuple[Chunks, InferenceInfo]:
        """Sample with the frozen rows overwritten; in the end they are the plan."""
        plan = self.plans(requests)
        frozen = frozen_rows(requests, plan)
        first = noise.to(self.device)

        def overwritten(
            prior: Prior, x: Tensor, tau: float, tau_next: float, generator: Generator | None = None
        ) -> Move:
            known = prior.path.alpha(tau) * plan + prior.path.sigma(tau) * first
            move = Euler()(prior, torch.where(frozen > 0, known, x), tau, tau_next)
            return Move(torch.where(frozen > 0, plan, move.x), move.x1_hat) if tau_next == 1.0 else move

        return self._answer(self.condition(obs), noise, overwritten)


@dataclass(frozen=True)
class Paint(_Steered):
    """The flow is inverted to the noise that gives the frozen rows, and run again from there.

    Naive chunk -> frozen rows put into it -> back to noise by n Euler steps -> its frozen rows beside the
    fresh noise of the others -> forward again. A step back has its velocity at the flow time at which the
    step forward has it (PAINT: at the later one, which for a denoiser is singular at 1).
    """

    name: str = field(default="paint", init=False)
    about: ClassVar[About] = About(
        "inverts the flow to the noise that gives the frozen rows",
        calls="3 n",
        source="PAINT (arXiv 2606.19774), rule second-hand",
    )

    @torch.no_grad()
    def __call__(
        self, obs: Observation, requests: Sequence[Request | None], noise: Noise
    ) -> tuple[Chunks, InferenceInfo]:
        """Sample, invert, sample again; nothing to paint costs one run only."""
        prior, plan = self.condition(obs), self.plans(requests)
        frozen = frozen_rows(requests, plan)
        if not frozen.any():
            return self._answer(prior, noise, Euler())
        noise = self.begin(prior, noise)
        naive, _ = self.flow(prior, noise, self.times)
        x = torch.where(frozen > 0, plan, naive)
        for step in reversed(range(self.num_steps)):
            x = x - velocity(prior, x, step / self.num_steps) / self.num_steps
        painted = torch.where(frozen > 0, x, noise)
        actions, nonfinite_step = self.execute(*self.flow(prior, painted, self.times))
        return actions, InferenceInfo(3 * self.num_steps, 0, np.zeros(len(actions), bool), nonfinite_step)


@dataclass(frozen=True)
class Warm(_Steered):
    """The flow starts half-way, from the plan with noise: fewer steps, and chunks that stay near it.

    start: the flow time at which it begins, in (0, 1); steps: ceil(n (1 - start)). Rows that no plan covers
    begin at its last row. Raises InvalidArgument for another start.
    """

    start: float = 0.4
    name: str = field(default="warm", init=False)
    about: ClassVar[About] = About(
        "starts the flow from the plan with noise",
        calls="n (1 - start)",
        source="Chung et al. 2022 (CCDF, arXiv 2112.05146); for policies RTI-DP (arXiv 2508.05396)",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.start < 1.0:
            raise InvalidArgument(f"start={self.start}; a flow time between 0 and 1, both excluded")

    @torch.no_grad()
    def __call__(
        self, obs: Observation, requests: Sequence[Request | None], noise: Noise
    ) -> tuple[Chunks, InferenceInfo]:
        """Sample from the warm start; a first chunk (None) from noise."""
        prior = self.condition(obs)
        cold = [request is None for request in requests]
        if all(cold):
            return self._answer(prior, noise, Euler())
        noise = noise.to(self.device)
        times = uniform_times(math.ceil(self.num_steps * (1.0 - self.start)), self.start)
        x = prior.path.alpha(self.start) * self._whole(requests) + prior.path.sigma(self.start) * noise
        chunks, finite = self.flow(prior, x, times)
        calls = len(times) - 1
        if any(cold):
            fresh, _ = self.flow(prior, self.begin(prior, noise), self.times)
            calls += self.num_steps
            chunks = torch.where(torch.tensor(cold, device=chunks.device)[:, None, None], fresh, chunks)
        actions, nonfinite_step = self.execute(chunks, finite)
        return actions, InferenceInfo(calls, 0, np.zeros(len(actions), bool), nonfinite_step)

    def _whole(self, requests: Sequence[Request | None]) -> Float[Tensor, "batch horizon action_dim"]:
        """The plans, their last rows repeated to the length of a chunk."""
        plans = self.plans(requests)
        for plan, request in zip(plans, requests, strict=True):
            if request is not None and 0 < request.remaining < self.horizon:
                plan[request.remaining :] = plan[request.remaining - 1]
        return plans
