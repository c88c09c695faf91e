"""Progress on a terminal; silence elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Advance(Protocol):
    """Move a bar on by `number` units; `work`: what the rate counts, if not the units themselves."""

    def __call__(self, number: int, work: float | None = None) -> None:
        """Move on."""
        ...


@contextmanager
def progress(
    console: Console,
    what: str,
    total: int,
    unit: str,
    *,
    done: int = 0,
    rate_unit: str | None = None,
    enabled: bool = True,
) -> Iterator[Advance]:
    """A bar over `total` units with a rate and the time left; yields the function that advances it.

    done: units that an earlier run did; they say nothing about speed. rate_unit: what the rate is of, if not
    of the units. Without a terminal, or not `enabled`, nothing is drawn.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit + "  {task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not (enabled and console.is_terminal),
        transient=True,
    )
    task, start, worked = bar.add_task(what, total=total, completed=done, rate=""), perf_counter(), 0.0

    def advance(number: int, work: float | None = None) -> None:
        nonlocal worked
        worked += number if work is None else work
        rate = worked / max(perf_counter() - start, 1e-9)
        bar.update(task, advance=number, rate=f"{rate:,.0f} {rate_unit or unit}/s")

    with bar:
        yield advance
