"""A sweep folder as `rtc sweep` leaves it, drawn at random: what the report is tested on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rtc.report.statistics import success_rate
from rtc.report.sweep_summary import FORMAT
from rtc.serialise import write_json

TASKS = {
    "Catch-v0": {
        "title": "Catch",
        "summary": "Catch a thrown ball, which a gust may turn in flight, in a cup and keep it for 0.2 s.",
        "why": "the ball does not wait, a gust moves the place where it comes down by up to 0.4 m",
        "horizon": 16,
        "tick_seconds": 0.02,
    },
    "Peg-v0": {
        "title": "Peg in a wandering socket",
        "summary": "Put a peg into a socket that wanders.",
        "why": "the socket wanders on, and what was seen is where it was",
        "horizon": 16,
        "tick_seconds": 0.02,
    },
}
STRATEGIES = ("synchronous", "naive", "realtime:schedule=exp", "conditioned", "oracle")
DELAYS = ("0", "2", "4", "8", "spiky:2:8:0.1")
# How success falls with the delay: at d = 8 this share is lost.
LOSS = {"synchronous": 0.85, "naive": 0.75, "realtime": 0.45, "conditioned": 0.12, "oracle": 0.03}


def make_cell(
    task: str,
    strategy: str,
    delay: str,
    random: np.random.Generator,
    episodes: int = 64,
    rows: int | None = None,
) -> dict[str, Any]:
    """One cell: plausible numbers that agree with each other."""
    constant = delay.isdecimal()
    drawn = [int(delay)] * 900 if constant else random.choice([2, 8], 900, p=[0.9, 0.1]).tolist()
    mean = float(np.mean(drawn))
    family = strategy.partition(":")[0]
    chance = 0.97 - LOSS.get(family, 0.3) * mean / 8
    outcomes = (random.random(episodes) < chance).astype(int)
    successes, failed = int(outcomes.sum()), int(episodes - outcomes.sum())
    dropped = int(random.integers(0, failed + 1))
    moving = family != "synchronous"
    return {
        "task": task,
        "strategy": strategy,
        "delay": delay,
        "mean_delay": mean,
        "execution_horizon": rows or max(1, round(mean)),
        "episodes": episodes,
        "successes": successes,
        "success": success_rate(successes, episodes)._asdict(),
        "failures": {name: n for name, n in (("dropped", dropped), ("timeout", failed - dropped)) if n},
        "time_to_success": 1.1 + 0.1 * mean if successes else None,
        "boundary_jump": float(0.04 + LOSS.get(family, 0.3) * mean / 20) if moving else None,
        "prefix_error": float(0.01 * mean) if moving and mean else None,
        "rms_jerk": float(120 + 40 * LOSS.get(family, 0.3) * mean + 5 * random.random()),
        "starved_ticks": 0.0 if moving else 4 * mean,
        "network_calls": 0.0 if family == "oracle" else 75.0,
        "vjps": 75.0 if family == "realtime" else 0.0,
        "delays": {str(ticks): drawn.count(ticks) for ticks in sorted(set(drawn))},
        "outcomes": "".join(map(str, outcomes)),
    }


def make_summary(
    tasks: Sequence[str] = tuple(TASKS),
    strategies: Sequence[str] = STRATEGIES,
    delays: Sequence[str] = DELAYS,
    episodes: int = 64,
) -> dict[str, Any]:
    """A summary.json of one cell for each (task, strategy, delay)."""
    random = np.random.default_rng(0)
    cells = [
        make_cell(task, strategy, delay, random, episodes)
        for task in tasks
        for strategy in strategies
        for delay in delays
    ]
    described = {
        name: TASKS.get(name, TASKS["Catch-v0"] | {"title": name.removesuffix("-v0")}) for name in tasks
    }
    return {
        "format": FORMAT,
        "commit": "0123456789abcdef",
        "machine": {"processor": "a processor", "cores": 2},
        "versions": {"rtc": "0.1.0", "torch": "2.10.0"},
        "settings": {"strategies": list(strategies), "delays": list(delays), "episodes": episodes},
        "seconds": 4321.0,
        "tasks": described,
        "cells": cells,
        "seeds": [0, episodes - 1],
    }


def write_sweep(folder: Path, summary: dict[str, Any]) -> Path:
    """The folder of a finished sweep."""
    write_json(folder / "run.json", {"settings": summary.get("settings"), "finished": True})
    write_json(folder / "summary.json", summary)
    return folder
