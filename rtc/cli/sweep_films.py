"""`rtc sweep --videos`: a film a task, strategies side by side on the same seed at one delay.

```
videos/Catch-v0.mp4    | naive | best      |     naive, the two best of the others and the oracle,
                       | next  | oracle    |     as far as the sweep has them
videos/Catch-v0.json   what is in it, and why that seed
```

Delay: the one whose mean is nearest to a quarter of a chunk, the first of equals. Of each strategy the
execution horizon with most success there. Seed: the first on which these strategies end differently. Nothing
is chosen by looking at it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtc.cli.pictures import attempt, shoot
from rtc.cli.sweep_plan import Setting, SweepPlan
from rtc.errors import InvalidArgument
from rtc.report.film import first_difference
from rtc.report.sweep_summary import Cell, Summary
from rtc.report.winners import NAIVE, ORACLE
from rtc.run_folder import VIDEOS
from rtc.serialise import read_json, write_json

BY_RULE = "rule"
"""The value of --videos that leaves the strategies to the rule above."""
MOST = 4  # strategies in a film: more are too small on a phone
IMAGE_SIZE = (256, 320)  # height, width in pixels, of each
LIMIT = 390_000  # bytes of a film, so that a page holds one of each task

Say = Callable[[str], None]


def check_videos(asked: Sequence[str], strategies: Sequence[str]) -> None:
    """Raise InvalidArgument unless `asked` is the rule, or 1 to 4 of the sweep's strategies."""
    if list(asked) == [BY_RULE]:
        return
    missing = [label for label in asked if label not in strategies]
    if missing:
        raise InvalidArgument(f"--videos {missing[0]}: this sweep has {', '.join(strategies)}")
    if len(asked) > MOST:
        raise InvalidArgument(f"--videos with {len(asked)} strategies; a film has room for {MOST}")


@dataclass(frozen=True)
class Filming:
    """What is filmed: `asked` strategies of a plan, into `folder`, by `workers`; `say` a warning."""

    plan: SweepPlan
    folder: Path
    asked: Sequence[str]
    batch: int
    workers: int
    say: Say


def write_films(filming: Filming, summary: Summary) -> list[Path]:
    """Write the films that are missing, and return all; one that cannot be made costs a line."""
    films = []
    for task in filming.plan.builders:
        cells = [cell for cell in summary["cells"] if cell["task"] == task]
        chosen = choose(cells, filming.asked, filming.plan.builders[task].policy.horizon)
        if chosen:
            films.append(_write_film(filming, task, chosen))
        else:
            filming.say(f"no film of {task}: none of {', '.join(filming.asked)} ran there")
    return [film for film in films if film is not None]


def _write_film(filming: Filming, task: str, chosen: Sequence[Cell]) -> Path | None:
    seed, note = choose_seed(chosen, filming.plan.seeds)
    path = filming.folder / VIDEOS / f"{task}.mp4"
    about = {"caption": _caption(task, chosen, note), "seed": seed, "cells": [_key(cell) for cell in chosen]}
    if path.exists() and _about(path) == about:
        return path

    def draw() -> Path:
        from rtc.report.video import write_video

        shards = {
            cell["strategy"]: shard
            for cell in chosen
            for shard in filming.plan.shards_of(Setting(**_key(cell)), filming.batch)
            if seed in shard.seeds
        }
        films, _ = shoot(shards, seed, filming.plan.builders[task], IMAGE_SIZE, filming.workers)
        write_video(films, path, columns=min(2, len(films)), note=note, limit=LIMIT)
        write_json(path.with_suffix(".json"), about)
        return path

    return attempt(draw, f"film of {task}", filming.say)


def choose(cells: Sequence[Cell], asked: Sequence[str], horizon: int) -> list[Cell]:
    """The cells of one task that are filmed, a strategy each, by the rule or those that were asked for."""
    by_rule = list(asked) == [BY_RULE]
    cells = [cell for cell in cells if by_rule or cell["strategy"] in asked]
    if not cells:
        return []
    delay = min(cells, key=lambda cell: abs(cell["mean_delay"] - horizon / 4))["delay"]
    best: dict[str, Cell] = {}
    for cell in cells:
        held = best.get(cell["strategy"])
        if cell["delay"] == delay and (held is None or cell["successes"] > held["successes"]):
            best[cell["strategy"]] = cell
    if not by_rule:
        return [best[label] for label in asked if label in best]
    first = [cell for label, cell in best.items() if label == NAIVE]
    last = [cell for label, cell in best.items() if label.split(":")[0] == ORACLE][:1]
    others = [cell for label, cell in best.items() if label != NAIVE and label.split(":")[0] != ORACLE]
    return [*first, *sorted(others, key=lambda cell: -cell["successes"])[:2], *last]


def choose_seed(cells: Sequence[Cell], seeds: range) -> tuple[int, str]:
    """The seed that is filmed, and why it is this one."""
    place = first_difference([[mark == "1" for mark in cell["outcomes"]] for cell in cells])
    if place is None:
        return seeds[0], f"seed {seeds[0]}, the first: all end alike on all {len(seeds)}"
    return seeds[place], f"seed {seeds[place]}, the first of {len(seeds)} on which they end differently"


def _key(cell: Cell) -> dict[str, Any]:
    return {name: cell[name] for name in ("task", "strategy", "delay", "execution_horizon")}


def _caption(task: str, cells: Sequence[Cell], note: str) -> str:
    labels = ", ".join(f"{cell['strategy']} (s = {cell['execution_horizon']})" for cell in cells)
    return f"{task} at d = {cells[0]['delay']}: {labels}; {note}. Half speed."


def _about(path: Path) -> Any:
    try:
        return read_json(path.with_suffix(".json"))
    except (OSError, ValueError):
        return None
