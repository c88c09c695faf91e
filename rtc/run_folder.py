"""The folder of a run: begun, interrupted, resumed, finished; never overwritten unasked.

| the folder                           | without force | with force               |
|--------------------------------------|---------------|--------------------------|
| does not exist, or is empty          | begin         | begin                    |
| an unfinished run of these arguments | resume        | empty it, begin          |
| an unfinished run of others          | OutputExists  | empty it, begin          |
| a finished run                       | OutputExists  | empty it, begin          |
| anything else                        | OutputExists  | OutputExists             |

Emptying removes the files that a run writes, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtc.errors import OutputExists
from rtc.serialise import read_json, write_json

RUN, CELLS, VIDEOS = "run.json", "cells", "videos"
WRITTEN = (
    "results.json",
    "plot.png",
    "video.mp4",
    "frames.png",
    "summary.json",
    "episodes.parquet",
    "report.html",
)


@dataclass(frozen=True)
class RunFolder:
    """A folder that this run may write into. resumed: it holds what an interrupted run left."""

    path: Path
    resumed: bool
    settings: dict[str, Any]

    @property
    def cells(self) -> Path:
        """Where finished shards are kept until the run is finished."""
        return self.path / CELLS

    def finish(self) -> None:
        """Note that the run is complete; the shards, which the results repeat, go."""
        write_json(self.path / RUN, {"settings": self.settings, "finished": True})
        shutil.rmtree(self.cells, ignore_errors=True)


def fingerprint(*files: Path) -> str:
    """SHA-256 over the contents of `files`, hexadecimal."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def check_folder(path: Path, settings: dict[str, Any], force: bool) -> bool:
    """Whether `path` holds an unfinished run of these `settings`; touches nothing.

    settings: all that decides the results, as JSON can hold it. Raises OutputExists as in the table above.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return False
    try:
        run = read_json(path / RUN)
        before, finished = dict(run["settings"]), bool(run["finished"])
    except (OSError, ValueError, TypeError, KeyError):
        raise OutputExists(
            f"{path} exists and is no run of this command; it is left alone: choose another --out"
        ) from None
    if force:
        return False
    if finished:
        raise OutputExists(f"{path} holds a finished run; choose another --out, or replace it with --force")
    settings = json.loads(json.dumps(settings))
    differing = [key for key in settings | before if settings.get(key) != before.get(key)]
    if differing:
        raise OutputExists(
            f"{path} holds an unfinished run with other arguments "
            f"({_differences(differing, before, settings)}); give those to "
            "resume it, choose another --out, or replace it with --force"
        )
    return True


def earlier_settings(path: Path) -> dict[str, Any]:
    """The settings of the run in `path`, finished or not; {} if there is none."""
    try:
        return dict(read_json(path / RUN)["settings"])
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def holds_finished(path: Path, settings: dict[str, Any]) -> bool:
    """Whether `path` holds a finished run of these `settings`."""
    try:
        run = read_json(path / RUN)
        return bool(run["finished"]) and run["settings"] == json.loads(json.dumps(settings))
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _differences(keys: list[str], before: dict[str, Any], now: dict[str, Any]) -> str:
    def short(value: Any) -> str:
        text = json.dumps(value)
        return text if len(text) <= 40 else text[:12] + "..." + text[-4:]

    return ", ".join(f"{key}: {short(before.get(key))} then, {short(now.get(key))} now" for key in keys)


def open_folder(path: Path, settings: dict[str, Any], force: bool) -> RunFolder:
    """Begin or resume a run in `path`, when all else has been validated. Raises OutputExists."""
    resumed = check_folder(path, settings, force)
    if not resumed:
        if path.exists():
            shutil.rmtree(path / CELLS, ignore_errors=True)
            for name in WRITTEN:
                (path / name).unlink(missing_ok=True)
            for about in (path / VIDEOS).glob("*.json"):  # a film of somebody else's has none
                about.with_suffix(".mp4").unlink(missing_ok=True)
                about.unlink()
        # Before anything else: a folder without it would be taken for somebody else's.
        write_json(path / RUN, {"settings": settings, "finished": False})
    return RunFolder(path, resumed, settings)
