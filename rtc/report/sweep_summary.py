"""summary.json of a finished sweep, read with every doubt resolved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rtc.errors import InvalidArgument
from rtc.serialise import read_json

SUMMARY = "summary.json"
FORMAT = 2
"""Of summary.json and episodes.parquet; results of another one are not mixed with these."""

Summary = dict[str, Any]
Cell = dict[str, Any]
"""One (task, strategy, delay, execution_horizon) in numbers, as summary.json holds it."""

_NUMBER = (int, float)
_MAYBE = (int, float, type(None))
_CELL = {
    **{"task": str, "strategy": str, "delay": str, "mean_delay": _NUMBER, "execution_horizon": int},
    **{"episodes": int, "successes": int, "success": dict, "failures": dict, "time_to_success": _MAYBE},
    **{"boundary_jump": _MAYBE, "prefix_error": _MAYBE, "rms_jerk": _MAYBE, "starved_ticks": _NUMBER},
    **{"network_calls": _NUMBER, "vjps": _NUMBER, "delays": dict, "outcomes": str},
}
_TASK = {"title": str, "summary": str, "why": str, "horizon": int, "tick_seconds": _NUMBER}


def read_summary(folder: Path) -> Summary:
    """The summary of the finished sweep in `folder`; InvalidArgument says what is wrong and what to run."""
    if not folder.is_dir():
        raise InvalidArgument(f"{folder} is no folder; give the one that `rtc sweep --out` wrote")
    if not _finished(folder):
        raise InvalidArgument(
            f"{folder} holds an unfinished sweep; give the `rtc sweep` command that began it once more, with "
            f"--out {folder}: it goes on where it stopped"
        )
    path = folder / SUMMARY
    if not path.is_file():
        other = " (results.json is a run of `rtc rollout`)" if (folder / "results.json").exists() else ""
        raise InvalidArgument(
            f"{folder} has no {SUMMARY}{other}; give the folder that `rtc sweep --out` wrote"
        )
    try:
        summary = read_json(path)
    except ValueError:
        raise InvalidArgument(f"{path} is no JSON; run the sweep again: `rtc sweep ... --force`") from None
    _check(summary, path)
    return summary


def _finished(folder: Path) -> bool:
    """False if run.json says that the sweep is not finished; a folder may have been passed on without it."""
    try:
        return bool(read_json(folder / "run.json")["finished"])
    except (OSError, ValueError, TypeError, KeyError):
        return True


def _check(summary: Any, path: Path) -> None:
    if not isinstance(summary, dict) or summary.get("format") != FORMAT:
        found = summary.get("format") if isinstance(summary, dict) else None
        wrote = summary.get("versions", {}).get("rtc") if isinstance(summary, dict) else None
        raise InvalidArgument(
            f"{path} has format {found} and this rtc reads format {FORMAT}: run the sweep again into another "
            "folder (`rtc sweep ... --out DIR`)"
            + (f", or report it with rtc {wrote}, which wrote it" if wrote else "")
        )
    for name, kind in (("tasks", dict), ("cells", list), ("settings", dict)):
        if not isinstance(summary.get(name), kind):
            raise InvalidArgument(f"{path} has no {name!r}; run the sweep again: `rtc sweep ... --force`")
    if not summary["cells"]:
        raise InvalidArgument(
            f"{path} has no cell: no strategy could run at any delay; run a sweep with others "
            "(`rtc strategies` says what each one needs)"
        )
    for name, task in summary["tasks"].items():
        _check_keys(task, _TASK, f"{path}: task {name}")
    for place, cell in enumerate(summary["cells"]):
        _check_keys(cell, _CELL, f"{path}: cell {place}")
        _check_keys(
            cell["success"], dict.fromkeys(("value", "low", "high"), _NUMBER), f"{path}: cell {place}"
        )
        if cell["task"] not in summary["tasks"]:
            raise InvalidArgument(
                f"{path}: cell {place} is of {cell['task']}, which 'tasks' does not describe"
            )


def _check_keys(found: Any, expected: dict[str, Any], where: str) -> None:
    for name, kind in expected.items():
        if not isinstance(found, dict) or not isinstance(found.get(name), kind):
            raise InvalidArgument(
                f"{where} has no valid {name!r}; run the sweep again: `rtc sweep ... --force`"
            )
