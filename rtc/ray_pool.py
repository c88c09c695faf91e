"""A pool on a Ray cluster: the jobs of `rtc.process_pool`, on as many machines as there are.

```
this process    submits the jobs, yields (index, result), alone writes files
Ray             runs each on one core; a job whose worker dies is run again, up to RETRIES times
```

What a job gives depends on its arguments alone, so it does not matter where it runs, or that it ran twice.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from rtc.errors import InvalidArgument, RtcError, WorkerDied
from rtc.process_pool import DEATH, one_thread

Result = TypeVar("Result")
LOCAL = "local"
RETRIES = 2
PATIENCE = 5.0
"""Seconds in which a cluster has to answer."""


@contextmanager
def ray_cluster(address: str, workers: int) -> Iterator[None]:
    """Join the Ray cluster at `address` ([ray://]HOST:PORT), or with "local" start one of `workers` >= 1.

    One that this process has joined already is used, and stays. Raises RtcError if there is none, or no Ray.
    """
    if workers < 1:
        raise InvalidArgument(f"workers is {workers}; at least 1 process is needed")
    ray = _ray()
    if address != LOCAL:
        _knock(address)
    if ray.is_initialized():
        yield
        return
    new = {"num_cpus": workers, "include_dashboard": False} if address == LOCAL else {}
    try:
        ray.init(address, **new, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _absent(address, error) from None
    try:
        yield
    finally:
        ray.shutdown()


def on_ray(jobs: Sequence[Callable[[], Result]]) -> Generator[tuple[int, Result]]:
    """Yield (index, result) as the picklable `jobs` finish on the cluster that `ray_cluster` joined.

    Every job runs on one core and one thread. An exception, and a generator that is closed early, cancels the
    others. Raises WorkerDied if a worker died at one job RETRIES + 1 times, or a job lacks memory.
    """
    ray = _ray()
    task = ray.remote(num_cpus=1, max_retries=RETRIES)(_run)
    waiting = {task.remote(job): index for index, job in enumerate(jobs)}
    try:
        while waiting:
            [done], _ = ray.wait(list(waiting), num_returns=1)
            index = waiting.pop(done)
            yield index, ray.get(done)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, MemoryError):
            raise WorkerDied(DEATH) from error
        raise error.cause from None
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise WorkerDied(DEATH) from error
    except ray.exceptions.RayError as error:
        raise RtcError(
            f"the Ray cluster failed ({_first_line(error)}); finished shards are kept: give the command again"
        ) from error
    finally:
        for left in waiting:
            ray.cancel(left)  # by force it may abort this process (Ray 2.60)


def _run(job: Callable[[], Result]) -> Result:
    with one_thread():
        return job()


def _ray() -> Any:
    """Ray, which tells nobody that it is used."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise RtcError(
            "ray is not installed; pip install 'rtc[ray]', or leave --ray out: processes do it, too"
        ) from None


def _knock(address: str) -> None:
    """Whether somebody listens there: Ray itself would try for a minute."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdecimal()):
        raise InvalidArgument(f"--ray {address!r} is neither {LOCAL} nor HOST:PORT of a cluster's head node")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise _absent(address, error) from None


def _absent(address: str, error: Exception) -> RtcError:
    return RtcError(
        f"no Ray cluster answers at {address} ({_first_line(error)}); start one there (ray start --head), "
        "give --ray local for one on this machine, or leave --ray out; one with a token wants RAY_AUTH_TOKEN"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
