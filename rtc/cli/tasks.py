"""`rtc tasks`: the tasks that exist, and what each one is, from their own cards."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console
from rich.table import Table

import envs
from envs.card import Card
from envs.task import ArmTask
from rtc.cli.environments import NAMESPACE, check_task, make_env
from rtc.errors import InvalidArgument


def card_of(task: str) -> tuple[Card, dict[str, Any]]:
    """The card of a task, and what its environment says of its actions."""
    env = make_env(check_task(task)).unwrapped
    if not isinstance(env, ArmTask):
        raise InvalidArgument(f"{task} is not one of ours and has no card; `rtc tasks` lists those that have")
    return env.card, env.metadata["card"]["action"]


@click.command(short_help="List the tasks, or describe one.")
@click.argument("task", required=False)
def tasks(task: str | None) -> None:
    """List the tasks, or describe TASK: what is observed and commanded, what counts, what makes it hard."""
    console = Console(highlight=False)
    console.print(_overview() if task is None else _description(task))


def _overview() -> Table:
    table = Table("task", "control", "what", "ways to succeed", box=None, pad_edge=False)
    for name in envs.CLASSES:
        card, _ = card_of(f"{name}-v0")
        controls = list(card.drives)
        table.add_row(f"{NAMESPACE}{name}-v0", controls[0], card.title, ", ".join(card.modes))
        table.add_row(f"{NAMESPACE}{name}Position-v0", controls[1], "", "")
    return table


def _description(task: str) -> Table:
    card, action = card_of(task)
    table = Table(title=card.title, box=None, show_header=False, title_justify="left", pad_edge=False)
    for name, text in description(card, action):
        table.add_row(name, text)
    return table


def description(card: Card, action: dict[str, Any]) -> list[tuple[str, str]]:
    """The rows of a task's table: (what, text)."""
    sensors = "; ".join(
        f"{sensor.name} ({sensor.size}, {sensor.unit}{f', noise {sensor.noise:g}' if sensor.noise else ''})"
        for sensor in card.sensors
    )
    commands = "; ".join(
        f"{name} {centre:g} +- {scale:g} {unit}"
        for name, unit, centre, scale in zip(
            action["actuators"], action["units"], action["centre"], action["scale"], strict=True
        )
    )
    rows = [
        ("task", card.summary),
        ("success", card.success),
        *((f"failure: {name}", when) for name, when in card.failures.items()),
        ("failure: timeout", f"after {card.seconds:g} s"),
        ("reset", card.reset),
        ("disturbances", card.disturbances),
        ("why delay hurts", card.why),
        ("ways to succeed", ", ".join(card.modes)),
        (f"observation [{card.obs_dim}]", sensors),
        (f"action [{len(action['actuators'])}] in [-1, 1]", commands),
        ("without an action", {"hold": "the last one again", "zero": "zeros"}[action["starvation"]]),
    ]
    return rows + [
        (name, f"{knob.default:g} ({knob.low:g} to {knob.high:g}) {knob.unit}: {knob.meaning}")
        for name, knob in card.knobs.items()
    ]
