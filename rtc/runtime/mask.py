"""Soft prefix masks: how firmly each action of the next chunk is held to the previous one."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from rtc.errors import InvalidArgument

# The weight as a function of c, which is 1 on frozen actions, 0 on free ones and falls linearly between them.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "exp": lambda c: c * (math.expm1(c) / math.expm1(1.0)),
    "linear": lambda c: c,
    "ones": math.ceil,
    "zeros": math.floor,
}


def prefix_weights(
    horizon: int,
    inference_delay: int,
    execution_horizon: int,
    schedule: str = "exp",
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Float[Tensor, " {horizon}"]:
    """The weight W_i of action i in a chunk of `horizon` H; `inference_delay` d, `execution_horizon` s.

    ```
    i        0 ........ d-1 | d ............ H-s-1 | H-s ...... H-1
    W_i      1    frozen  1 | falls    (blended)   | 0    free    0
             executed while   the chunks overlap     beyond the end of
             inference runs                          the previous chunk
    ```

    Between, with c_i = (H-s-i) / (H-s-d+1): "exp" c_i (e^c_i - 1) / (e - 1), "linear" c_i, "ones" 1, "zeros"
    0 (a hard mask). Where d > H - s the end wins, as in the released code: only H - s actions are frozen.
    d >= 0 and 0 <= s <= H, in ticks; InvalidArgument otherwise. dtype: torch's default unless given.
    Source: Black et al. 2025, eq. 5, and its released code.
    """
    if horizon < 1:
        raise InvalidArgument(f"horizon is {horizon}; a chunk has at least 1 action.")
    if inference_delay < 0:
        raise InvalidArgument(f"inference_delay is {inference_delay}; it counts ticks and is at least 0.")
    if not 0 <= execution_horizon <= horizon:
        raise InvalidArgument(
            f"execution_horizon is {execution_horizon}; it must lie in 0..{horizon}, the actions of a chunk."
        )
    if schedule not in SCHEDULES:
        raise InvalidArgument(f"schedule is {schedule!r}; choose one of {', '.join(SCHEDULES)}.")
    end = horizon - execution_horizon
    start = min(inference_delay, end)
    c = [min(max((end - i) / (end - start + 1), 0.0), 1.0) for i in range(horizon)]
    return torch.tensor(
        [float(SCHEDULES[schedule](each)) for each in c],
        dtype=dtype or torch.get_default_dtype(),
        device=device,
    )
