"""Several sweeps on the same seeds as one: their cells side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rtc.errors import InvalidArgument
from rtc.report.sweep_summary import Cell, Summary, read_summary


def read_merged(folders: Sequence[Path]) -> Summary:
    """`merge` of the finished sweeps in `folders`; raises InvalidArgument."""
    return merge({folder: read_summary(folder) for folder in folders})


def merge(summaries: Mapping[Path, Summary]) -> Summary:
    """One summary of all cells, in the order of the sweeps, given by their folders: at least one.

    Commit and machine are those of the last, the settings are by folder, seconds add up. A cell that two have
    counts once, and one that another has is not missing.
    Raises InvalidArgument where seeds, versions of packages, weights or tasks differ, so that cells are no
    pairs, and where two sweeps have other results of one cell.
    """
    _check(summaries)
    parts = list(summaries.values())
    if len(parts) == 1:
        return parts[0]
    cells = _cells(summaries)
    there = {_place(cell) for cell in cells}
    tasks = {name: task for part in parts for name, task in part["tasks"].items()}
    return parts[-1] | {
        "settings": {str(folder): part["settings"] for folder, part in summaries.items()},
        "seconds": sum(part.get("seconds") or 0.0 for part in parts),
        "tasks": tasks,
        "cells": cells,
        "left_out": [
            each for part in parts for each in part.get("left_out", []) if _place(each) not in there
        ],
        "warnings": [warning for part in parts for warning in part.get("warnings", [])],
    }


def _check(summaries: Mapping[Path, Summary]) -> None:
    """Raise InvalidArgument for anything that two of them both say, but differently."""
    said: dict[str, tuple[Any, Path]] = {}
    for folder, summary in summaries.items():
        for what, value in _decisive(summary).items():
            before, earlier = said.setdefault(what, (value, folder))
            if before != value:
                raise InvalidArgument(
                    f"{earlier} and {folder} cannot be in one report, because {what} differ"
                    f"{'' if isinstance(value, dict) else f' ({_short(before)} and {_short(value)})'}: run "
                    "one of the sweeps again like the other, or report each alone"
                )


def _decisive(summary: Summary) -> dict[str, Any]:
    """What cells must have in common to be pairs, by the words for it."""
    weights = summary["settings"].get("policy_sha256", {})
    return {
        "the seeds": summary.get("seeds"),
        **{f"the versions of {name}": each for name, each in summary.get("versions", {}).items()},
        **{f"the descriptions of {name}": task for name, task in summary["tasks"].items()},
        **{
            f"the weights {name} of {task}": digest
            for task, digests in weights.items()
            for name, digest in digests.items()
        },
    }


def _cells(summaries: Mapping[Path, Summary]) -> list[Cell]:
    """Each once, in order."""
    found: dict[tuple[Any, ...], tuple[Cell, Path]] = {}
    for folder, summary in summaries.items():
        for cell in summary["cells"]:
            before, earlier = found.setdefault((*_place(cell), cell["execution_horizon"]), (cell, folder))
            if before["outcomes"] != cell["outcomes"]:
                raise InvalidArgument(
                    f"{earlier} and {folder} have other results of {cell['strategy']} on {cell['task']} at "
                    f"delay {cell['delay']}: their code differs; run both again with the same"
                )
    return [cell for cell, _ in found.values()]


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) else str(value)


def _place(cell: Mapping[str, Any]) -> tuple[str, str, str]:
    return cell["task"], cell["strategy"], cell["delay"]
