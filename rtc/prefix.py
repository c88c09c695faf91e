"""A prefix: the rows of a chunk that are committed before the rest of it is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Prefix:
    """What will run before a new chunk arrives, for a policy that was trained to be told.

    ```
    actions    | committed: rows < delay | not read       |    H rows
    ```

    actions: in the units of the prior. delay: committed rows of each chunk, 0..H, int64.
    """

    actions: Float[Tensor, "batch horizon action_dim"]
    delay: Int[Tensor, " batch"]

    @property
    def committed(self) -> Bool[Tensor, "batch horizon"]:
        """The rows that are known."""
        return first_rows(self.delay, self.actions.shape[1])


def first_rows(count: Int[Tensor, " batch"], horizon: int) -> Bool[Tensor, "batch horizon"]:
    """True in the first `count` of `horizon` rows."""
    return torch.arange(horizon, device=count.device) < count[:, None]
