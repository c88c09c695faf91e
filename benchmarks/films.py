"""A small film of every task for docs/: the shipped policy without delay and at 160 ms, on the same seed.

    python -m benchmarks.films [--task Catch ...]

The seed is the first, from 0, on which the two end differently. Writes docs/images/NAME.gif.
"""

from __future__ import annotations

import click

import envs
from benchmarks.study import DOCS
from envs.render import choose_backend
from rtc.cli.build import Builder
from rtc.report.film import film, first_difference
from rtc.report.video import write_gif
from rtc.runtime.latency import ConstantDelay
from rtc.sweep import Cell, Shard, run_shard

IMAGE_SIZE = (320, 400)  # height, width in pixels, before the GIF makes it smaller
SEEDS = tuple(range(16))
DELAYS = ((0, 4), (8, 8))  # ticks of delay, rows executed of a chunk


def draw(name: str) -> str:
    """Film one task; what was filmed."""
    builder = Builder.check(f"{name}-v0", None)
    shards, successes = [], []
    for delay, rows in DELAYS:
        strategy = builder.strategy("naive")
        cell = Cell(f"d{delay}", builder.env(), strategy, ConstantDelay(delay), rows, builder.starvation)
        shards.append(Shard(cell, SEEDS))
        successes.append([record["success"] for record in run_shard(shards[-1]).episodes])
    seed = SEEDS[first_difference(successes) or 0]
    films = [film("naive", shard, seed, builder.filmed_env(IMAGE_SIZE)) for shard in shards]
    path = DOCS / "images" / f"{name}.gif"
    write_gif(films, path)
    return (
        f"{name}: seed {seed}, {', '.join(one.outcome for one in films)}, {path.stat().st_size / 1e6:.2f} MB"
    )


@click.command()
@click.option("--task", "names", multiple=True, type=click.Choice(list(envs.CLASSES)), help="[default: all]")
def main(names: tuple[str, ...]) -> None:
    """Film the tasks."""
    choose_backend()
    for name in names or envs.CLASSES:
        click.echo(draw(name))


if __name__ == "__main__":
    main()
