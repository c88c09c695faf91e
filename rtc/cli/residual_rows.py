"""What a residual head learns from: demonstrations, and the chunks that its policy draws beside them.

```
demonstration   obs t   obs t+1   obs t+2   ...      a row:  obs t+k, the chunk's row k, k,
chunk           row 0   row 1     row 2     ...              the expert's action at t+k - row k
```
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from policies.flow import FlowPolicy
from policies.residual import ResidualHead, ResidualRecipe
from rtc.demonstrations import Recording, chunks_ahead, expert_actions
from rtc.errors import InvalidArgument, Unsupported
from rtc.runtime.strategies import make_strategy

BATCH = 256  # frames that are drawn for at once; fixed, so that a resumed training has the same chunks


@dataclass(frozen=True)
class Rows:
    """Rows of chunks beside what was seen when their tick had come.

    obs, actions: as the environment has them. residual: the expert's action less the row's, in the policy's
    units. episode: where it was seen.
    """

    obs: Float[Tensor, "n obs_dim"]
    actions: Float[Tensor, "n action_dim"]
    rows: Int[Tensor, " n"]
    residual: Float[Tensor, "n action_dim"]
    episode: Int[Tensor, " n"]

    def split(self, every: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """What the loss reads, to train on and, of every `every`th episode, held out.

        Raises InvalidArgument if either is empty.
        """
        held_out = self.episode % every == 0
        if held_out.all() or not held_out.any():
            raise InvalidArgument(
                f"the data have too few episodes to hold out every {every}th; record more (rtc demos)"
            )
        values = (self.obs, self.actions, self.rows, self.residual)
        return tuple(each[~held_out] for each in values), tuple(each[held_out] for each in values)


def residual_rows(
    policy: FlowPolicy, recording: Recording, recipe: ResidualRecipe, advance: Callable[[int], object]
) -> Rows:
    """Draw chunks at `recipe.frames` frames (or all, if there are fewer) and lay them beside what followed.

    The demonstration may have passed on the left where a chunk passes on the right, and the difference of the
    two is nothing to learn: of `recipe.draws` chunks a frame the one nearest to what was executed is kept.
    Only ticks whose action is the expert's count, not committed ones (`expert_actions`). advance: told how
    many frames are done, batch by batch.
    Raises Unsupported for a policy with cameras or a history, InvalidArgument where no tick is left.
    """
    if policy.cameras or policy.history > 1:
        raise Unsupported(
            f"this policy of {policy.task} sees images or looks back; a residual head sees one vector: "
            "train a policy without --cameras and --history"
        )
    generator = np.random.default_rng([recipe.seed, 11])
    count = min(recipe.frames, len(recording.state))
    frames = np.sort(generator.choice(len(recording.state), count, replace=False))
    executed, inside = chunks_ahead(recording.action, recording.episode, policy.horizon)
    drawn = _nearest_chunks(policy, recording.state, executed, inside, frames, recipe, advance)
    expert, known = expert_actions(recording)
    ahead = np.minimum(frames[:, None] + np.arange(policy.horizon), len(known) - 1)
    frame, row = np.nonzero(inside[frames] & known[ahead])
    if not len(frame):
        raise InvalidArgument("the demonstrations hold no tick at which the expert acted; record more")
    at, actions = ahead[frame, row], drawn[frame, row]
    residual = (torch.from_numpy(expert[at]) - torch.from_numpy(actions)) / policy.action_std
    return Rows(
        torch.from_numpy(recording.state[at]),
        torch.from_numpy(actions),
        torch.from_numpy(row),
        residual,
        torch.from_numpy(recording.episode[at]),
    )


def _nearest_chunks(
    policy: FlowPolicy,
    state: Float[np.ndarray, "all obs_dim"],
    executed: Float[np.ndarray, "all horizon action_dim"],
    inside: Bool[np.ndarray, "all horizon"],
    frames: Int[np.ndarray, " n"],
    recipe: ResidualRecipe,
    advance: Callable[[int], object],
) -> Float[np.ndarray, "n horizon action_dim"]:
    """At each of `frames` the drawn chunk that is nearest to what was executed from there on."""
    strategy, found = make_strategy("naive", policy), []
    generator = torch.Generator().manual_seed(recipe.seed)
    std = policy.action_std.numpy()
    for start in range(0, len(frames), BATCH):
        some = frames[start : start + BATCH]
        obs = np.repeat(state[some], recipe.draws, 0)
        noise = torch.randn(len(obs), policy.horizon, policy.action_dim, generator=generator)
        chunks, _ = strategy(obs, [None] * len(obs), noise)
        chunks = chunks.reshape(len(some), recipe.draws, policy.horizon, policy.action_dim)
        apart = ((chunks - executed[some, None]) / std) ** 2 * inside[some, None, :, None]
        found.append(chunks[np.arange(len(some)), apart.sum((2, 3)).argmin(1)])
        advance(len(some))
    return np.concatenate(found)


def errors_by_row(head: ResidualHead, rows: tuple[Tensor, ...], horizon: int) -> list[dict[str, float]]:
    """For each row of a chunk its RMS error without the head and with it, in the policy's units."""
    obs, actions, row, residual = rows
    with torch.inference_mode():
        left = residual - head(obs, actions, row)
    table = []
    for number in range(horizon):
        here = row == number
        if here.any():
            before, after = (float(each[here].square().mean().sqrt()) for each in (residual, left))
            table.append({"row": number, "without": before, "with": after, "rows": int(here.sum())})
    return table
