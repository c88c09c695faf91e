"""`rtc demos`: record delay-aware demonstrations of a task's expert."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from envs.demos import Recipe
from rtc.cli.demos_folder import DataFolder, Tally
from rtc.cli.demos_source import Source, make_source
from rtc.cli.environments import check_task
from rtc.cli.options import NameList, task_option
from rtc.cli.progress import progress
from rtc.cli.provenance import available_cores, versions
from rtc.demonstrations import Recording
from rtc.lerobot_dataset import need
from rtc.lerobot_writer import write_lerobot
from rtc.process_pool import in_workers
from rtc.shards import write_shard

SHARD = 50  # episodes; a shard is what an interrupted recording loses


def record_shard(
    record: Callable[[list[int]], Recording], folder: Path, index: int, seeds: list[int]
) -> None:
    """Record one shard and write it."""
    write_shard(folder, index, record(seeds))


def record_missing(
    folder: DataFolder, source: Source, shards: list[list[int]], workers: int, console: Console
) -> None:
    """Record the shards that are not there, with progress."""
    missing = folder.missing
    jobs = [partial(record_shard, source.record, folder.path, index, shards[index]) for index in missing]
    total = sum(map(len, shards))
    done = total - sum(len(shards[index]) for index in missing)
    with (
        progress(console, "recording", total, "episodes", done=done) as advance,
        closing(in_workers(jobs, workers)) as results,
    ):
        for index, _ in results:
            advance(len(shards[missing[index]]))


def assemble(folder: DataFolder, source: Source, episodes: int, console: Console) -> Tally:
    """Count what was recorded and, where that is its form, make a LeRobot data set of it."""
    tally = Tally()
    with progress(console, "writing", episodes, "episodes") as advance:

        def add(recording: Recording) -> None:
            tally.add(recording)
            advance(len(recording.success))

        if folder.lerobot:
            write_lerobot(
                folder.path,
                folder.recordings(),
                task=source.instruction,
                fps=source.fps,
                state_names=source.state_names,
                action_names=source.action_names,
                on_recording=add,
            )
        else:
            for recording in folder.recordings():
                add(recording)
    return tally


def measure_spread(source: Source, seeds: list[int], tally: Tally) -> list[float] | None:
    """The variance of chunks given the state, for each number of an action, as a part of their variance."""
    if source.spread is None:
        return None
    return np.round(source.spread(seeds) / np.maximum(tally.variance, 1e-12), 4).tolist()


def report(console: Console, path: Path, manifest: dict[str, Any]) -> None:
    """Say what a finished data set holds."""
    modes = ", ".join(f"{name} {count}" for name, count in manifest["modes"].items())
    spread = " ".join(f"{part:.2f}" for part in manifest["spread"] or ())
    console.print(
        f"{manifest['chunks']} chunks from {manifest['episodes']} episodes in {path}; "
        f"the expert succeeded in {100 * manifest['success']:.1f} % of them (modes: {modes})"
        + (f"; given the state, {spread} of the variance of each action is left" if spread else "")
    )


@click.command(short_help="Record demonstrations of a task's expert.")
@task_option
@click.option("--episodes", type=click.IntRange(1), default=9000, help="Episodes to record.")
@click.option("--seed", type=click.IntRange(0), default=1_000_000, help="Seed of the first episode, then +1.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the data set.")
@click.option(
    "--prefix-oracle/--no-prefix-oracle",
    default=True,
    help="Label what the expert does after committed prefixes, or from the state alone.",
)
@click.option(
    "--max-prefix",
    type=click.IntRange(1, Recipe.horizon),
    default=Recipe.max_prefix,
    help="Longest committed prefix before the expert, ticks.",
)
@click.option(
    "--offset",
    type=click.FloatRange(0),
    default=Recipe.offset,
    help="Constant disturbance of half the prefixes, standard deviation, action units.",
)
@click.option(
    "--white",
    type=click.FloatRange(0),
    default=Recipe.white,
    help="White disturbance of the same prefixes, standard deviation, action units.",
)
@click.option(
    "--paused",
    type=click.FloatRange(0, 1),
    default=Recipe.paused,
    help="Chance that the robot has waited without an action before it is labelled.",
)
@click.option("--cameras", type=NameList(), default=None, help="Record what these cameras see too.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["lerobot", "plain"]),
    default=None,
    help="A LeRobotDataset v3, or safetensors shards.  [default: lerobot where it is installed]",
)
@click.option("--workers", type=click.IntRange(1), default=None, help="Processes.  [default: all cores]")
@click.option("--force", is_flag=True, help="Replace a data set that was recorded with other arguments.")
def demos(
    task: str,
    episodes: int,
    seed: int,
    out: Path,
    prefix_oracle: bool,
    max_prefix: int,
    offset: float,
    white: float,
    paused: float,
    cameras: list[str] | None,
    form: str | None,
    workers: int | None,
    force: bool,
) -> None:
    """Record the expert of a task: after committed prefixes of random length, disturbed while it acts.

    An expert from outside (metaworld:NAME) acts with white noise instead, in a world that is not copied.
    An interrupted recording goes on where it stopped when the same command is given again.
    """
    recipe = Recipe(max_prefix=max_prefix if prefix_oracle else 0, offset=offset, white=white, paused=paused)
    source = make_source(check_task(task), recipe, cameras or [])
    form = form or ("lerobot" if find_spec("lerobot") else "plain")
    if form == "lerobot":
        need("lerobot")
    seeds = list(range(seed, seed + episodes))
    shards = [seeds[start : start + SHARD] for start in range(0, episodes, SHARD)]
    manifest = {
        "task": source.task,
        "expert": source.expert,
        "episodes": episodes,
        "seed": seed,
        "shards": len(shards),
        "format": form,
        "cameras": cameras or [],
        "recipe": source.recipe,
        "versions": versions(),
    }
    folder = DataFolder(out, manifest, force)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not folder.finished:
        record_missing(folder, source, shards, workers or available_cores(), console)
        tally = assemble(folder, source, episodes, console)
        folder.finish(tally.document() | {"spread": measure_spread(source, seeds, tally)})
    report(console, out, folder.manifest)
