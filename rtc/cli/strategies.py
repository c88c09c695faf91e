"""`rtc strategies`: the ways of executing chunks, what each needs and costs, from their own words."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console
from rich.table import Table

from rtc.runtime.strategies import (
    ALL,
    AROUND,
    WORLD_MODELS,
    About,
    check_name,
    defaults_of,
    options_of,
)

ABOUT: dict[str, About] = {name: strategy.about for name, strategy in ALL.items()}


@click.command(short_help="List the ways of executing chunks, or describe one.")
@click.argument("strategy", required=False)
def strategies(strategy: str | None) -> None:
    """List the strategies, or describe STRATEGY: what it does, needs and costs, its options, its source.

    n: flow steps of a chunk. A VJP is a vector-Jacobian product through the policy: about one more call.
    """
    console = Console(highlight=False)
    if strategy is None:
        console.print(_overview())
    else:
        check_name(strategy, ABOUT)
        console.print(_description(strategy))


def _overview() -> Table:
    table = Table("strategy", "what it does", "calls", "needs", box=None, pad_edge=False)
    for name, about in ABOUT.items():
        table.add_row(name, about.summary, about.calls, "; ".join(about.needs))
    return table


def _description(name: str) -> Table:
    about = ABOUT[name]
    table = Table(title=name, box=None, show_header=False, title_justify="left", pad_edge=False)
    table.add_row("what", about.summary)
    table.add_row("needs", "; ".join(about.needs) or "nothing but a flow-matching policy")
    table.add_row("calls of the policy", about.calls)
    options = [f"{option}={default}" for option, default in _options(name).items() if option != "device"]
    table.add_row("options", ", ".join(options) or "none")
    table.add_row("source", about.source)
    return table


def _options(name: str) -> dict[str, Any]:
    around = AROUND.get(name, {})
    model = defaults_of(WORLD_MODELS[around["model"]]) if "model" in around else {}
    return around | options_of(name) | model
