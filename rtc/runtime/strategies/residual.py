"""A residual head: every action is corrected by what is seen as it is about to run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rtc.errors import Unsupported
from rtc.runtime.controller import Request
from rtc.runtime.observation import Observation
from rtc.runtime.strategies.base import About, Actions, Chunks, InferenceInfo, Noise, Strategy


@runtime_checkable
class Head(Protocol):
    """What corrects single actions of a chunk."""

    def correct(
        self,
        obs: Float[Tensor, "batch obs_dim"],
        actions: Float[Tensor, "batch action_dim"],
        rows: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch action_dim"]:
        """The corrected actions, env units, within the action space; rows: their places in their chunks."""
        ...


@dataclass(frozen=True)
class Residual:
    """The chunks of `inner`, and what `head` adds to each row when its tick has come.

    ```
    chunk b, asked for at tick 4    b0 b1 b2 b3 b4 b5 b6 b7
    executed from tick 8 on                     b4 + head(obs 8, b4, row 4), b5 + head(obs 9, b5, row 5)
    ```

    The plan stays as it is: what `inner` is told is committed are the rows without their corrections.
    Raises Unsupported for an inner strategy that looks back; for images when it corrects.
    """

    inner: Strategy
    head: Head
    name: str = field(default="residual", init=False)
    about: ClassVar[About] = About(
        "adds to every action what a small head makes of the newest observation",
        calls="those of the strategy inside (naive: n), and the head's at every tick",
        source="Sendai et al. 2025 (A2C2, arXiv 2509.23224), of the policy's features the action alone",
        needs=("a residual head: rtc train-residual",),
    )

    def __post_init__(self) -> None:
        if self.inner.history > 1:
            raise Unsupported(
                f"residual cannot run a policy that looks back on {self.inner.history} observations: "
                "its head sees one; train one with --history 1"
            )

    @property
    def waits(self) -> bool:
        """As `inner`."""
        return self.inner.waits

    @property
    def privileged(self) -> bool:
        """As `inner`; the head sees what a robot would."""
        return self.inner.privileged

    @property
    def horizon(self) -> int:
        """Actions in a chunk."""
        return self.inner.horizon

    @property
    def history(self) -> int:
        """Observations that `inner` looks back on: the present one."""
        return self.inner.history

    @property
    def expected(self) -> str:
        """The delay to plan for: as `inner` does."""
        return self.inner.expected

    @property
    def max_delay(self) -> int | None:
        """The longest delay, in ticks, that `inner` can do with; None: any."""
        return self.inner.max_delay

    def __call__(
        self, obs: Any, requests: Sequence[Request | None], noise: Noise
    ) -> tuple[Chunks, InferenceInfo]:
        """As `inner`."""
        return self.inner(obs, requests, noise)

    def correct(self, obs: Observation, actions: Actions, rows: Int[np.ndarray, " batch"]) -> Actions:
        """What the head makes of each action."""
        if isinstance(obs, dict):
            raise Unsupported("residual corrects from numbers, not images: use a policy without cameras")
        with torch.inference_mode():
            given = (torch.from_numpy(values) for values in (obs, actions, rows))
            return self.head.correct(*given).numpy()
