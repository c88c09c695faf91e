"""Sweeps: the same seeds in every cell, spread over worker processes, shard by shard.

```
cell  realtime-d4    seeds 0 .. 127
shard realtime-d4.0        0 ..  63     one lockstep batch in one process, one file when done
shard realtime-d4.64      64 .. 127
```

What a shard computes depends on its cell and its seeds only, never on the number of workers. A sweep that
stops half-way keeps its finished shards; the next one reads them and runs the rest.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import connection
from pathlib import Path
from typing import Any, TypeVar

import gymnasium
import torch

from rtc.errors import InvalidArgument, RtcError
from rtc.runtime.controller import Starvation
from rtc.runtime.episode import Episode, Timing
from rtc.runtime.latency import ConstantDelay
from rtc.runtime.rollout import OnTick, rollout_batch
from rtc.runtime.strategies import Strategy
from rtc.serialise import read_json, write_json

Record = dict[str, Any]
"""One episode's numbers, as JSON holds them: see `episode_record`."""
RECORDED = (
    *("seed", "success", "failure", "ticks", "time_to_success", "total_reward", "starved_ticks"),
    *("boundary_jumps", "prefix_errors", "rms_jerk", "delays", "network_calls", "vjps", "replaced_chunks"),
)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Cell:
    """One setting to measure.

    name: unique in a sweep, fit for a file name. make_env, make_strategy: picklable, called in the worker.
    delay: ticks that every inference takes. execution_horizon: s, in rows.
    """

    name: str
    make_env: Callable[[], gymnasium.Env]
    make_strategy: Callable[[], Strategy]
    delay: int
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
        return f"{self.cell.name}.{self.seeds[0]}"


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
    envs = [shard.cell.make_env() if make_env is None else make_env(seed) for seed in shard.seeds]
    try:
        episodes, timing = rollout_batch(
            envs,
            shard.cell.make_strategy(),
            execution_horizon=shard.cell.execution_horizon,
            delay=ConstantDelay(shard.cell.delay),
            seeds=shard.seeds,
            starvation=shard.cell.starvation,
            on_tick=on_tick,
        )
    finally:
        for env in envs:
            env.close()
    return ShardResult([episode_record(episode) for episode in episodes], asdict(timing))


def episode_record(episode: Episode) -> Record:
    """The numbers of an episode, without its actions and positions; units as in `Episode`."""
    return {name: getattr(episode, name) for name in RECORDED}


def sweep(
    shards: Sequence[Shard],
    folder: Path,
    *,
    workers: int,
    on_shard: Callable[[Shard, ShardResult, bool], None],
) -> dict[str, ShardResult]:
    """Run what `folder` does not hold yet and write each shard there when it is done, as `<shard name>.json`.

    on_shard(shard, result, stored): called for each shard when it is known; `stored`: an earlier run made it.
    Returns the results by shard name, in the order of `shards`. Raises RtcError if a worker process dies.
    """
    stored = {shard.name: result for shard in shards if (result := _read(folder, shard)) is not None}
    found = dict(stored)
    for shard in shards:
        if shard.name in stored:
            on_shard(shard, stored[shard.name], True)
    missing = [shard for shard in shards if shard.name not in stored]
    with closing(in_workers([partial(run_shard, shard) for shard in missing], workers)) as results:
        for index, result in results:
            write_json(folder / f"{missing[index].name}.json", asdict(result), indent=None)
            found[missing[index].name] = result
            on_shard(missing[index], result, False)
    return {shard.name: found[shard.name] for shard in shards}


def _read(folder: Path, shard: Shard) -> ShardResult | None:
    try:
        return ShardResult(**read_json(folder / f"{shard.name}.json"))
    except FileNotFoundError:
        return None


def in_workers(jobs: Sequence[Callable[[], Result]], workers: int) -> Generator[tuple[int, Result]]:
    """Yield (index, result) as the picklable `jobs` finish in at most `workers` >= 1 processes.

    Every job runs on one thread; with one worker, or one job, in this process. An exception, and a generator
    that is closed early, ends the processes. Raises RtcError if one dies.
    """
    if workers < 1:
        raise InvalidArgument(f"workers is {workers}; at least 1 process is needed")
    if min(workers, len(jobs)) <= 1:
        with _one_thread():
            for index, job in enumerate(jobs):
                yield index, job()
        return
    os.environ["OMP_WAIT_POLICY"] = (
        "PASSIVE"  # read by the children: a thread that waits must not spin on a core
    )
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context, initializer=_begin_worker)
    try:
        with _interrupts_blocked():  # the children inherit it: the parent alone answers to Ctrl-C
            futures = {pool.submit(job): index for index, job in enumerate(jobs)}
        while futures:
            for future in wait(futures, return_when=FIRST_COMPLETED).done:
                yield futures.pop(future), future.result()
        pool.shutdown()
    except BrokenProcessPool as error:
        raise RtcError(
            "a worker process died, perhaps for lack of memory; finished shards are kept: "
            "give the same command again, with fewer --workers or a smaller --batch"
        ) from error
    finally:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
            process.join()
        pool.shutdown(cancel_futures=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker() -> None:
    """Run on one thread, and never outlive the parent."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"

    def follow() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def total(timings: Iterable[dict[str, float]]) -> Timing:
    """The sum of several shards' timings."""
    result = Timing()
    for timing in timings:
        for name, value in timing.items():
            setattr(result, name, getattr(result, name) + value)
    return result
