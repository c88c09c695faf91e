"""The tables of docs/strategies.md: what strategies say of themselves, and how far their chunks stray.

python -m benchmarks.strategies [--episodes 64] [--only-report]
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

import envs
from benchmarks.gate_tables import table
from benchmarks.study import DOCS, RESULTS, write_between
from policies.checkpoint import load_policy, shipped_checkpoint
from rtc.cli.build import Builder
from rtc.cli.provenance import available_cores, commit, machine
from rtc.cli.strategies import ABOUT
from rtc.process_pool import in_workers
from rtc.runtime.latency import ConstantDelay
from rtc.runtime.strategies.base import Noise
from rtc.runtime.strategies.baselines import Naive
from rtc.runtime.strategies.guard import RANGE, excess
from rtc.runtime.strategies.realtime import Realtime
from rtc.serialise import read_json, write_json
from rtc.sweep import Cell, Shard, run_shard

RESULT = RESULTS / "guard.json"
QUANTILES = (0.5, 0.99, 0.999, 1.0)
DELAYS = (4, 8)
CLIPS = (None, 5.0, 50.0)  # of the guidance weight; None: no guidance


@dataclass(frozen=True)
class _Noting:
    """Notes how far each chunk would leave the actions' range, before it is clipped and before any guard."""

    noted: list[np.ndarray] = field(default_factory=list, init=False)

    def flow(self, *arguments: Any, **settings: Any) -> tuple[Noise, list[Tensor]]:
        """The strategy's, noted."""
        chunks, finite = super().flow(*arguments, **settings)  # pyright: ignore[reportAttributeAccessIssue]
        self.noted.append(excess(self, chunks).numpy())  # pyright: ignore[reportArgumentType]
        return chunks, finite


@dataclass(frozen=True)
class NotingNaive(_Noting, Naive):
    """Naive, noted."""


@dataclass(frozen=True)
class NotingRealtime(_Noting, Realtime):
    """Hard-mask guidance, noted."""


def excesses(name: str, clip: float | None, seeds: range) -> list[float]:
    """Quantiles over the chunks of all seeds and DELAYS."""
    task = f"{name}-v0"
    builder, policy = Builder.check(task, None), load_policy(shipped_checkpoint(task), task)
    noting = (
        NotingNaive(policy) if clip is None else NotingRealtime(policy, schedule="zeros", max_weight=clip)
    )
    for delay in DELAYS:
        rows, starvation = max(delay, 4), builder.starvation
        cell = Cell("noted", builder.env(), lambda: noting, ConstantDelay(delay), rows, starvation)
        run_shard(Shard(cell, tuple(seeds)))
    return np.quantile(np.nan_to_num(np.concatenate(noting.noted), nan=np.inf), QUANTILES).tolist()


def measure(episodes: int) -> dict[str, Any]:
    """Every task and clip."""
    asked = [(name, clip) for name in envs.CLASSES for clip in CLIPS]
    jobs = [partial(excesses, name, clip, range(600_000, 600_000 + episodes)) for name, clip in asked]
    document: dict[str, Any] = {
        "commit": commit(),
        "machine": machine(),
        "episodes": episodes,
        "range": RANGE,
    }
    found = dict(in_workers(jobs, available_cores()))
    document["rows"] = [
        {"task": name, "clip": clip, "quantiles": found[index]} for index, (name, clip) in enumerate(asked)
    ]
    return document


def report() -> None:
    """Write both tables."""
    rows = [
        [f"`{name}`", about.summary, about.calls, "; ".join(about.needs) or "-", about.source]
        for name, about in ABOUT.items()
    ]
    write_between(
        DOCS / "strategies.md", "strategies", table(["", "what it does", "calls", "needs", "source"], rows)
    )
    if RESULT.exists():
        found = [
            [row["task"], "no guidance" if row["clip"] is None else f"clip {row['clip']:g}"]
            + [f"{value:.2f}" for value in row["quantiles"]]
            for row in read_json(RESULT)["rows"]
        ]
        head = ["", "", *(f"{100 * quantile:g} %" for quantile in QUANTILES)]
        write_between(DOCS / "strategies.md", "guard", table(head, found))


@click.command()
@click.option("--episodes", type=click.IntRange(1), default=64, show_default=True, help="Episodes a delay.")
@click.option("--only-report", is_flag=True, help="Write the tables, simulate nothing.")
def main(episodes: int, only_report: bool) -> None:
    """Measure and report."""
    torch.set_num_threads(1)
    if not only_report:
        write_json(RESULT, measure(episodes))
    report()


if __name__ == "__main__":
    main()
