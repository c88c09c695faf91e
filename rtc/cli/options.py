"""Parameter types and options that commands share: text in, checked values out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

import click

from rtc.errors import InvalidArgument

task_option = click.option(
    "--task",
    "--env",
    "task",
    default="ReachPastPost-v0",
    show_default=True,
    metavar="ID",
    help="A task (rtc/ may be left out), or an environment from outside: gymnasium:ID or metaworld:NAME.",
)


class NameList(click.ParamType):
    """Names separated by commas, each once, in order."""

    name = "a,b,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        """Text to a list of names."""
        if not isinstance(value, str):
            return value
        names = [name.strip() for name in value.split(",")]
        if not all(names):
            self.fail(f"{value!r} is no list of names such as naive,realtime", param, ctx)
        return list(dict.fromkeys(names))


class TextList(click.ParamType):
    """Texts separated by commas that stand outside parentheses, each read by `parse`; each once, in order."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Any]:
        """Text to a list of what `parse` makes of its parts; an InvalidArgument of it is a usage error."""
        if not isinstance(value, str):
            return value
        try:
            parts = re.split(r",(?![^(]*\))", value)
            return list({str(part): part for part in map(self._parse, map(str.strip, parts))}.values())
        except InvalidArgument as error:
            self.fail(str(error), param, ctx)


class TickList(click.ParamType):
    """Numbers of control ticks, 0 or more, separated by commas; sorted, each once."""

    name = "ticks,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """Text to a list of ticks."""
        if not isinstance(value, str):
            return value
        try:
            ticks = sorted({int(part) for part in value.split(",")})
        except ValueError:
            self.fail(f"{value!r} is no list of whole numbers such as 0,2,4", param, ctx)
        if ticks[0] < 0:
            self.fail(f"{ticks[0]} is negative; a delay is 0 or more control ticks", param, ctx)
        return ticks


class MaxWeight(click.ParamType):
    """A positive number, or "steps"."""

    name = "number|steps"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | Literal["steps"]:
        """Text to the clip of the guidance weight."""
        if value == "steps":
            return "steps"
        try:
            number = float(value)
        except ValueError:
            number = 0.0
        if not number > 0:
            self.fail(f"{value!r} is neither a number above 0 nor the word steps", param, ctx)
        return number
