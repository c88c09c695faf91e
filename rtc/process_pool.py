"""A pool of processes: independent jobs in, results out as they finish."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection
from typing import TypeVar

import torch

from rtc.errors import InvalidArgument, WorkerDied

Result = TypeVar("Result")
DEATH = (
    "a worker process died, perhaps for lack of memory; finished shards are kept: "
    "give the same command again, with fewer --workers or a smaller --batch"
)
"""What a user is told who loses a worker."""


def in_workers(jobs: Sequence[Callable[[], Result]], workers: int) -> Generator[tuple[int, Result]]:
    """Yield (index, result) as the picklable `jobs` finish in at most `workers` >= 1 processes.

    Every job runs on one thread; with one worker in this process. An exception, and a generator that is
    closed early, ends the processes. Raises WorkerDied if one dies, or lacks memory.
    """
    if workers < 1:
        raise InvalidArgument(f"workers is {workers}; at least 1 process is needed")
    if not jobs:
        return
    if workers == 1:
        with one_thread():
            yield from _here(jobs)
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
    except (BrokenProcessPool, MemoryError) as error:
        raise WorkerDied(DEATH) from error
    finally:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
            process.join()
        pool.shutdown(cancel_futures=True)


def _here(jobs: Sequence[Callable[[], Result]]) -> Iterator[tuple[int, Result]]:
    try:
        for index, job in enumerate(jobs):
            yield index, job()
    except MemoryError as error:
        raise WorkerDied(DEATH) from error


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread while the block runs."""
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
