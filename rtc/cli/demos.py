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
from envs.reach_past_post import ReachPastPost
from rtc.cli.build import check_task, make_env
from rtc.cli.options import task_option
from rtc.cli.progress import progress
from rtc.cli.provenance import available_cores, commit, versions
from rtc.dataset import MANIFEST, read_demonstrations, shard_path, write_shard
from rtc.errors import OutputExists
from rtc.serialise import read_json, write_json
from rtc.sweep import in_workers

SHARD = 50  # episodes; a shard is what an interrupted recording loses


def record_shard(task: str, folder: Path, index: int, seeds: list[int], recipe: Recipe) -> None:
    """Record one shard and write it."""
    write_shard(folder, index, record(partial(expert_env, task), seeds, recipe))


def expert_env(task: str) -> ReachPastPost:
    """The env of `task`, bare, as its expert needs it."""
    env = make_env(task).unwrapped
    assert isinstance(env, ReachPastPost), "every task has this expert"
    return env


def begin(folder: Path, manifest: dict[str, Any], force: bool) -> None:
    """Make `folder` ready to record into, or to go on recording the same; never mixes two recipes."""
    if folder.exists() and any(folder.iterdir()):
        try:
            before = dict(read_json(folder / MANIFEST))
        except (OSError, ValueError, TypeError):
            raise OutputExists(
                f"{folder} holds something else, or a damaged {MANIFEST}; "
                "it is left alone: choose another --out"
            ) from None
        differing = [key for key, value in manifest.items() if before.get(key) != value]
        if not (differing or force):
            return  # and the manifest keeps the commit that it was begun with
        if not force:
            raise OutputExists(
                f"{folder} was recorded with another {', '.join(differing)}; "
                "choose another --out, or use --force"
            )
        for shard in folder.glob("shard-*.safetensors"):
            shard.unlink()
    write_json(folder / MANIFEST, manifest | {"commit": commit()})


@click.command(short_help="Record demonstrations of a task's expert.")
@task_option
@click.option(
    "--episodes", type=click.IntRange(1), default=9000, show_default=True, help="Episodes to record."
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=1_000_000,
    show_default=True,
    help="Seed of the first episode, then +1.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the data set.")
@click.option(
    "--max-prefix",
    type=click.IntRange(0, Recipe.horizon),
    default=Recipe.max_prefix,
    show_default=True,
    help="Longest committed prefix before the expert, ticks; 0 records the expert alone.",
)
@click.option(
    "--offset",
    type=click.FloatRange(0),
    default=Recipe.offset,
    show_default=True,
    help="Constant disturbance of half the prefixes, standard deviation, action units.",
)
@click.option(
    "--white",
    type=click.FloatRange(0),
    default=Recipe.white,
    show_default=True,
    help="White disturbance of the same prefixes, standard deviation, action units.",
)
@click.option("--workers", type=click.IntRange(1), default=None, help="Processes.  [default: all cores]")
@click.option("--force", is_flag=True, help="Replace a data set that was recorded with other arguments.")
def demos(
    task: str,
    episodes: int,
    seed: int,
    out: Path,
    max_prefix: int,
    offset: float,
    white: float,
    workers: int | None,
    force: bool,
) -> None:
    """Record the expert: after committed prefixes of random length, disturbed while it acts.

    An interrupted recording goes on where it stopped when the same command is given again.
    """
    name, recipe = check_task(task), Recipe(max_prefix=max_prefix, offset=offset, white=white)
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
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    done = episodes - sum(len(shards[index]) for index in missing)
    with (
        progress(console, "recording", episodes, "episodes", done=done) as advance,
        closing(in_workers(jobs, workers or available_cores())) as results,
    ):
        for index, _ in results:
            advance(len(shards[missing[index]]))
    demonstrations, begun = read_demonstrations(out, name)
    console.print(
        f"{len(demonstrations.obs)} chunks from {episodes} episodes in {out}; "
        f"the expert succeeded in {100 * demonstrations.success.mean():.1f} % of them"
    )
    write_json(out / MANIFEST, begun | {"chunks": len(demonstrations.obs)})
