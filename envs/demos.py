"""Delay-aware demonstrations: what the expert does after a prefix that is already committed.

```
plan before      . . . . a b c d e f g h          rows a.. have not run yet
committed        a b c (d rows, sometimes disturbed)
label            a b c X X X X X X X X X X X X X   the prefix, then the expert in an undisturbed copy
executed         a b c X X                         the first rows, with all disturbances; then the next label
```

Played this way the chunks that belong to one observation differ in what may already be under way, which is
the spread that guidance selects from, and the states contain the recoveries from their own disturbances.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from envs.reach_past_post import ReachPastPost
from envs.reach_past_post_expert import Expert
from rtc.dataset import Demonstrations


@dataclass(frozen=True)
class Recipe:
    """How demonstrations are made; every field is written into the data set's manifest.

    `max_prefix` and `max_executed` are ticks; `corrupted` is the chance that a prefix is disturbed by a
    constant offset and by white noise with these standard deviations in action units.
    """

    horizon: int = 16
    max_prefix: int = 8
    max_executed: int = 8
    corrupted: float = 0.5
    offset: float = 0.3
    white: float = 0.2


def foresee(
    env: ReachPastPost, expert: Expert, prefix: Float[np.ndarray, "k 3"], horizon: int
) -> Float[np.ndarray, "horizon 3"]:
    """The chunk that plays `prefix`, then lets `expert` close the loop, in an undisturbed copy of `env`."""
    imagined = env.imagine()
    chunk = np.zeros((horizon, 3))
    for row in range(horizon):
        chunk[row] = prefix[row] if row < len(prefix) else expert.act(imagined)
        imagined.step(chunk[row])
    return chunk


def _committed_prefix(plan: np.ndarray, recipe: Recipe, random: np.random.Generator) -> np.ndarray:
    prefix = plan[: random.integers(0, recipe.max_prefix + 1)]
    if len(prefix) and random.random() < recipe.corrupted:
        offset = recipe.offset * random.standard_normal(3)
        prefix = np.clip(prefix + offset + recipe.white * random.standard_normal(prefix.shape), -1.0, 1.0)
    return prefix


def record_episode(env: ReachPastPost, seed: int, recipe: Recipe) -> tuple[np.ndarray, np.ndarray, bool]:
    """Observations [n, obs_dim] and chunks [n, horizon, 3] of one episode, and whether it succeeded."""
    random = np.random.default_rng([seed, 7])  # not the env's generator, which is seeded with `seed` alone
    obs, info = env.reset(seed=seed)
    expert = Expert(random)
    plan = np.zeros((0, 3))
    seen, labels = [], []
    over = False
    while not over:
        label = foresee(env, expert, _committed_prefix(plan, recipe, random), recipe.horizon)
        seen.append(obs)
        labels.append(label)
        executed = int(random.integers(1, recipe.max_executed + 1))
        for action in label[:executed]:
            obs, _, terminated, truncated, info = env.step(action)
            over = terminated or truncated
            if over:
                break
        plan = label[executed:]
    return np.stack(seen), np.stack(labels).astype(np.float32), bool(info["is_success"])


def record(
    make_env: Callable[[], ReachPastPost],
    seeds: list[int],
    recipe: Recipe,
    on_episode: Callable[[], None] = lambda: None,
) -> Demonstrations:
    """Demonstrations of one episode per seed; the same seeds give the same data to the bit."""
    env = make_env()
    episodes = []
    for seed in seeds:
        episodes.append(record_episode(env, seed, recipe))
        on_episode()
    env.close()
    return Demonstrations(
        obs=np.concatenate([episode[0] for episode in episodes]),
        chunks=np.concatenate([episode[1] for episode in episodes]),
        episode=np.repeat(seeds, [len(episode[0]) for episode in episodes]),
        success=np.array([episode[2] for episode in episodes], np.float32),
    )
