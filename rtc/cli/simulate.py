"""Simulating a plan's shards in view of a user: a bar, what is kept when interrupted, where the time went."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console

from rtc.cli.progress import progress
from rtc.errors import WorkerDied
from rtc.sweep import Pool, Shard, ShardResult, sweep, total


@dataclass
class Work:
    """What was simulated: the timing of each new shard, how many were stored, and the seconds it took."""

    timings: list[dict[str, float]] = field(default_factory=list)
    stored: int = 0
    seconds: float = 0.0

    def document(self) -> dict[str, Any]:
        """Where the time went; the parts are summed over processes."""
        timing, seconds = total(self.timings), self.seconds
        return {
            "wall_seconds": seconds,
            "control_steps": int(timing.control_steps),
            "control_steps_per_second": timing.control_steps / seconds if seconds > 0 else 0.0,
            "control_steps_per_second_of_one_busy_process": timing.steps_per_second,
            "physics_seconds": timing.env,
            "network_seconds": timing.policy,
            "other_seconds": timing.other,
            "shards_resumed": self.stored,
        }


def simulate(
    shards: Sequence[Shard],
    folder: Path,
    *,
    pool: Pool,
    errors: Console,
    shown: bool = True,
    on_result: Callable[[Shard, ShardResult], None] = lambda shard, result: None,
) -> Work:
    """Run the shards that `folder` does not hold, under a bar on `errors` if it is `shown`."""
    work, start = Work(), perf_counter()
    episodes = sum(len(shard.seeds) for shard in shards)

    def on_retry(error: WorkerDied) -> None:
        say(errors, "warning: a worker process died; what was not finished is run again in half batches")

    with progress(
        errors, "simulating", episodes, "episodes", rate_unit="control steps", enabled=shown
    ) as advance:
        try:
            for shard, result, stored in sweep(shards, folder, pool=pool, on_retry=on_retry):
                advance(len(shard.seeds), 0.0 if stored else result.timing["control_steps"])
                work.stored += stored
                work.timings += [] if stored else [result.timing]
                on_result(shard, result)
        except KeyboardInterrupt:
            kept = sum((folder / f"{shard.name}.json").exists() for shard in shards)
            say(
                errors,
                f"interrupted; {kept} of {len(shards)} parts are kept in {folder}: "
                "the same command, without --force, resumes",
            )
            raise
    work.seconds = perf_counter() - start
    return work


def say(errors: Console, line: str) -> None:
    """One line about the run, apart from its results."""
    errors.print(f"rtc: {' '.join(line.split())}", markup=False)
