"""A small real environment and a policy in closed form: what the runtime is tested on.

`PointMass` is a mass in a plane, pushed by forces, that has to stop at a goal. `GaussianPolicy` knows the law
of its chunks exactly: a force towards the goal, one random offset that a whole chunk shares (which side to
take), and a little noise of each action.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rtc.path import STRAIGHT, Path, Time


class PointMass(gymnasium.Env[np.ndarray, np.ndarray]):
    """Obs: position, velocity, goal (6 numbers). Action: force in [-1, 1]^2. Ends at the goal or too late."""

    metadata = {"control_hz": 50, "render_modes": []}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (6,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, time_limit: int = 60, wall: float = np.inf) -> None:
        self.time_limit = time_limit
        self.wall = wall

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.position, self.goal = self.np_random.uniform(-1, 1, (2, 2))
        self.velocity = np.zeros(2)
        self.tick = 0
        return self._obs(), self._info()

    def step(self, action: np.ndarray):
        assert action.shape == (2,)
        assert action.dtype == np.float32
        self.tick += 1
        push = self.np_random.normal(0.0, 0.05, 2)
        self.velocity = 0.97 * self.velocity + 0.1 * (action + push)
        self.position = self.position + 0.1 * self.velocity
        info = self._info()
        terminated = info["is_success"] or info["failure"] is not None
        return self._obs(), -self._distance(), terminated, self.tick >= self.time_limit, info

    def _distance(self) -> float:
        return float(np.linalg.norm(self.goal - self.position))

    def _obs(self) -> np.ndarray:
        return np.concatenate([self.position, self.velocity, self.goal]).astype(np.float32)

    def _info(self) -> dict[str, Any]:
        return {
            "is_success": self._distance() < 0.1 and float(np.linalg.norm(self.velocity)) < 0.3,
            "failure": "collision" if np.abs(self.position).max() > self.wall else None,
            "position": np.append(self.position, 0.0),
        }


class GaussianPrior:
    """Exact denoiser of chunks N(mean, offset^2 1 1^T + own^2 I) over time, each action dimension alone."""

    path: Path = STRAIGHT

    def __init__(self, mean: Tensor, offset: float, own: float) -> None:
        self.mean = mean
        horizon = mean.shape[1]
        self.covariance = offset**2 * torch.ones(horizon, horizon) + own**2 * torch.eye(horizon)

    def denoise(self, x: Tensor, tau: Time) -> Tensor:
        alpha, sigma = self.path.alpha(tau), self.path.sigma(tau)
        identity = torch.eye(self.mean.shape[1])
        gain = alpha * self.covariance @ torch.linalg.inv(alpha**2 * self.covariance + sigma**2 * identity)
        return self.mean + gain @ (x - alpha * self.mean)


class GaussianPolicy:
    """Chunks of forces towards the goal; `scale` is the env's unit in the policy's."""

    action_dim = 2
    scale = 0.5

    def __init__(self, horizon: int = 8, offset: float = 0.7, own: float = 0.1) -> None:
        self.horizon = horizon
        self.offset = offset
        self.own = own

    def condition(self, obs: Tensor) -> GaussianPrior:
        position, velocity, goal = obs[:, :2], obs[:, 2:4], obs[:, 4:]
        mean = 2.0 * (goal - position) - 2.0 * velocity
        return GaussianPrior(mean[:, None].expand(-1, self.horizon, -1), self.offset, self.own)

    def normalize(self, actions: Tensor) -> Tensor:
        return actions / self.scale

    def denormalize(self, actions: Tensor) -> Tensor:
        return (actions * self.scale).clamp(-1.0, 1.0)
