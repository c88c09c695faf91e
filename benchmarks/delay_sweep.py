"""The study behind docs/delay.md: every strategy at every delay and execution horizon, on the same seeds.

    python -m benchmarks.delay_sweep [--episodes 512] [--seed 0] [--policy DIR] [--only-report]

Writes benchmarks/results/delay_sweep*.json, docs/images/success.png and delay_sweep.png, and the tables in
docs/delay.md. An interrupted sweep goes on where it stopped. About 8 minutes on two cores.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from benchmarks.study import (
    DOCS,
    RESULTS,
    TASK,
    TWIN,
    Setting,
    difference,
    number,
    percent,
    run,
    setting,
    write_between,
)
from rtc.cli.build import Builder, rows_of_rule
from rtc.serialise import read_json, whole_file, write_json

DELAYS = (0, 2, 4, 6, 8)
HORIZON_RULES = ("max(d,1)", "H/4", "H/2")
REALTIME = [
    {"schedule": schedule, "jacobian": jacobian}
    for schedule in ("zeros", "exp")
    for jacobian in ("exact", "identity")
]
COLOURS = {"synchronous": "#7f7f7f", "naive": "#d55e00", "hard exact": "#0072b2", "soft exact": "#56b4e9"}
COLOURS |= {"hard identity": "#009e73", "soft identity": "#cc79a7"}


def settings(builder: Builder) -> list[Setting]:
    """All settings; where two rules mean the same s, once."""
    found = []
    for delay in DELAYS:
        for rule in HORIZON_RULES:
            found += [setting(builder, name, delay, rule) for name in ("synchronous", "naive")]
            found += [setting(builder, "realtime", delay, rule, **options) for options in REALTIME]
    return list(dict.fromkeys(found))


def twin_settings(builder: Builder) -> list[Setting]:
    """The control: the quasi-static twin under the three strategies, with s = max(d, 1)."""
    rule = HORIZON_RULES[0]
    return [
        setting(builder, name, delay, rule, **options)
        for name, options in (("synchronous", {}), ("naive", {}), ("realtime", REALTIME[0]))
        for delay in DELAYS
    ]


def short(cell: dict[str, Any]) -> str:
    """`hard exact` for realtime cells, the strategy's name for the others."""
    options = cell["options"]
    mask = {"zeros": "hard", "exp": "soft"}.get(options.get("schedule", ""), "")
    return f"{mask} {options['jacobian']}" if mask else cell["strategy"]


def by_name(cells: list[dict[str, Any]]) -> dict[tuple[str, int, int], dict[str, Any]]:
    """(short name, delay, s) -> cell."""
    return {(short(cell), cell["delay"], cell["execution_horizon"]): cell for cell in cells}


def rows_of(name: str, rule: str, delay: int, horizon: int) -> int:
    """The s that `rule` meant in the sweep: raised to the delay where the robot moves while it infers."""
    rows = rows_of_rule(rule, horizon, delay)
    return rows if name == "synchronous" else max(rows, delay)


def success_table(
    document: dict[str, Any], names: Iterable[str] = COLOURS, rules: Sequence[str] = HORIZON_RULES
) -> str:
    """Success in per cent with Wilson intervals: a row a strategy and rule for s, a column a delay."""
    cells, horizon = by_name(document["cells"]), document["horizon"]
    lines = [
        "| strategy | s | " + " | ".join(f"d = {delay}" for delay in DELAYS) + " |",
        "|---|---|" + "---|" * len(DELAYS),
    ]
    for name in names:
        for rule in rules:
            line = [cells.get((name, delay, rows_of(name, rule, delay, horizon))) for delay in DELAYS]
            found = " | ".join(percent(cell["success"]) if cell else "-" for cell in line)
            lines.append(f"| {name} | {rule} | {found} |")
    return "\n".join(lines)


def recovery_table(document: dict[str, Any]) -> str:
    """What realtime wins back of what naive loses between d = 0 and d; paired by seed, s = max(d,1)."""
    cells = by_name(document["cells"])
    lines = ["| d | naive loses | setting | realtime - naive | won back |", "|---|---|---|---|---|"]
    for delay in DELAYS[1:]:
        rows = max(delay, 1)
        start, naive = cells["naive", 0, 1], cells["naive", delay, rows]
        lost = difference(start, naive)
        for name in ("hard exact", "soft exact", "hard identity", "soft identity"):
            won = difference(cells[name, delay, rows], naive)
            share = f"{100 * won.value / lost.value:.0f} %" if lost.low > 0 else "-"
            lines.append(f"| {delay} | {percent(lost)} | {name} | {percent(won)} | {share} |")
    return "\n".join(lines)


def detail_table(document: dict[str, Any], delay: int) -> str:
    """Seams, smoothness and cost at one delay, with s = max(d,1)."""
    cells, rows = by_name(document["cells"]), max(delay, 1)
    lines = [
        "| strategy | collisions | timeouts | seconds | prefix error | jump | jerk, m/s³ | calls | VJPs |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in COLOURS:
        cell = cells[name, delay, rows]
        failures = [
            100 * cell["failures"].get(reason, 0) / cell["episodes"] for reason in ("collision", "timeout")
        ]
        error, jump = (number(cell[key]) for key in ("prefix_error", "boundary_jump"))
        seconds = "-" if cell["time_to_success"] is None else f"{cell['time_to_success']:.2f}"
        lines.append(
            f"| {name} | {failures[0]:.0f} % | {failures[1]:.0f} % | {seconds} | {error} | {jump} | "
            f"{cell['rms_jerk']:.0f} | {cell['network_calls']:.0f} | {cell['vjps']:.0f} |"
        )
    return "\n".join(lines)


def plot(document: dict[str, Any], path: Path, rules: tuple[str, ...]) -> None:
    """Success against delay with Wilson bands, one panel a rule for s."""
    figure = Figure(figsize=(4.6 * len(rules) + 1.8, 4.3), layout="constrained")
    panels = figure.subplots(1, len(rules), sharey=True, squeeze=False)[0]
    for axes, rule in zip(panels, rules, strict=True):
        _panel(axes, document, rule)
    panels[0].set_ylabel(f"success ({document['cells'][0]['episodes']} episodes a point, 95 % Wilson bands)")
    panels[-1].legend(frameon=False, loc="lower left")
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=130)


def _panel(axes: Axes, document: dict[str, Any], rule: str) -> None:
    cells, horizon = by_name(document["cells"]), document["horizon"]
    for name, colour in COLOURS.items():
        line = [cells.get((name, delay, rows_of(name, rule, delay, horizon))) for delay in DELAYS]
        found = [cell for cell in line if cell]
        delays = [cell["delay"] for cell in found]
        label = name if name in ("synchronous", "naive") else f"realtime, {name}"
        axes.plot(
            delays,
            [cell["success"]["value"] for cell in found],
            "o-",
            color=colour,
            label=label,
            markersize=4,
        )
        axes.fill_between(
            delays,
            [cell["success"]["low"] for cell in found],
            [cell["success"]["high"] for cell in found],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
    axes.set(xlabel="inference delay d (ticks of 20 ms)", xticks=DELAYS, ylim=(0, 1.02), title=f"s = {rule}")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(alpha=0.3)


def headline(document: dict[str, Any]) -> str:
    """The README's sentence, from the numbers."""
    cells, quarter = by_name(document["cells"]), document["horizon"] // 4
    start, naive = cells["naive", 0, 1], cells["naive", quarter, quarter]
    lost = difference(start, naive)
    won = difference(cells["hard exact", quarter, quarter], naive)
    return (
        f"On the shipped task ({naive['episodes']} episodes a cell, the same seeds): at d = {quarter} ticks "
        f"({20 * quarter} ms) naive asynchronous execution loses {100 * lost.value:.0f} points of success "
        f"({100 * start['success']['value']:.0f} -> {100 * naive['success']['value']:.0f} %); "
        f"real-time chunking with a hard mask wins back {percent(won)} of them. "
        f"Where it does not help is in [the study](docs/delay.md)."
    )


def throughput(document: dict[str, Any]) -> str:
    """How fast the sweep ran, and on what."""
    timing, machine = document["timing"], document["machine"]
    work = {part: timing[f"{part}_seconds"] for part in ("physics", "network", "other")}
    shares = ", ".join(f"{part} {seconds / sum(work.values()):.0%}" for part, seconds in work.items())
    return (
        f"The sweep ran at {timing['control_steps_per_second']:,.0f} control steps a second, policy and all, "
        f"in {machine['cores']} processes of one thread ({machine['processor']}): {shares}."
    )


def report(document: dict[str, Any], twin: dict[str, Any]) -> None:
    """Pictures and tables, from the documents alone."""
    plot(document, DOCS / "images" / "success.png", ("max(d,1)",))
    plot(document, DOCS / "images" / "delay_sweep.png", HORIZON_RULES)
    page = DOCS / "delay.md"
    write_between(page, "success", success_table(document))
    write_between(
        page, "twin", success_table(twin, ("synchronous", "naive", "hard exact"), HORIZON_RULES[:1])
    )
    write_between(page, "recovery", recovery_table(document))
    write_between(page, "detail", detail_table(document, document["horizon"] // 4))
    write_between(DOCS / "tasks.md", "throughput", throughput(document))
    write_between(DOCS.parent / "README.md", "headline", headline(document))


@click.command()
@click.option("--episodes", type=click.IntRange(1), default=512, show_default=True, help="Episodes a cell.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the first episode."
)
@click.option(
    "--policy", type=click.Path(path_type=Path), default=None, help="Checkpoint.  [default: the shipped one]"
)
@click.option("--only-report", is_flag=True, help="Draw and write from the committed JSON, simulate nothing.")
def main(episodes: int, seed: int, policy: Path | None, only_report: bool) -> None:
    """Run the sweep and write its report."""
    out, twin_out = RESULTS / "delay_sweep.json", RESULTS / "delay_sweep_twin.json"
    if not only_report:
        seeds = range(seed, seed + episodes)
        builder, twin = Builder.check(TASK, policy), Builder.check(TWIN, None)
        write_json(out, run(settings(builder), builder, name="delay_sweep", seeds=seeds))
        write_json(twin_out, run(twin_settings(twin), twin, name="delay_sweep_twin", seeds=seeds))
    report(read_json(out), read_json(twin_out))


if __name__ == "__main__":
    main()
