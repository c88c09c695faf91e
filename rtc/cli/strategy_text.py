"""Strategies as users write them: `naive`, or with options `realtime:schedule=exp:max_weight=steps`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rtc.errors import InvalidArgument
from rtc.runtime.strategies import STRATEGIES, Oracle

GIVEN = ("policy", "device")
"""Arguments of a strategy that a command line decides otherwise."""
CONVERTED = (int, float, bool, str, NoneType)
"""Types that a text can become, the narrower first."""


@dataclass(frozen=True)
class StrategyText:
    """A strategy as it was asked for: its text, and the name and the options in it."""

    text: str
    name: str = field(compare=False)
    options: Mapping[str, Any] = field(compare=False)

    def __str__(self) -> str:
        return self.text


def parse_strategy(text: str) -> StrategyText:
    """What `text` asks for; raises InvalidArgument, with what exists, where a name or an option does not."""
    name, *words = text.strip().split(":")
    known = [*STRATEGIES, Oracle.name]
    if name not in known:
        raise InvalidArgument(f"strategy {name!r} does not exist; choose from {', '.join(known)}")
    types, options = option_types(name), {}
    for word in words:
        option, equals, value = word.partition("=")
        if option not in types or not equals:
            choice = ", ".join(f"{key}=..." for key in types) or "nothing: it has no options"
            raise InvalidArgument(f"{word!r} is no option of strategy {name}; choose from {choice}")
        if option in options:
            raise InvalidArgument(f"strategy {text!r} gives {option} twice; give it once")
        options[option] = _convert(name, option, value, types[option])
    return StrategyText(text.strip(), name, options)


def option_types(name: str) -> dict[str, tuple[type, ...]]:
    """The options of strategy `name` that a text can give, and the types that each may have."""
    if name not in STRATEGIES:
        return {}
    factory = STRATEGIES[name]
    hints = get_type_hints(factory)
    found = {key: _types(hints[key]) for key in inspect.signature(factory).parameters if key not in GIVEN}
    return {key: types for key, types in found.items() if all(each in CONVERTED for each in types)}


def _types(hint: Any) -> tuple[Any, ...]:
    """The alternatives of an annotation; a word out of a list is a word, and the strategy knows the list."""
    if isinstance(hint, UnionType):
        return tuple(kind for part in get_args(hint) for kind in _types(part))
    return tuple({type(word) for word in get_args(hint)}) if get_origin(hint) is Literal else (hint,)


def _convert(strategy: str, option: str, text: str, types: tuple[type, ...]) -> Any:
    words: dict[str, Any] = {"none": None} if NoneType in types else {}
    words |= {"true": True, "false": False} if bool in types else {}
    if text in words:
        return words[text]
    for kind in (int, float, str):
        try:
            if kind in types:
                return kind(text)
        except ValueError:
            pass
    names = {int: "a whole number", float: "a number"}
    expected = [names[kind] for kind in (int, float) if kind in types] + list(words)
    raise InvalidArgument(f"{option}={text} of strategy {strategy}: it must be {' or '.join(expected)}")
