"""Progress on a terminal; silence elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rtc.sweep import Shard, ShardResult


class SweepProgress:
    """A bar over episodes, with control steps a second and the time left; a context manager."""

    def __init__(self, episodes: int, console: Console, enabled: bool) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("episodes  {task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not (enabled and console.is_terminal),
            transient=True,
        )
        self._task = self._bar.add_task("simulating", total=episodes, rate="")
        self._start, self._steps = perf_counter(), 0.0

    def __enter__(self) -> SweepProgress:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def on_shard(self, shard: Shard, result: ShardResult, stored: bool) -> None:
        """Count a shard; `stored`: it was there before and says nothing about speed."""
        if stored:
            self._bar.update(self._task, advance=len(shard.seeds))
            return
        self._steps += result.timing["control_steps"]
        rate = f"{self._steps / (perf_counter() - self._start):,.0f} control steps/s"
        self._bar.update(self._task, advance=len(shard.seeds), rate=rate)


@contextmanager
def counted(
    console: Console, what: str, total: int, unit: str, done: int = 0
) -> Iterator[Callable[[int], None]]:
    """A bar over `total` units with their rate and the time left; yields the function that advances it.

    done: units that an earlier run did; they say nothing about speed.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    task, start, counted_here = bar.add_task(what, total=total, completed=done, rate=""), perf_counter(), 0

    def advance(number: int) -> None:
        nonlocal counted_here
        counted_here += number
        bar.update(task, advance=number, rate=f"{counted_here / max(perf_counter() - start, 1e-9):,.1f}/s")

    with bar:
        yield advance
