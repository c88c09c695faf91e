"""The pictures of a run: drawn if this machine can, and otherwise one line that says why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from rtc.cli.build import Builder
from rtc.process_pool import in_workers
from rtc.report.film import Film, film
from rtc.report.statistics import Summary
from rtc.sweep import Shard

IMAGE_SIZE = (360, 480)  # height, width in pixels

Say = Callable[[str], None]
Result = TypeVar("Result")


def draw_plot(summaries: Sequence[Summary], path: Path, say: Say, **labels: object) -> None:
    """Write the plot of success against delay."""
    try:
        from rtc.report.plot import plot_success

        plot_success(summaries, path, **labels)  # type: ignore[arg-type]
    except ImportError as error:
        say(f"no plot: {_missing(error)}")


def draw_video(
    shards: Mapping[str, Shard], seed: int, builder: Builder, folder: Path, workers: int, say: Say
) -> str | None:
    """Write video.mp4 and frames.png of `seed`, one shard with it a strategy; what was drawn, or None."""

    def draw() -> str:
        from rtc.report.video import write_strip, write_video

        films, backend = shoot(shards, seed, builder, IMAGE_SIZE, workers)
        write_video(films, folder / "video.mp4")
        write_strip(films, folder / "frames.png")
        outcomes = ", ".join(f"{one.strategy}: {one.outcome}" for one in films)
        return f"seed {seed} at d = {films[0].delay} ({outcomes}), drawn with {backend}"

    return attempt(draw, "video", say)


def shoot(
    shards: Mapping[str, Shard], seed: int, builder: Builder, image_size: tuple[int, int], workers: int
) -> tuple[list[Film], str]:
    """A film of `seed` a strategy, and the backend that drew them; each shard has that seed.

    Raises what drivers raise; ImportError if what draws is not installed.
    """
    from envs.render import choose_backend

    backend = choose_backend()  # told to the workers through the environment
    make_env = builder.filmed_env(image_size)
    jobs = [partial(film, strategy, shard, seed, make_env) for strategy, shard in shards.items()]
    done = dict(in_workers(jobs, workers))
    return [done[index] for index in sorted(done)], backend


def attempt(draw: Callable[[], Result], what: str, say: Say) -> Result | None:
    """What `draw` returns, or None after one line that says why there is none.

    The results are there already: whatever goes wrong here costs the picture and nothing else.
    """
    try:
        return draw()
    except ImportError as error:
        say(f"no {what}: {_missing(error)}")
    except Exception as error:  # drivers and encoders fail in their own types
        say(f"no {what}: {type(error).__name__}: {error}")
    return None


def _missing(error: ImportError) -> str:
    return f"{error.name} is not installed; pip install 'rtc[report]' brings what draws"
