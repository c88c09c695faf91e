"""Sweeps: the same seeds in every cell, spread over a pool of workers, shard by shard.

```
cell  realtime-d4         seeds 0 .. 127
shard realtime-d4.0-63          0 ..  63     one lockstep batch in one process, one file when done
shard realtime-d4.64-127       64 .. 127
```

What a shard computes depends on its cell and its seeds only, never on the number of workers. A sweep that
stops half-way keeps its finished shards; the next one reads them and runs the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium

from rtc.errors import InvalidArgument, WorkerDied
from rtc.runtime.controller import Starvation
from rtc.runtime.episode import Episode, Timing
from rtc.runtime.latency import ConstantDelay, DelayModel
from rtc.runtime.rollout import OnTick, rollout_batch
from rtc.runtime.strategies import Strategy
from rtc.serialise import read_json, write_json

Record = dict[str, Any]
"""One episode's numbers, as JSON holds them: see `episode_record`."""
RECORDED = (
    *("seed", "success", "failure", "ticks", "time_to_success", "total_reward", "starved_ticks"),
    *("boundary_jumps", "prefix_errors", "rms_jerk", "delays", "network_calls", "vjps", "replaced_chunks"),
)


@dataclass(frozen=True)
class Cell:
    """One setting to measure.

    name: unique in a sweep, fit for a file name. make_env, make_strategy: picklable, called in the worker.
    delay: of inference. A constant one is planned for, any other by the largest of the last counted ones.
    execution_horizon: s, in rows.
    """

    name: str
    make_env: Callable[[], gymnasium.Env]
    make_strategy: Callable[[], Strategy]
    delay: DelayModel
    execution_horizon: int
    starvation: Starvation = "hold"


@dataclass(frozen=True)
class Shard:
    """Some seeds of a cell: what one worker runs in one go."""

    cell: Cell
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """Unique in a sweep."""
        return f"{self.cell.name}.{self.seeds[0]}-{self.seeds[-1]}"


@dataclass(frozen=True)
class ShardResult:
    """What a shard gave: one record a seed, and where its time went (see `Timing`), in seconds."""

    episodes: list[Record]
    timing: dict[str, float]


def split(cells: Iterable[Cell], seeds: Sequence[int], batch: int) -> list[Shard]:
    """Shards of at most `batch` >= 1 seeds, cell after cell."""
    if batch < 1:
        raise InvalidArgument(f"batch is {batch}; a batch has at least 1 episode")
    starts = range(0, len(seeds), batch)
    return [Shard(cell, tuple(seeds[start : start + batch])) for cell in cells for start in starts]


def run_shard(
    shard: Shard,
    make_env: Callable[[int], gymnasium.Env] | None = None,
    on_tick: OnTick | None = None,
) -> ShardResult:
    """Run the shard's episodes in lockstep on this thread; `make_env(seed)` replaces the cell's own."""
    episodes, timing = run_episodes(shard, make_env, on_tick)
    return ShardResult([episode_record(episode) for episode in episodes], asdict(timing))


def run_episodes(
    shard: Shard,
    make_env: Callable[[int], gymnasium.Env] | None = None,
    on_tick: OnTick | None = None,
) -> tuple[list[Episode], Timing]:
    """`run_shard`, with all that an episode leaves."""
    delay = shard.cell.delay
    envs = [shard.cell.make_env() if make_env is None else make_env(seed) for seed in shard.seeds]
    try:
        return rollout_batch(
            envs,
            shard.cell.make_strategy(),
            execution_horizon=shard.cell.execution_horizon,
            delay=delay,
            seeds=shard.seeds,
            inference_delay=delay.initial if isinstance(delay, ConstantDelay) else None,
            starvation=shard.cell.starvation,
            on_tick=on_tick,
        )
    finally:
        for env in envs:
            env.close()


def episode_record(episode: Episode) -> Record:
    """The numbers of an episode, without its actions and positions; units as in `Episode`."""
    return {name: getattr(episode, name) for name in RECORDED}


def run_in_parts(shard: Shard, parts: int) -> ShardResult:
    """`run_shard` with an n-th of the episodes at a time: the same episodes, in less memory."""
    pieces = split([shard.cell], shard.seeds, max(1, math.ceil(len(shard.seeds) / parts)))
    results = [run_shard(piece) for piece in pieces]
    episodes = [episode for result in results for episode in result.episodes]
    return ShardResult(episodes, asdict(total(result.timing for result in results)))


Pool = Callable[[Sequence[Callable[[], ShardResult]]], Generator[tuple[int, ShardResult]]]
"""What runs jobs and yields (index, result) as they finish: `in_workers` or `on_ray`, told how many."""


def sweep(
    shards: Sequence[Shard], folder: Path, *, pool: Pool, on_retry: Callable[[WorkerDied], None]
) -> Generator[tuple[Shard, ShardResult, bool]]:
    """Yield (shard, result, stored) for every shard: first what `folder` holds, then what `pool` runs.

    Each shard is written there, as `<shard name>.json`, before it is yielded. If a worker dies, what is
    missing is run once more in half batches, after on_retry(why). Raises WorkerDied if another dies then.
    """
    missing = []
    for shard in shards:
        result = read_shard(folder, shard)
        if result is None:
            missing.append(shard)
        else:
            yield shard, result, True
    done: set[str] = set()
    for parts in (1, 2):
        left = [shard for shard in missing if shard.name not in done]
        try:
            with closing(pool([partial(run_in_parts, shard, parts) for shard in left])) as results:
                for index, result in results:
                    write_json(folder / f"{left[index].name}.json", asdict(result), indent=None)
                    done.add(left[index].name)
                    yield left[index], result, False
            return
        except WorkerDied as error:
            if parts == 2:
                raise
            on_retry(error)


def read_shard(folder: Path, shard: Shard) -> ShardResult | None:
    """What an earlier run left of `shard` in `folder`; None if it left nothing."""
    try:
        return ShardResult(**read_json(folder / f"{shard.name}.json"))
    except FileNotFoundError:
        return None


def total(timings: Iterable[dict[str, float]]) -> Timing:
    """The sum of several shards' timings."""
    result = Timing()
    for timing in timings:
        for name, value in timing.items():
            setattr(result, name, getattr(result, name) + value)
    return result
