"""`rtc report`: one HTML page of a finished sweep, and its winners on the terminal."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from rtc.cli.rollout import rollout
from rtc.errors import Unsupported
from rtc.report.merge import read_merged
from rtc.report.table import print_whole
from rtc.report.winners import winner_table
from rtc.report.winners_text import winners_text


@click.command(short_help="Write one HTML page of a finished sweep.")
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="The page.  [default: DIR/report.html]"
)
def report(folders: tuple[Path, ...], out: Path | None) -> None:
    """Write DIR/report.html of the sweep in DIR, and print who wins.

    Several sweeps on the same seeds make one page, in the first DIR: their strategies are compared as if they
    had been one sweep. The page is one file that opens from disk and asks no server. It holds the films
    (.gif, .mp4) in DIR/videos as far as they fit; one whose name begins with a task's, such as
    Catch-v0-naive.mp4, stands with that task.
    """
    summary = read_merged(folders)
    try:
        from rtc.report.html.write import write_report
    except ImportError as error:
        raise Unsupported(
            f"{error.name} is not installed, which writes the page; pip install 'rtc[report]' brings it"
        ) from None
    rollout_options = {parameter.name for parameter in rollout.params if parameter.name}
    path = write_report(*folders, out=out, rollout_options=rollout_options)
    console = Console(highlight=False, soft_wrap=True)
    table = winners_text(winner_table(summary["cells"]))
    print_whole(console, table)
    console.print(f"{path}: {path.stat().st_size / 1000:.0f} kB", markup=False)
