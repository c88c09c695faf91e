"""`rtc rollout`: run strategies at delays on the same seeds, and report."""

from __future__ import annotations

import json
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from rtc.cli.document import Outcome, results_document, without_episodes
from rtc.cli.options import MaxWeight, NameList, TickList, task_option
from rtc.cli.pictures import draw_plot, draw_video
from rtc.cli.plan import STRATEGY_DEFAULTS, make_plan
from rtc.cli.provenance import available_cores
from rtc.cli.recording import check_rerun, write_rerun
from rtc.cli.simulate import say, simulate
from rtc.process_pool import in_workers
from rtc.report.film import first_difference
from rtc.report.table import result_table
from rtc.run_folder import RunFolder, open_folder
from rtc.runtime.strategies import ALL
from rtc.serialise import write_json
from rtc.sweep import Record, Shard, ShardResult

DEFAULTS: dict[str, Any] = STRATEGY_DEFAULTS | {
    "strategies": "synchronous,naive,realtime,auto",
    "delays": "0,2,4,6,8",
    "execution_horizon": "max(d,1)",
}
FOLDER = click.Path(path_type=Path)


def _option(name: str, help: str, **settings: Any) -> Any:
    """An option whose default, if there is one, comes from DEFAULTS."""
    default = DEFAULTS.get(name.lstrip("-").replace("-", "_"))
    return click.option(name, help=help, **({"default": default} if default is not None else {}) | settings)


@click.command(short_help="Compare strategies at inference delays on one task.")
@task_option
@_option("--policy", "Checkpoint folder.", type=FOLDER, show_default="the shipped weights of the task")
@_option("--strategies", "What to compare: any of " + ", ".join(ALL) + ".", type=NameList())
@_option(
    "--delays", "Inference delays d, in control ticks of 20 ms (--env: of its own rate).", type=TickList()
)
@_option("--episodes", "Episodes of every cell (strategy x delay).", type=click.IntRange(1), default=64)
@_option(
    "--seed", "Seed of the first episode; each next one has one more.", type=click.IntRange(0), default=0
)
@_option("--out", "Folder to write into; an earlier run in it needs --force.", type=FOLDER, required=True)
@_option(
    "--execution-horizon",
    "Actions s run from a chunk before the next is asked for: a number; H/2 or H/4, parts of a chunk; or "
    "max(d,1). A strategy that moves while it infers needs d <= s <= H - d; a smaller s is raised to d.",
    metavar="RULE",
)
@_option("--num-steps", "Flow steps n of a chunk.", type=click.IntRange(1))
@_option(
    "--schedule",
    "realtime: how the mask falls behind the frozen actions; zeros is the hard mask.",
    type=click.Choice(["exp", "linear", "ones", "zeros"]),
)
@_option(
    "--jacobian",
    "realtime: guide through the network (exact), or past it (identity).",
    type=click.Choice(["exact", "identity"]),
)
@_option("--max-weight", "realtime: clip beta of the guidance weight; steps means n.", type=MaxWeight())
@_option(
    "--data-std",
    "realtime: assumed standard deviation of a normalised action.",
    type=click.FloatRange(0, min_open=True),
)
@_option(
    "--mask-end",
    "realtime: at most this many actions of a chunk are frozen or blended.",
    type=click.IntRange(0),
    show_default="all that remain",
)
@_option(
    "--starvation",
    "The action at a tick without one: the last one, zeros, or the last one fading by 0.9 a tick.",
    type=click.Choice(["hold", "zero", "decay"]),
    show_default="the task's own",
)
@_option(
    "--workers",
    "Processes; the results do not depend on their number.",
    type=click.IntRange(1),
    default=available_cores,
    show_default="one a core",
)
@_option("--batch", "Episodes that a process simulates together.", type=click.IntRange(1), default=32)
@_option(
    "--video-seed", "The episode to film.", type=int, show_default="the first on which the strategies differ"
)
@click.option("--no-video", is_flag=True, help="Draw neither video.mp4 nor frames.png.")
@click.option(
    "--rerun",
    type=FOLDER,
    metavar="FILE.rrd",
    help="Write the episode that is filmed as a Rerun recording: every tick of every strategy.",
)
@click.option("--force", is_flag=True, help="Replace the run that is in --out.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the results as JSON (the episodes are in the file)."
)
def rollout(**arguments: Any) -> None:
    """Run every strategy at every delay on the same episodes.

    Writes results.json, plot.png, video.mp4 and frames.png into --out and prints a table. A run that was
    interrupted keeps what it had finished; the same command resumes it.
    """
    if arguments["rerun"] is not None:
        check_rerun(arguments["rerun"], arguments["force"])
    plan = make_plan(arguments)
    folder = open_folder(arguments["out"], plan.settings, arguments["force"])
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    for assumption in plan.builder.assumed:
        say(errors, f"warning: {assumption}")
    results: dict[str, ShardResult] = {}
    work = simulate(
        plan.shards,
        folder.cells,
        pool=partial(in_workers, workers=arguments["workers"]),
        errors=errors,
        shown=not arguments["as_json"],
        on_result=lambda shard, result: results.update({shard.name: result}),
    )
    outcome, timing = Outcome.collect(plan, results), work.document()
    document = results_document(outcome, arguments, timing)
    write_json(folder.path / "results.json", document)
    pictures = _draw(outcome, folder, arguments, errors)
    folder.finish()
    for warning in outcome.warnings:
        say(errors, f"warning: {warning}")
    if arguments["as_json"]:
        click.echo(json.dumps(without_episodes(document)))
    else:
        _print(outcome, timing, folder, pictures)


def _draw(outcome: Outcome, folder: RunFolder, arguments: dict[str, Any], errors: Console) -> str | None:
    """Draw what this machine can; what the video shows."""

    def tell(line: str) -> None:
        say(errors, line)

    plan = outcome.plan
    draw_plot(
        list(outcome.summaries.values()),
        folder.path / "plot.png",
        tell,
        tick_milliseconds=1000 * outcome.tick_seconds,
        horizon=plan.builder.policy.horizon,
        title=plan.builder.task,
    )
    seed, shards = _shown(outcome, arguments)
    with errors.status("drawing") if not arguments["as_json"] else nullcontext():
        if arguments["rerun"] is not None:
            write_rerun(shards, seed, plan.builder, arguments["rerun"], arguments["workers"], tell)
        if arguments["no_video"]:
            return None
        return draw_video(shards, seed, plan.builder, folder.path, arguments["workers"], tell)


def _shown(outcome: Outcome, arguments: dict[str, Any]) -> tuple[int, dict[str, Shard]]:
    """The seed to show, and of each strategy the shard that has it, at the middle one of the delays."""
    delays = arguments["delays"]
    delay = delays[len(delays) // 2]
    chosen = arguments["video_seed"]
    seed = telling_seed(outcome.records, delay) if chosen is None else chosen
    shards = {
        strategy: shard
        for strategy in arguments["strategies"]
        for shard in outcome.plan.shards_of(strategy, delay)
        if seed in shard.seeds
    }
    return seed, shards


def telling_seed(records: dict[tuple[str, int], list[Record]], delay: int) -> int:
    """The first seed on which some strategies succeed and some fail; the first of all if there is none."""
    cells = [episodes for (_, at), episodes in records.items() if at == delay]
    place = first_difference([[record["success"] for record in episodes] for episodes in cells])
    return cells[0][place or 0]["seed"]


def _print(outcome: Outcome, timing: dict[str, Any], folder: RunFolder, pictures: str | None) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(result_table(list(outcome.summaries.values()), 1000 * outcome.tick_seconds))
    console.print(outcome.conclusion, markup=False)
    busy = sum(timing[f"{part}_seconds"] for part in ("physics", "network", "other"))
    if busy:
        shares = ", ".join(
            f"{part} {timing[f'{part}_seconds'] / busy:.0%}" for part in ("physics", "network", "other")
        )
        console.print(
            f"{timing['control_steps']:,} control steps in {timing['wall_seconds']:.1f} s, "
            f"{timing['control_steps_per_second']:,.0f} a second ({shares})",
        )
    files = ", ".join(sorted(path.name for path in folder.path.iterdir() if path.name != "run.json"))
    console.print(
        f"{folder.path}: {files}" + (f"; the video is {pictures}" if pictures else ""), markup=False
    )
