"""Models of the world: what will be observed once the committed rows have run.

```
now                  what is observed          obs
committed rows       a0 a1 a2                  none: obs stays as it is, to the bit
after them           what a model expects      obs + (what changes meanwhile)
```
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rtc.errors import InvalidArgument, Unsupported
from rtc.runtime.observation import Observation, Scene
from rtc.runtime.strategies.base import Noise, chance

Rows = Float[np.ndarray, "_ action_dim"]
Expected = Float[np.ndarray, "batch obs_dim"]
Simulate = Callable[[Any, Rows], Float[np.ndarray, " obs_dim"]]
"""(env, actions) -> what would be observed after them, without noise or surprise; after none: now."""


@runtime_checkable
class WorldModel(Protocol):
    """Looks ahead through the rows that each robot is committed to."""

    @property
    def privileged(self) -> bool:
        """Whether it is given environments beside the observations."""
        ...

    def predict(self, obs: Any, committed: Sequence[Rows], noise: Noise) -> Expected:
        """The observations after the committed rows of each of the batch; after none the present one.

        obs: a batch, or a Scene each for a privileged model. noise: the episodes' own, for what is decided by
        chance. Raises Unsupported for observations with images.
        """
        ...


@dataclass(frozen=True)
class Simulator:
    """A copy of the simulator. The noise of the present observation stays on it: obs + (then - now).

    error: relative, of that change, each number by its own draw: 0 is a model without fault. Raises
    InvalidArgument for a negative one.
    """

    simulate: Simulate
    error: float = 0.0
    privileged: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        if not self.error >= 0.0:
            raise InvalidArgument(f"error={self.error}; it is 0 or more")

    def predict(self, obs: Sequence[Scene], committed: Sequence[Rows], noise: Noise) -> Expected:
        """Each environment by itself."""
        return np.stack([self._one(*each) for each in zip(obs, committed, noise, strict=True)])

    def _one(self, scene: Scene, committed: Rows, noise: Tensor) -> np.ndarray:
        seen = _numbers(scene.obs)
        if not len(committed):
            return seen
        change = self.simulate(scene.env, committed) - self.simulate(scene.env, committed[:0])
        if self.error:
            change = change * (1.0 + self.error * chance(noise).standard_normal(change.shape))
        return (seen + change).astype(np.float32)


@runtime_checkable
class Network(Protocol):
    """Learned dynamics."""

    def predict(
        self,
        obs: Float[Tensor, "batch obs_dim"],
        actions: Float[Tensor, "batch ticks action_dim"],
        rows: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch obs_dim"]:
        """What is observed after the first `rows` actions of each of the batch; after none `obs` itself."""
        ...


@dataclass(frozen=True)
class Learned:
    """Dynamics that were learned from demonstrations: needs nothing that a robot does not have.

    They begin from the observation with its noise, and what they were trained to expect of that is in what
    they predict.
    """

    dynamics: Network
    privileged: bool = field(default=False, init=False)

    def predict(self, obs: Observation, committed: Sequence[Rows], noise: Noise) -> Expected:
        """All at once, each through its own number of rows."""
        actions = np.zeros((len(committed), max(map(len, committed)), noise.shape[-1]), np.float32)
        for own, rows in zip(actions, committed, strict=True):
            own[: len(rows)] = rows
        counts = torch.tensor([len(rows) for rows in committed])
        return self.dynamics.predict(
            torch.from_numpy(_numbers(obs)), torch.from_numpy(actions), counts
        ).numpy()


def _numbers(obs: Observation) -> np.ndarray:
    if isinstance(obs, dict):
        raise Unsupported("rollforward predicts numbers, not images: use a policy without cameras")
    return obs
