"""Sequential Monte Carlo: the one loop behind every particle method.

```
        weigh                resample              move
x at tau ───► carried, lw ── if ESS is low ──► ─────────► x at tau_next, owed
                 ▲                                               │
                 └── the increment includes what the move owes ──┘
```

A method says how its particles are weighed at a level and how they move to the next; the loop resamples and
keeps the evidence. Source: Doucet & Johansen 2009, sections 3-4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from rtc.errors import InvalidArgument
from rtc.inverse.particles.memory import bounded_memory
from rtc.inverse.particles.resampling import effective_sample_size, systematic
from rtc.kernel import StepKernel, step_kernel
from rtc.measurement import Likelihood, LinearMeasurement
from rtc.path import Path
from rtc.sample import Callback, uniform_times

Carried: TypeAlias = tuple[Tensor, ...]
"""Tensors [n, ...] that a particle takes along when it is resampled; the second is its x1_hat."""


@dataclass(frozen=True, eq=False)
class Particles:
    """A weighted sample of p(x1 | y).

    x: [n, *event]. log_weights: [n], float64, normalised (their logsumexp is 0). ess: the effective sample
    size when the particles were weighed at each level, num_steps + 1 numbers from 1 to n.
    log_evidence: estimate of log p(y), unbiased as exp(log_evidence) for the discretised chain; None from a
    method that has none.
    """

    x: Float[Tensor, "n *event"]
    log_weights: Float[Tensor, " n"]
    log_evidence: float | None
    ess: list[float]

    def mean(self) -> Float[Tensor, "*event"]:
        """The weighted mean: the estimate of E[x1 | y]."""
        return torch.tensordot(self.log_weights.exp().to(self.x), self.x, 1)

    def draw(self, count: int, generator: Generator | None = None) -> Float[Tensor, "count *event"]:
        """`count` >= 1 particles with equal weights, by systematic resampling, in random order."""
        indices = systematic(self.log_weights.exp(), _uniform(self.x, generator), count)
        order = torch.randperm(count, generator=generator, device=self.x.device)
        return self.x[indices[order]]


def shaped_particles(measurement: Likelihood, num_particles: int, event: Sequence[int]) -> Tensor:
    """A placeholder shaped as all particles, [n, *event], in the dtype of y and on its device; no memory.

    Raises InvalidArgument for no particles, without noise, and where y is no single observation of an event.
    """
    if num_particles < 1:
        raise InvalidArgument(f"num_particles is {num_particles}; at least 1 particle is needed.")
    y = measurement.y if isinstance(measurement, LinearMeasurement) else torch.zeros(())
    blank = torch.zeros((), dtype=y.dtype, device=y.device)
    # any two particles tell whether y fits, and is one observation
    measurement.log_likelihood(blank.expand(2, *event))
    return blank.expand(num_particles, *event)


class Level(NamedTuple):
    """A step of the chain: its number from 0, the times it joins, and the prior's own kernel for it."""

    step: int
    tau: float
    tau_next: float
    kernel: StepKernel


@runtime_checkable
class Filter(Protocol):
    """What makes one particle method differ from another."""

    def start(self, like: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor | float]:
        """Particles at tau = 0, shaped like `like`, and what they owe to the weights."""
        ...

    def weigh(self, x: Tensor, owed: Tensor | float, level: Level) -> tuple[Carried, Tensor | float]:
        """(x, x1_hat, ...) at level.tau, and the increment of the log weights, `owed` included."""
        ...

    def move(self, carried: Any, level: Level, generator: Generator | None) -> tuple[Tensor, Tensor | float]:
        """Particles at level.tau_next, and what this move owes to the next increment."""
        ...

    def finish(self, x: Tensor, owed: Tensor | float) -> Tensor | float:
        """The last increment, at data."""
        ...


class Options(NamedTuple):
    """What every particle method takes, besides its own knobs; defaults and meaning stand with `tds`."""

    num_steps: int
    eta: float
    threshold: float
    particle_batch: int | None
    generator: Generator | None
    callback: Callback | None


def run_filter(method: Filter, path: Path, like: Tensor, options: Options) -> Particles:
    """Carry particles shaped like `like` [n, *event] from noise to data. Raises InvalidArgument where options
    are illegal or memory runs out."""
    if not 0.0 <= options.threshold <= 1.0:
        raise InvalidArgument(
            f"threshold is {options.threshold}; it is the part of the particles below which an effective "
            "sample size is too small, from 0 (never resample) to 1."
        )
    if options.particle_batch is not None and options.particle_batch < 1:
        raise InvalidArgument(
            f"particle_batch is {options.particle_batch}; a network call takes at least 1 particle."
        )
    with bounded_memory(like, options.particle_batch):
        return _run(method, path, like, options)


@torch.no_grad()
def _run(method: Filter, path: Path, like: Tensor, options: Options) -> Particles:
    """Resampling adds logsumexp(lw) - log n to the log evidence and resets lw; so does the end."""
    _, eta, threshold, _, generator, callback = options
    count, log_evidence, ess = len(like), 0.0, []
    log_weights = torch.zeros(count, dtype=torch.float64, device=like.device)
    x, owed = method.start(like, generator)
    for step, (tau, tau_next) in enumerate(pairwise(uniform_times(options.num_steps))):
        level = Level(step, tau, tau_next, step_kernel(path, tau, tau_next, eta))
        carried, increment = method.weigh(x, owed, level)
        log_weights = _added(log_weights, increment, tau)
        ess.append(effective_sample_size(log_weights))
        if callback is not None:
            callback(step, tau, x, carried[1])
        if ess[-1] < threshold * count:
            ancestors = systematic(log_weights.softmax(0), _uniform(x, generator))
            carried = type(carried)(*(tensor[ancestors] for tensor in carried))
            log_evidence += log_weights.logsumexp(0).item() - math.log(count)
            log_weights = torch.zeros_like(log_weights)
        x, owed = method.move(carried, level, generator)
    log_weights = _added(log_weights, method.finish(x, owed), 1.0)
    ess.append(effective_sample_size(log_weights))
    log_evidence += log_weights.logsumexp(0).item() - math.log(count)
    return Particles(x, log_weights.log_softmax(0), log_evidence, ess)


def _added(log_weights: Tensor, increment: Tensor | float, tau: float) -> Tensor:
    total = log_weights + increment
    if not math.isfinite(total.logsumexp(0).item()):
        raise InvalidArgument(
            f"no particle has a finite weight at tau = {tau:g}: y is too unlikely under the prior, or its "
            "denoiser returned NaN; raise noise_variance, take more steps, or check the prior."
        )
    return total


def _uniform(like: Tensor, generator: Generator | None) -> float:
    """A draw from (0, 1], so that a particle of weight 0 is never taken."""
    device = like.device if generator is None else generator.device
    return 1.0 - torch.rand((), generator=generator, dtype=torch.float64, device=device).item()
