"""What a finished sweep leaves: episodes.parquet, one row an episode, and summary.json, one entry a cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

from envs.task import ArmTask
from rtc.cli.build import Builder
from rtc.cli.provenance import commit, machine
from rtc.cli.simulate import Work
from rtc.cli.sweep_plan import Setting, SweepPlan
from rtc.errors import RtcError
from rtc.report.statistics import Summary, summarise
from rtc.report.sweep_summary import FORMAT, SUMMARY
from rtc.report.table import refusals
from rtc.serialise import whole_file, write_json
from rtc.sweep import Record, read_shard

EPISODES = "episodes.parquet"
COLUMNS = {
    **{"task": "string", "strategy": "string", "delay": "string", "execution_horizon": "int64"},
    **{"seed": "int64", "success": "bool", "failure": "string", "ticks": "int64"},
    **{"time_to_success": "float64", "total_reward": "float64", "starved_ticks": "int64"},
    **{"boundary_jump": "float64", "prefix_error": "float64", "rms_jerk": "float64"},
    **{"mean_delay": "float64", "network_calls": "int64", "vjps": "int64", "replaced_chunks": "int64"},
}
"""Of episodes.parquet, with their types. boundary_jump, prefix_error: medians over the episode's chunks, and
mean_delay their mean; null: there was none."""


@dataclass
class SweepResult:
    """The cells of summary.json, what the tables are made of, and a line a cell with refused chunks."""

    cells: list[dict[str, Any]] = field(default_factory=list)
    summaries: dict[Setting, Summary] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def check_parquet() -> None:
    """Raise RtcError, saying what to install, if nothing here writes parquet."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise RtcError("pyarrow is not installed; pip install 'rtc[sweep]' brings it") from None


def write_episodes(plan: SweepPlan, folder: Path, shards: Path, batch: int) -> SweepResult:
    """Write episodes.parquet from the finished `shards`, and sum them up; one cell is in memory at a time."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()])
    result = SweepResult()
    with whole_file(folder / EPISODES) as temporary, ParquetWriter(temporary, schema) as writer:
        for setting in plan.cells:
            records = _records(plan, setting, shards, batch)
            writer.write_table(pa.Table.from_pylist([_row(setting, each) for each in records], schema))
            summary = summarise(setting.strategy, setting.delay, setting.execution_horizon, records)
            result.summaries[setting] = summary
            result.cells.append(_cell(setting, summary, records, plan.cells[setting].delay.initial))
            result.warnings += refusals({(setting.strategy, setting.delay): records})
    return result


def write_summary(
    plan: SweepPlan, folder: Path, result: SweepResult, work: Work, asked: dict[str, Any]
) -> Any:
    """Write summary.json; its document. asked: what the results do not depend on, for the record."""
    settings = {name: value for name, value in plan.settings.items() if name not in ("format", "versions")}
    document = {
        "format": FORMAT,
        "commit": commit(),
        "machine": machine(),
        "versions": plan.settings["versions"],
        "settings": settings | asked,
        "seconds": work.seconds,
        "timing": work.document(),
        "tasks": {task: _task(builder) for task, builder in plan.builders.items()},
        "cells": result.cells,
        "left_out": [asdict(each) for each in plan.left_out],
        "warnings": result.warnings,
        "seeds": [plan.seeds[0], plan.seeds[-1]],
    }
    write_json(folder / SUMMARY, document)
    return document


def _records(plan: SweepPlan, setting: Setting, shards: Path, batch: int) -> list[Record]:
    found = []
    for shard in plan.shards_of(setting, batch):
        result = read_shard(shards, shard)
        if result is None:
            raise RtcError(f"{shards}/{shard.name}.json is gone; give the same command again to make it anew")
        found += result.episodes
    return found


def _row(setting: Setting, record: Record) -> dict[str, Any]:
    return {
        **asdict(setting),
        **{name: record[name] for name in COLUMNS if name in record},
        "boundary_jump": _over(median, record["boundary_jumps"]),
        "prefix_error": _over(median, record["prefix_errors"]),
        "mean_delay": _over(fmean, record["delays"]),
    }


def _over(reduce: Any, values: Sequence[float]) -> float | None:
    return float(reduce(values)) if values else None


def _cell(setting: Setting, summary: Summary, records: Sequence[Record], expected: int) -> dict[str, Any]:
    document = asdict(setting) | asdict(summary)
    if summary.mean_delay is None:  # no episode was long enough for a second chunk
        document["mean_delay"] = float(expected)
    delays = Counter(delay for record in records for delay in record["delays"])
    return document | {
        "success": summary.success._asdict(),
        "replaced_chunks": fmean(record["replaced_chunks"] for record in records),
        "delays": {str(delay): delays[delay] for delay in sorted(delays)},
        # one mark an episode, in the order of the seeds: enough to pair any two cells
        "outcomes": "".join("1" if record["success"] else "0" for record in records),
    }


def _task(builder: Builder) -> dict[str, Any]:
    env = builder.env()()
    env.close()
    task = env.unwrapped
    words = {"title": builder.task, "summary": "", "why": ""}
    if isinstance(task, ArmTask):
        words = {name: getattr(task.card, name) for name in words}
    return words | {"horizon": builder.policy.horizon, "tick_seconds": builder.tick_seconds}
