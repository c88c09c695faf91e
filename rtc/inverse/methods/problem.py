"""What a method is given, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Generator, Tensor

from rtc.errors import InvalidArgument
from rtc.measurement import LinearMeasurement
from rtc.prior import Prior
from rtc.sample import Callback

NEEDS = {
    "linear": "a linear operator",
    "svd": "the singular values of the operator",
    "noise": "a noise level above 0",
}
"""What a method may need beside A itself, in words."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Problem:
    """A prior, what was measured, and how much may be spent.

    shape: (batch, *event) of the restored data. num_steps: network calls, forwards that is; VJPs are extra.
    data_std, data_mean: of one value of the prior's data.
    num_particles, particle_batch: how many particles, and how many of them in one network call (None: all).
    """

    prior: Prior
    measurement: LinearMeasurement
    shape: tuple[int, ...]
    num_steps: int
    data_std: float = 1.0
    data_mean: float = 0.0
    num_particles: int = 64
    particle_batch: int | None = None
    generator: Generator | None = None
    callback: Callback | None = None


Run = Callable[..., Tensor]
"""(problem, **knobs) -> restored data [*problem.shape]."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """What `rtc restore --list` says of a method, and how to run it.

    needs: keys of NEEDS, separated by blanks. noise: what it makes of sigma_y: "exact" (its likelihood has
    it), "ignored", or "knob" (a step length stands for it). calls: network forwards, and VJPs, of one step.
    knobs: the method's own, with their defaults.
    """

    family: str
    source: str
    needs: str
    noise: str
    calls: str
    knobs: Mapping[str, Any]
    run: Run

    def __call__(self, problem: Problem, **knobs: Any) -> Tensor:
        """Run it. Raises InvalidArgument for a knob that it has not."""
        for name in knobs:
            if name not in self.knobs:
                has = ", ".join(self.knobs) or "none"
                raise InvalidArgument(f"there is no knob {name!r}; the method has: {has}.")
        return self.run(problem, **{**self.knobs, **knobs})
