"""Jump schedules: samplers that go back to noise, and forward again, so that known and unknown parts agree.

```
num_steps 10, jump 2, repeats 2:   0 .1 .2 .3
                                     .1 .2 .3 .4 .5        two steps back after every two, once
                                           .3 .4 .5 .6 .7
                                                 .5 .6 .7 .8 .9
                                                       .7 .8 .9 1
```
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from rtc.errors import InvalidArgument
from rtc.kernel import StepKernel
from rtc.prior import Prior
from rtc.sample import Callback
from rtc.solvers import Solver


def jump_times(num_steps: int, jump: int, repeats: int) -> list[float]:
    """The flow times of num_steps equal steps, of which each stretch of `jump` is walked `repeats` times.

    It starts at 0 and ends at 1; after every `jump` steps (counted from the last level before the data) it
    goes `jump` single steps back, repeats - 1 times. repeats = 1 is `uniform_times`. Raises InvalidArgument
    unless all three are at least 1. Source: Lugmayr et al. 2022 (RePaint), appendix B; Wang et al. 2023
    (DDNM), algorithm 2, has the same one.
    """
    if min(num_steps, jump, repeats) < 1:
        raise InvalidArgument(
            f"num_steps is {num_steps}, jump {jump}, repeats {repeats}; each must be at least 1."
        )
    # The index falls from num_steps - 1 (noise) to -1 (data), as in the paper.
    left = dict.fromkeys(range(0, num_steps - jump, jump), repeats - 1)
    index, indices = num_steps - 1, []
    while index >= 0:
        indices.append(index)
        if left.get(index, 0) > 0:
            left[index] -= 1
            indices.extend(range(index + 1, index + jump))
            index += jump
        else:
            index -= 1
    return [(num_steps - 1 - index) / num_steps for index in indices] + [1.0]


@torch.no_grad()
def travel(
    prior: Prior,
    x: Float[Tensor, "*shape"],
    times: Sequence[float],
    *,
    solver: Solver,
    generator: Generator | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "*shape"]:
    """`rtc.sample.integrate`, but the way back is a fresh draw alpha x1_hat + sigma n from the last estimate.

    The first time must be followed by a later one. Source: Wang et al. 2023 (DDNM), algorithm 2, where x1_hat
    is the solver's before any correction.
    """
    path, step, x1_hat = prior.path, 0, x
    for tau, tau_next in pairwise(times):
        if tau_next < tau:
            kernel = StepKernel(float(path.alpha(tau_next)), 0.0, float(path.sigma(tau_next)))
            x = kernel.apply(x1_hat, x, generator)
            continue
        move = solver(prior, x, tau, tau_next, generator)
        if callback is not None:
            callback(step, tau, x, move.x1_hat)
        x, x1_hat, step = move.x, move.x1_hat, step + 1
    return x
