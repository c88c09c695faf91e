"""`rtc sweep`: strategies at delays on many tasks, on the same seeds, on all cores or on a cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from rtc.cli.fair import FAIR
from rtc.cli.options import TextList
from rtc.cli.provenance import available_cores
from rtc.cli.simulate import say, simulate
from rtc.cli.strategy_text import parse_strategy
from rtc.cli.sweep_films import BY_RULE, Filming, check_videos, write_films
from rtc.cli.sweep_output import SweepResult, check_parquet, write_episodes, write_summary
from rtc.cli.sweep_plan import SweepPlan, make_sweep_plan, reasons
from rtc.cli.sweep_spec import read_spec
from rtc.errors import InvalidArgument
from rtc.process_pool import in_workers
from rtc.ray_pool import on_ray, ray_cluster
from rtc.report.html.films import caption_of
from rtc.report.sweep_summary import read_summary
from rtc.report.table import print_whole, result_table
from rtc.run_folder import RunFolder, holds_finished, open_folder
from rtc.runtime.delay_text import parse_delay
from rtc.runtime.latency import DelayModel
from rtc.sweep import Pool

FILE = click.Path(path_type=Path)


def _delay(text: str) -> DelayModel | str:
    return FAIR if text == FAIR else parse_delay(text)


def _word(text: str) -> str:
    if not text:
        raise InvalidArgument("a list has an empty entry; write a,b,c")
    return text


@click.command(short_help="Compare strategies at delays on many tasks, on all cores or a cluster.")
@click.option(
    "--spec",
    type=FILE,
    is_eager=True,
    callback=read_spec,
    help="TOML file whose keys are these options; the command line wins.",
)
@click.option("--tasks", type=TextList("ID,...", _word), required=True, help="As --task of `rtc rollout`.")
@click.option(
    "--strategies",
    type=TextList("TEXT,...", parse_strategy),
    required=True,
    help="Names, each with options or without: naive,realtime:schedule=exp:max_weight=steps.",
)
@click.option(
    "--delays",
    type=TextList("TEXT,...", _delay),
    required=True,
    help="Control ticks: 4; uniform:2:6; lognormal:4:0.5 (median, sigma); spiky:2:8:0.1 (usual, spike, "
    "chance); bursty:2:8:0.05:0.3 (calm, busy, chances of a change); trace:FILE; fair, each strategy's own.",
)
@click.option(
    "--horizons",
    type=TextList("RULE,...", _word),
    default="max(d,1)",
    help="Actions s run from a chunk before the next is asked for: 4; H/4; max(d,1).",
)
@click.option("--episodes", type=click.IntRange(1), default=128, help="Episodes of every cell.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of the first episode.")
@click.option("--out", type=FILE, required=True, help="Folder to write into; see --force.")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="TASK=FOLDER",
    show_default="the shipped weights",
    help="Checkpoint of a task; may be given for each.",
)
@click.option(
    "--latencies",
    type=FILE,
    show_default="measured on this machine",
    help='For the delay fair: JSON file {"STRATEGY": milliseconds of an inference, ...}.',
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=available_cores,
    show_default="one a core",
    help="Processes; the results do not depend on their number.",
)
@click.option("--batch", type=click.IntRange(1), default=32, help="Episodes simulated together.")
@click.option(
    "--ray",
    metavar="local|ADDRESS",
    help="Run on a Ray cluster: a new one here, or the one at ADDRESS.",
)
@click.option(
    "--videos",
    type=TextList("NAME,...", _word),
    is_flag=False,
    flag_value=BY_RULE,
    help="Film every task into DIR/videos, also of a sweep that is finished: these strategies (at most 4) "
    "side by side, or without a value naive, the two best others and the oracle; see docs/sweep.md.",
)
@click.option("--force", is_flag=True, help="Replace the run that is in --out.")
@click.option("--json", "as_json", is_flag=True, help="Print summary.json.")
def sweep(**arguments: Any) -> None:
    """Run every strategy at every delay and execution horizon on the same episodes of every task.

    Writes episodes.parquet and summary.json into --out and prints a table a task. Cells that cannot be are
    left out, with the reason. A sweep that was interrupted keeps what it had finished; the same command
    resumes it.
    """
    check_parquet()
    if arguments["videos"]:
        check_videos(arguments["videos"], [str(strategy) for strategy in arguments["strategies"]])
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    with _pool(arguments) as pool:
        plan = make_sweep_plan(arguments)
        if arguments["videos"] and not arguments["force"] and holds_finished(arguments["out"], plan.settings):
            document = read_summary(arguments["out"])
            _film(plan, document, arguments, errors)
            if arguments["as_json"]:
                click.echo(json.dumps(document))
            return
        folder = open_folder(arguments["out"], plan.settings, arguments["force"])
        for line in _notes(plan):
            say(errors, line)
        shown = not arguments["as_json"]
        shards = plan.shards(arguments["batch"])
        work = simulate(shards, folder.cells, pool=pool, errors=errors, shown=shown)
    result = write_episodes(plan, folder.path, folder.cells, arguments["batch"])
    asked = {name: arguments[name] for name in ("batch", "workers", "ray")}
    document = write_summary(plan, folder.path, result, work, asked)
    if arguments["videos"]:
        _film(plan, document, arguments, errors)
    folder.finish()
    for warning in result.warnings:
        say(errors, f"warning: {warning}")
    if arguments["as_json"]:
        click.echo(json.dumps(document))
    else:
        _print(plan, folder, result, document["timing"])


@contextmanager
def _pool(arguments: dict[str, Any]) -> Iterator[Pool]:
    """Who simulates; a cluster is joined first, so that one that is not there costs nothing."""
    if arguments["ray"] is None:
        yield partial(in_workers, workers=arguments["workers"])
        return
    with ray_cluster(arguments["ray"], arguments["workers"]):
        yield on_ray


def _notes(plan: SweepPlan) -> Iterator[str]:
    for task, builder in plan.builders.items():
        yield from (f"warning: {task}: {assumption}" for assumption in builder.assumed)
    yield from reasons(plan)
    for task, table in plan.settings.get("latencies", {}).items():
        known = ", ".join(f"{label} {value:.1f}" for label, value in table.items())
        yield f"{task}: milliseconds of an inference: {known}"


def _film(plan: SweepPlan, summary: dict[str, Any], arguments: dict[str, Any], errors: Console) -> None:
    """Make the films that --videos asks for, and say what is in them."""
    asked = {name: arguments[name] for name in ("batch", "workers")}
    filming = Filming(plan, arguments["out"], arguments["videos"], say=partial(say, errors), **asked)
    with errors.status("drawing the films") if not arguments["as_json"] else nullcontext():
        films = write_films(filming, summary)
    for film in films:
        say(errors, f"{film}: {caption_of(film)}")


def _print(plan: SweepPlan, folder: RunFolder, result: SweepResult, timing: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for task, builder in plan.builders.items():
        summaries = [summary for setting, summary in result.summaries.items() if setting.task == task]
        if summaries:
            console.print(f"{task}, {len(plan.seeds)} episodes a cell", markup=False)
            print_whole(Console(highlight=False), result_table(summaries, 1000 * builder.tick_seconds))
    console.print(
        f"{timing['control_steps']:,} control steps in {timing['wall_seconds']:.1f} s, "
        f"{timing['control_steps_per_second']:,.0f} a second"
    )
    files = ", ".join(sorted(path.name for path in folder.path.iterdir() if path.name != "run.json"))
    console.print(f"{folder.path}: {files}", markup=False)
