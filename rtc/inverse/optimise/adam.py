"""Adam as a function of the gradients: the point is not written into, as torch.optim would."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Adam:
    """Steps of a moving average of gradients, over the root of one of their squares; value by value.

    learning_rate > 0; betas: the weights that the averages keep, in [0, 1). Source: Kingma & Ba 2015, alg. 1.
    """

    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    _count: int = field(default=0, init=False)
    _mean: Tensor = field(default_factory=lambda: torch.zeros(()), init=False)
    _square: Tensor = field(default_factory=lambda: torch.zeros(()), init=False)

    def step(self, gradient: Tensor) -> Tensor:
        """What to add to the point at which this is the gradient."""
        first, second = self.betas
        self._count += 1
        self._mean = first * self._mean.to(gradient) + (1.0 - first) * gradient
        self._square = second * self._square.to(gradient) + (1.0 - second) * gradient.square()
        mean = self._mean / (1.0 - first**self._count)
        square = self._square / (1.0 - second**self._count)
        return -self.learning_rate * mean / (square.sqrt() + self.eps)
