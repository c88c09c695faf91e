"""`rtc demos`: record delay-aware demonstrations of a task's expert."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from envs.demos import Recipe, record
from rtc.cli.build import check_task, make_env
from rtc.cli.progress import counted
from rtc.cli.provenance import available_cores, commit, versions
from rtc.dataset import read_demonstrations, shard_path, write_shard
from rtc.errors import OutputExists
from rtc.serialise import read_json, write_json
from rtc.sweep import in_workers

SHARD = 50  # episodes; a shard is what an interrupted recording loses
MANIFEST = "manifest.json"


def record_shard(task: str, folder: Path, index: int, seeds: list[int], recipe: Recipe) -> None:
    """Record one shard and write it."""
    write_shard(folder, index, record(partial(_expert_env, task), seeds, recipe))


def _expert_env(task: str) -> Any:
    return make_env(task).unwrapped


def begin(folder: Path, manifest: dict[str, Any], force: bool) -> None:
    """Make `folder` ready to record into, or to go on recording the same; never mixes two recipes."""
    try:
        before = read_json(folder / MANIFEST)
    except FileNotFoundError:
        before = None
        if folder.exists() and any(folder.iterdir()):
            raise OutputExists(f"{folder} holds something else; choose another --out") from None
    if before is not None and not force:
        differing = [key for key, value in manifest.items() if before.get(key) != value]
        if differing:
            raise OutputExists(
                f"{folder} was recorded with another {', '.join(differing)}; choose another --out, or use --force"
            )
    if force:
        for shard in folder.glob("shard-*.safetensors"):
            shard.unlink()
    write_json(folder / MANIFEST, manifest)


@click.command()
@click.option(
    "--task", default="ReachPastPost-v0", show_default=True, help="Gymnasium id, with or without rtc/."
)
@click.option(
    "--episodes", type=click.IntRange(1), default=8000, show_default=True, help="Episodes to record."
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=1_000_000,
    show_default=True,
    help="Seed of the first episode, then +1.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the data set.")
@click.option("--workers", type=click.IntRange(1), default=None, help="Processes.  [default: all cores]")
@click.option("--force", is_flag=True, help="Replace a data set that was recorded with other arguments.")
def demos(task: str, episodes: int, seed: int, out: Path, workers: int | None, force: bool) -> None:
    """Record the expert: after committed prefixes of random length, disturbed while it acts.

    An interrupted recording goes on where it stopped when the same command is given again.
    """
    name, recipe = check_task(task), Recipe()
    seeds = list(range(seed, seed + episodes))
    shards = [seeds[start : start + SHARD] for start in range(0, episodes, SHARD)]
    manifest = {
        "task": name,
        "episodes": episodes,
        "seed": seed,
        "shards": len(shards),
        "recipe": asdict(recipe),
        "versions": versions(),
    }
    begin(out, manifest, force)
    missing = [index for index in range(len(shards)) if not shard_path(out, index).exists()]
    jobs = [partial(record_shard, name, out, index, shards[index], recipe) for index in missing]
    console = Console(stderr=True)
    with (
        counted(console, "recording", episodes, "episodes") as advance,
        closing(in_workers(jobs, workers or available_cores())) as results,
    ):
        advance(episodes - sum(len(shards[index]) for index in missing))
        for index, _ in results:
            advance(len(shards[missing[index]]))
    demonstrations, _ = read_demonstrations(out, name)
    console.print(
        f"{len(demonstrations.obs)} chunks from {episodes} episodes in {out}; "
        f"the expert succeeded in {100 * demonstrations.success.mean():.1f} % of them"
    )
    write_json(out / MANIFEST, manifest | {"commit": commit(), "chunks": len(demonstrations.obs)})
