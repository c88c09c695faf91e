"""The pool of processes: one thread each, everybody ends with it, a death is told."""

from __future__ import annotations

import multiprocessing
import os
import signal
from functools import partial
from pathlib import Path
from time import sleep

import pytest
import torch

from rtc.errors import InvalidArgument, RtcError
from rtc.process_pool import in_workers


def identify(number: int) -> tuple[int, int]:
    return number, torch.get_num_threads()


def touch_after(seconds: float, path: Path) -> None:
    sleep(seconds)
    path.touch()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail() -> None:
    raise ValueError("as planned")


def test_every_job_runs_on_one_thread_wherever_it_runs() -> None:
    jobs = [partial(identify, number) for number in range(3)]
    torch.set_num_threads(2)
    try:
        for workers in (1, 2):
            assert sorted(in_workers(jobs, workers)) == [(number, (number, 1)) for number in range(3)]
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(("job", "error"), [(die, RtcError), (fail, ValueError)])
def test_a_failing_worker_is_reported_and_the_others_end(job, error: type[Exception]) -> None:
    with pytest.raises(error):
        list(in_workers([job, *[partial(identify, number) for number in range(3)]], 2))
    assert not multiprocessing.active_children()


def test_stopping_half_way_ends_the_workers(tmp_path: Path) -> None:
    slow = [partial(touch_after, 3.0, tmp_path / str(number)) for number in range(3)]
    results = in_workers([partial(touch_after, 0.0, tmp_path / "first"), *slow], 2)
    next(results)
    results.close()
    assert not multiprocessing.active_children()
    assert [path.name for path in tmp_path.iterdir()] == ["first"]
    with pytest.raises(InvalidArgument, match="at least 1"):
        next(in_workers([], 0))
