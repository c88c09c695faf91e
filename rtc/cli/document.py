"""results.json: what was asked, what made it, every episode, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rtc.cli.plan import Plan
from rtc.cli.provenance import commit, machine
from rtc.report.statistics import Summary, summarise
from rtc.report.table import closing_line, refusals
from rtc.sweep import Record, ShardResult


@dataclass(frozen=True)
class Outcome:
    """A finished run: (strategy, delay) -> its episodes, in the order of the seeds, and its summary."""

    plan: Plan
    records: dict[tuple[str, int], list[Record]]
    summaries: dict[tuple[str, int], Summary]
    tick_seconds: float

    @classmethod
    def collect(cls, plan: Plan, results: Mapping[str, ShardResult]) -> Outcome:
        """Put the shards of every cell together again."""
        records = {
            key: [record for shard in plan.shards_of(*key) for record in results[shard.name].episodes]
            for key in plan.cells
        }
        summaries = {
            key: summarise(*key, plan.cells[key].execution_horizon, episodes)
            for key, episodes in records.items()
        }
        return cls(plan, records, summaries, plan.builder.tick_seconds)

    @property
    def conclusion(self) -> str:
        """The result in words."""
        successes = {key: [record["success"] for record in self.records[key]] for key in self.records}
        return closing_line(successes, self.plan.builder.policy.horizon, 1000 * self.tick_seconds)

    @property
    def warnings(self) -> list[str]:
        """A line a cell in which chunks were refused."""
        return refusals(self.records)


def results_document(outcome: Outcome, arguments: dict[str, Any], timing: dict[str, Any]) -> dict[str, Any]:
    """The document; all but `timing` is the same however often the run was interrupted."""
    plan = outcome.plan
    return {
        "arguments": {name: _plain(value) for name, value in arguments.items()},
        "settings": plan.settings,
        "commit": commit(),
        "machine": machine(),
        "policy": str(plan.builder.folder),
        "horizon": plan.builder.policy.horizon,
        "tick_seconds": outcome.tick_seconds,
        "seeds": list(plan.seeds),
        "conclusion": outcome.conclusion,
        "warnings": outcome.warnings,
        "timing": timing,
        "cells": [
            _summary_document(outcome.summaries[key]) | {"episodes": outcome.records[key]}
            for key in plan.cells
        ],
    }


def without_episodes(document: dict[str, Any]) -> dict[str, Any]:
    """The document with summaries only."""
    cells = [
        {name: value for name, value in cell.items() if name != "episodes"} for cell in document["cells"]
    ]
    return document | {"cells": cells}


def _summary_document(summary: Summary) -> dict[str, Any]:
    document = asdict(summary)
    identity = {name: document.pop(name) for name in ("strategy", "delay", "execution_horizon")}
    return identity | {"summary": document | {"success": summary.success._asdict()}}


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, list)) else str(value)
