"""Why real-time chunking helps or does not: one thing changed at a time, at d = s = H/4, on other seeds.

    python -m benchmarks.ablations [--episodes 256] [--policies DIR] [--only-report]

DIR holds the policies that are not shipped, made by `make ablation-policies`: trained without spread, and for
fewer steps. Writes benchmarks/results/ablations.json and the tables in docs/delay.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks.study import DOCS, RESULTS, TASK, Setting, difference, number, percent, run, write_between
from rtc.cli.build import Builder
from rtc.serialise import read_json, write_json

DELAY, LONG_DELAY = 4, 8  # ticks, and rows: s = d throughout
HARD: dict[str, Any] = {"schedule": "zeros", "jacobian": "exact"}
FIRST_SEED = 100_000
POLICIES = {
    "no-spread": "demonstrations without committed prefixes",
    "steps-500": "500 training steps",
    "steps-1500": "1,500 training steps",
}

LONG_DELAY_OPTIONS: list[dict[str, Any]] = [
    {},
    {"data_std": 0.5},
    {"data_std": 0.25},
    {"num_steps": 10},
    {"num_steps": 10, "max_weight": "steps"},
    {"num_steps": 20, "max_weight": "steps"},
    {"num_steps": 10, "max_weight": "steps", "data_std": 0.5},
    {"jacobian": "identity"},
    {"jacobian": "identity", "num_steps": 10},
    {"jacobian": "identity", "num_steps": 10, "max_weight": "steps"},
]

Rows = list[tuple[str, Setting]]


def realtime(delay: int = DELAY, **options: Any) -> Setting:
    """Hard mask, exact Jacobian, unless the options say otherwise."""
    return Setting("realtime", delay, delay, tuple(sorted((HARD | options).items())))


def naive(num_steps: int = 5, delay: int = DELAY) -> Setting:
    """Naive execution."""
    return Setting("naive", delay, delay, (("num_steps", num_steps),) if num_steps != 5 else ())


def tables() -> dict[str, Rows]:
    """What is varied: the name of the table, and its rows with their labels."""
    return {
        "mask": [("naive", naive()), ("hard: rows 0..3", realtime())]
        + [
            (f"{schedule}, mask end {end}", realtime(schedule=schedule, mask_end=end))
            for schedule in ("exp", "ones")
            for end in (6, 8, 12)
        ]
        + [("linear, mask end 12", realtime(schedule="linear"))],
        "weight": [
            (f"n = 5, beta = {beta:g}", realtime(max_weight=beta))
            for beta in (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
        ]
        + [(f"n = 5, beta = 5, data_std = {std:g}", realtime(data_std=std)) for std in (0.25, 0.5, 2.0)],
        "long delay": [("naive", naive(delay=LONG_DELAY))]
        + [
            (
                ", ".join(f"{key} = {value}" for key, value in options.items()) or "hard, exact",
                realtime(LONG_DELAY, **options),
            )
            for options in LONG_DELAY_OPTIONS
        ],
        "steps": [
            row
            for steps in (1, 2, 5, 10, 20)
            for row in (
                (f"naive, n = {steps}", naive(steps)),
                (f"hard, n = {steps}, beta = 5", realtime(num_steps=steps)),
                (f"hard, n = {steps}, beta = n", realtime(num_steps=steps, max_weight="steps")),
            )
        ],
    }


def policy_settings() -> list[Setting]:
    """What is run for each of the other policies."""
    once = Setting("naive", 0, 1)
    return [once, naive(), realtime(), realtime(schedule="exp")]


def measure(episodes: int, policies: Path) -> dict[str, Any]:
    """All ablations, as one document: the shipped policy's cells by name, the other policies' in order."""
    seeds = range(FIRST_SEED, FIRST_SEED + episodes)
    rows = [setting for table in tables().values() for _, setting in table]
    shipped = run([*rows, *policy_settings()], Builder.check(TASK, None), name="ablations", seeds=seeds)
    document = {key: value for key, value in shipped.items() if key not in ("cells", "timing")}
    names = [setting.name for setting in dict.fromkeys([*rows, *policy_settings()])]
    document["shipped"] = dict(zip(names, shipped["cells"], strict=True))
    document["policies"] = {}
    for name in POLICIES:
        builder = Builder.check(TASK, policies / name)
        document["policies"][name] = run(policy_settings(), builder, name=f"ablations_{name}", seeds=seeds)[
            "cells"
        ]
    return document


def setting_table(document: dict[str, Any], rows: Rows) -> str:
    """Success of each row, and its paired difference from the baseline: naive with as many steps."""
    lines = [
        "| setting | success, % | minus naive, points | prefix error | boundary jump |",
        "|---|---|---|---|---|",
    ]
    for label, setting in rows:
        cell = document["shipped"][setting.name]
        steps = dict(setting.options).get("num_steps", 5) if setting.delay == DELAY else 5
        baseline = document["shipped"][naive(steps, setting.delay).name]
        gain = "" if cell is baseline else percent(difference(cell, baseline))
        error, jump = (number(cell[key]) for key in ("prefix_error", "boundary_jump"))
        lines.append(f"| {label} | {percent(cell['success'])} | {gain} | {error} | {jump} |")
    return "\n".join(lines)


def policy_table(document: dict[str, Any]) -> str:
    """Success of each policy under the same four settings, and what guidance changes."""
    columns = ["naive, d = 0, s = 1", "naive, d = 4", "hard, d = 4", "soft, d = 4", "hard - naive"]
    lines = ["| policy | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    shipped = [document["shipped"][setting.name] for setting in policy_settings()]
    for label, cells in [("shipped", shipped)] + [
        (POLICIES[name], cells) for name, cells in document["policies"].items()
    ]:
        values = " | ".join(percent(cell["success"]) for cell in cells)
        lines.append(f"| {label} | {values} | {percent(difference(cells[2], cells[1]))} |")
    return "\n".join(lines)


def report(document: dict[str, Any]) -> None:
    """The tables of docs/delay.md, from the document alone."""
    for name, rows in tables().items():
        write_between(DOCS / "delay.md", f"ablation {name}", setting_table(document, rows))
    write_between(DOCS / "delay.md", "ablation policies", policy_table(document))


@click.command()
@click.option("--episodes", type=click.IntRange(1), default=256, show_default=True, help="Episodes a cell.")
@click.option(
    "--policies",
    type=click.Path(path_type=Path),
    default=Path("out/policies"),
    show_default=True,
    help="Other policies.",
)
@click.option(
    "--only-report", is_flag=True, help="Write the tables from the committed JSON, simulate nothing."
)
def main(episodes: int, policies: Path, only_report: bool) -> None:
    """Run the ablations and write their tables."""
    out = RESULTS / "ablations.json"
    if not only_report:
        write_json(out, measure(episodes, policies))
    report(read_json(out))


if __name__ == "__main__":
    main()
