"""What a policy sees: observations of many episodes as one batch, and the last few of each episode.

```
vector env                [obs_dim]                           batch [B, obs_dim]
history of 3              [3, obs_dim], the present one last  batch [B, 3, obs_dim]
dict env                  {"state": [obs_dim], "front": [h, w, 3]}, a batch of each; the state has the history
```
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from rtc.errors import InvalidArgument

Observation: TypeAlias = np.ndarray | dict[str, np.ndarray]
"""A float32 vector, or a dict of it as "state" and of uint8 images by camera; or a batch of either."""

STATE = "state"


class Scene(NamedTuple):
    """What a privileged strategy is given of one episode: its environment, beside what a robot would see."""

    env: Any
    obs: Observation


class History:
    """The last `length` >= 1 observations of an episode; before there are as many, the first one repeats."""

    def __init__(self, length: int) -> None:
        self._states: deque[np.ndarray] = deque(maxlen=length)
        self.obs: Observation = np.zeros(0, np.float32)
        """What the policy sees now: the observation itself if length is 1."""

    def see(self, obs: Observation) -> None:
        """Take the newest observation in."""
        if self._states.maxlen == 1:
            self.obs = obs
            return
        state = obs[STATE] if isinstance(obs, dict) else obs
        self._states.append(state)
        missing = (self._states.maxlen or 1) - len(self._states)
        state = np.stack([*[self._states[0]] * missing, *self._states])
        self.obs = {**obs, STATE: state} if isinstance(obs, dict) else state


def stack(observations: Sequence[Observation]) -> Observation:
    """One batch of them all; raises InvalidArgument for a dict beside a vector."""
    first = observations[0]
    if not isinstance(first, dict):
        if any(isinstance(obs, dict) for obs in observations):
            raise InvalidArgument("some envs give dicts and some vectors; give envs of one task")
        return np.stack(observations)  # type: ignore[arg-type]
    if any(not isinstance(obs, dict) or obs.keys() != first.keys() for obs in observations):
        raise InvalidArgument(f"not all envs give the observations {', '.join(first)}; give envs of one task")
    return {name: np.stack([obs[name] for obs in observations]) for name in first}  # type: ignore[index]
