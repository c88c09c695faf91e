"""`rtc rollout --rerun FILE.rrd`: the episode that is filmed, as a Rerun recording."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from envs.render import choose_backend
from rtc.cli.build import Builder
from rtc.cli.pictures import Say
from rtc.errors import InvalidArgument, OutputExists, RenderUnavailable, RtcError
from rtc.process_pool import in_workers
from rtc.report.recording import record, write_recordings
from rtc.sweep import Shard

IMAGE_SIZE = (240, 320)  # height, width in pixels


def check_rerun(path: Path, force: bool) -> None:
    """Raise RtcError if nothing can be written to `path`, before anything is simulated."""
    try:
        import rerun  # noqa: F401
    except ImportError:
        raise RtcError("rerun-sdk is not installed; pip install 'rtc[rerun]' brings it") from None
    if path.suffix != ".rrd":
        raise InvalidArgument(f"--rerun {path}: a Rerun recording is a file named NAME.rrd")
    if path.is_dir() or (path.exists() and not force):
        raise OutputExists(f"{path} exists; choose another file for --rerun, or replace it with --force")


def write_rerun(
    shards: Mapping[str, Shard], seed: int, builder: Builder, path: Path, workers: int, say: Say
) -> None:
    """Record `seed` of every strategy's shard into one file; without pictures where nothing can be drawn."""
    try:
        choose_backend()  # told to the workers through the environment
        make_env = builder.filmed_env(IMAGE_SIZE)
    except RenderUnavailable as error:
        say(f"no pictures in {path}: {error}")
        make_env = builder.env()
    jobs = [partial(record, strategy, shard, seed, make_env) for strategy, shard in shards.items()]
    done = dict(in_workers(jobs, workers))
    write_recordings([done[index] for index in sorted(done)], path)
