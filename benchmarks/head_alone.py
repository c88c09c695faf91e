"""What a residual head does alone: its corrections on chunks that know nothing of the scene.

The head sees every tick without delay, so it is a fast policy in its own right. Here the chunks beneath it
are those that the policy draws for the first observation of another episode: all that is known of the present
one is what the head sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import envs
from rtc.cli.assemble import build_strategy, cached_policy, cached_residual
from rtc.cli.build import Builder
from rtc.cli.environments import make_env
from rtc.cli.provenance import available_cores, commit, machine
from rtc.process_pool import in_workers
from rtc.report.statistics import success_rate
from rtc.runtime.controller import Request
from rtc.runtime.latency import ConstantDelay
from rtc.runtime.observation import Observation
from rtc.runtime.strategies import Residual, Strategy
from rtc.runtime.strategies.base import Chunks, InferenceInfo, Noise
from rtc.runtime.strategies.baselines import Naive
from rtc.sweep import Cell, Shard, ShardResult, run_shard

DELAY, ELSEWHERE = 8, 900_000
TASKS = [f"{name}-v0" for name in envs.CLASSES]


@dataclass(frozen=True)
class Blind(Naive):
    """Naive, shown the same observation at every inference."""

    shown: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    def __call__(
        self, obs: Observation, requests: Sequence[Request | None], noise: Noise
    ) -> tuple[Chunks, InferenceInfo]:
        """Chunks for what is shown, whatever is observed."""
        return super().__call__(np.repeat(self.shown[None], len(requests), 0), requests, noise)


def alone(folder: Path, task: str) -> Strategy:
    """The head of the policy in `folder` on chunks that it draws elsewhere."""
    env = make_env(task)
    shown = env.reset(seed=ELSEWHERE)[0]
    env.close()
    return Residual(Blind(cached_policy(folder, task), shown=shown), cached_residual(folder, task))


def episodes(task: str, way: str, seeds: tuple[int, ...]) -> ShardResult:
    """One way of executing chunks: by its name, or the head alone."""
    builder = Builder.check(task, None)
    make = partial(alone, builder.folder, task)
    if way != "head alone":
        make = partial(build_strategy, way, builder.folder, task)
    cell = Cell(way, builder.env(), make, ConstantDelay(DELAY), DELAY, builder.starvation)
    return run_shard(Shard(cell, seeds))


def measure(seeds: range, batch: int = 32) -> dict[str, Any]:
    """Success at DELAY of naive, residual, and the head alone, on the same seeds of every task."""
    ways = ("naive", "residual", "head alone")
    parts = [tuple(seeds[start : start + batch]) for start in range(0, len(seeds), batch)]
    asked = [(task, way, part) for task in TASKS for way in ways for part in parts]
    found = dict(in_workers([partial(episodes, *each) for each in asked], available_cores()))
    wins: dict[str, dict[str, int]] = {task: dict.fromkeys(ways, 0) for task in TASKS}
    for index, (task, way, _) in enumerate(asked):
        wins[task][way] += sum(record["success"] for record in found[index].episodes)
    success = {
        task: {way: success_rate(count, len(seeds))._asdict() for way, count in row.items()}
        for task, row in wins.items()
    }
    return {
        "commit": commit(),
        "machine": machine(),
        "delay": DELAY,
        "seeds": [seeds[0], seeds[-1]],
        "success": success,
    }
