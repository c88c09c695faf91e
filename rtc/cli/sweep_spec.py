"""`rtc sweep --spec FILE.toml`: a sweep as a file, its keys named like the options of the command line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import click

from rtc.errors import InvalidArgument

NOT_IN_FILES = ("spec", "help")


def read_spec(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """The callback of --spec: the file's values become the defaults of the other options."""
    if path is None:
        return None
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path} is no TOML: {error}") from None
    options = {
        option.opts[0].removeprefix("--"): option
        for option in ctx.command.params
        if option.name not in NOT_IN_FILES
    }
    unknown = [key for key in document if key not in options]
    if unknown:
        raise InvalidArgument(f"{path}: there is no key {', '.join(unknown)}; there are {', '.join(options)}")
    values = {options[key].name: _text(path, key, value, options[key]) for key, value in document.items()}
    ctx.default_map = {name: value for name, value in values.items() if name is not None}
    return path


def _text(path: Path, key: str, value: Any, option: click.Parameter) -> Any:
    """A value as the command line would have it: a list joined by commas, a table as NAME=VALUE each."""
    if option.multiple:
        if not isinstance(value, dict):
            raise InvalidArgument(f'{path}: {key} is a table such as {{"Catch-v0" = "out/policy"}}')
        return [f"{name}={each}" for name, each in value.items()]
    if isinstance(option, click.Option) and option.is_flag:
        if not isinstance(value, bool):
            raise InvalidArgument(f"{path}: {key} is true or false, not {value!r}")
        return value
    if isinstance(value, list) and all(isinstance(each, str | int) for each in value):
        return ",".join(str(each) for each in value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidArgument(f"{path}: {key} = {value!r} is no text, no whole number and no list of these")
    return str(value)
