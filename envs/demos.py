"""Delay-aware demonstrations: what the expert does after a prefix that is already committed.

```
plan before      . . . . a b c d e f g h          rows a.. have not run yet
committed        a b c (d rows, sometimes disturbed)
label            a b c X X X X X X X X X X X X X   the prefix, then the expert in an undisturbed copy
executed         a b c X X                         the first rows, with all disturbances; then the next label
```

Played this way the chunks that belong to one observation differ in what may already be under way, which is
the spread that guidance selects from, and the states contain the recoveries from their own disturbances.

A policy may drive instead of the label (DAgger: Ross, Gordon & Bagnell 2011, arXiv 1011.0686): then the
states are the policy's, delay and all, and the labels still the expert's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

from envs.task import ArmTask, Expert
from rtc.demonstrations import Demonstrations, Recording

Plan = Float[np.ndarray, "_ action_dim"]
Act: TypeAlias = Callable[[Any, Plan], Plan]
"""(observation, committed prefix) -> chunk: a policy that drives."""


@dataclass(frozen=True)
class Recipe:
    """How demonstrations are made; every field is written into the data set's manifest.

    `max_prefix` and `max_executed` are ticks; `corrupted` is the chance that a prefix is disturbed by a
    constant offset and by white noise with these standard deviations in action units. `paused` is the chance
    that the robot has waited without an action, for up to `max_executed` ticks, before it is labelled: then
    the data know where a robot is that stops and thinks.
    """

    horizon: int = 16
    max_prefix: int = 8
    max_executed: int = 8
    corrupted: float = 0.5
    offset: float = 0.3
    white: float = 0.2
    paused: float = 0.0


def foresee(env: ArmTask, expert: Expert, prefix: Plan, horizon: int) -> Plan:
    """The chunk that plays `prefix`, then lets `expert` close the loop, in an undisturbed copy of `env`."""
    imagined = env.imagine()
    chunk = np.zeros((horizon, prefix.shape[1]))
    for row in range(horizon):
        chunk[row] = prefix[row] if row < len(prefix) else expert.act(imagined)
        imagined.advance(chunk[row])
    return chunk


def committed_prefix(plan: Plan, recipe: Recipe, random: np.random.Generator) -> Plan:
    """The first rows of `plan`, as many as a random delay commits, disturbed or not as `recipe` says."""
    prefix = plan[: random.integers(0, recipe.max_prefix + 1)]
    if len(prefix) and random.random() < recipe.corrupted:
        offset = recipe.offset * random.standard_normal(prefix.shape[1])
        prefix = np.clip(prefix + offset + recipe.white * random.standard_normal(prefix.shape), -1.0, 1.0)
    return prefix


def record_episode(
    env: ArmTask,
    seed: int,
    recipe: Recipe,
    act: Act | None = None,
    on_instant: Callable[[Plan], None] | None = None,
) -> Recording:
    """Play one episode and label it on the way; the labels are what is executed, unless `act` drives.

    With `act` its chunk is executed, after the committed prefix, and the expert chooses anew at every label
    how to go on from where the policy has led it. on_instant: called with the plan in progress (the rows that
    have not run) at every replanning instant, before it is labelled; it may look ahead in `env`.
    """
    random = np.random.default_rng([seed, 7])  # not the env's generator, which is seeded with `seed` alone
    obs, info = env.reset(seed=seed)
    expert = env.make_expert(random)
    plan = np.zeros((0, env.drive.size))
    seen, actions, replanned, labels, committed = [], [], [], [], []
    over = False

    def play(chunk: Plan, labelled: bool) -> None:
        nonlocal obs, info, over
        for row, action in enumerate(chunk):
            seen.append(obs)
            actions.append(action)
            replanned.append(labelled and row == 0)
            obs, _, terminated, truncated, info = env.step(action)
            over = terminated or truncated
            if over:
                return

    while not over:
        if recipe.paused and actions and random.random() < recipe.paused:
            rest = actions[-1] if env.drive.starvation == "hold" else np.zeros(env.drive.size)
            ticks = int(random.integers(1, recipe.max_executed + 1))
            play(np.tile(rest, (ticks, 1)), labelled=False)
            plan = plan[:0]
            if over:
                break
        if on_instant is not None:
            on_instant(plan)
        prefix = committed_prefix(plan, recipe, random)
        if act is not None:
            expert = env.make_expert(random)
        label = foresee(env, expert, prefix, recipe.horizon)
        labels.append(label)
        committed.append(len(prefix))
        chunk = label if act is None else np.concatenate([prefix, act(obs, prefix)[len(prefix) :]])
        executed = int(random.integers(1, recipe.max_executed + 1))
        play(chunk[:executed], labelled=True)
        plan = chunk[executed:]
    states, images = _apart(seen)
    return Recording(
        state=states,
        action=np.stack(actions).astype(np.float32),
        episode=np.full(len(actions), seed),
        replanned=np.array(replanned),
        chunks=np.stack(labels).astype(np.float32),
        committed=np.array(committed),
        success=np.array([info["is_success"]], np.float32),
        mode=np.array([expert.mode]),
        images=images,
    )


def _apart(seen: list[Any]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    if not isinstance(seen[0], dict):
        return np.stack(seen), {}
    columns = {name: np.stack([obs[name] for obs in seen]) for name in seen[0]}
    return columns.pop("state"), columns


def record_episodes(
    make_env: Callable[[], ArmTask],
    seeds: Sequence[int],
    recipe: Recipe,
    on_episode: Callable[[], None] = lambda: None,
    act: Act | None = None,
) -> Recording:
    """One episode per seed; the same seeds give the same data to the bit."""
    env = make_env()
    episodes = []
    for seed in seeds:
        episodes.append(record_episode(env, seed, recipe, act))
        on_episode()
    env.close()
    return Recording.concatenate(episodes)


def record(
    make_env: Callable[[], ArmTask],
    seeds: Sequence[int],
    recipe: Recipe,
    on_episode: Callable[[], None] = lambda: None,
    act: Act | None = None,
) -> Demonstrations:
    """The labelled instants of `record_episodes`."""
    return record_episodes(make_env, seeds, recipe, on_episode, act).demonstrations()


def conditional_variance(
    make_env: Callable[[], ArmTask], seeds: Sequence[int], recipe: Recipe, labels: int = 8
) -> Float[np.ndarray, " action_dim"]:
    """How much chunks of one state differ: their variance for each number of an action, squared action units.

    Every replanning instant of one episode per seed is labelled `labels` >= 2 times, with a prefix and an
    expert drawn anew each time: the unbiased variance over the labels, averaged over rows and instants. As
    the expert is new, it counts a choice as open as long as an expert would still make either.
    """
    env = make_env()
    random = np.random.default_rng([*seeds, 9])
    variances: list[np.ndarray] = []

    def relabel(plan: Plan) -> None:
        chunks = [
            foresee(env, env.make_expert(random), committed_prefix(plan, recipe, random), recipe.horizon)
            for _ in range(labels)
        ]
        variances.append(np.var(chunks, axis=0, ddof=1).mean(0))

    for seed in seeds:
        record_episode(env, seed, recipe, on_instant=relabel)
    env.close()
    return np.mean(variances, axis=0)
