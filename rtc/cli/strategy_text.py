"""Strategies as users write them: `naive`, or with options `realtime:schedule=exp:max_weight=steps`.

`rollforward` and `residual` have the options of the strategy inside, too:
`rollforward:inner=realtime:ahead=4:schedule=exp`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rtc.errors import InvalidArgument
from rtc.runtime.strategies import ALL, STRATEGIES, Residual, Rollforward, check_name, options_of

GIVEN = ("device",)
"""Options that a command line decides otherwise."""
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
    check_name(name, ALL)
    given = [word.partition("=") for word in words]
    types, options = option_types(name, inner=dict((key, value) for key, _, value in given).get("inner")), {}
    for option, equals, value in given:
        if option not in types or not equals:
            choice = ", ".join(f"{key}=..." for key in types) or "nothing: it has no options"
            raise InvalidArgument(
                f"{option + equals + value!r} is no option of strategy {name}; choose from {choice}"
            )
        if option in options:
            raise InvalidArgument(f"strategy {text!r} gives {option} twice; give it once")
        options[option] = _convert(name, option, value, types[option])
    return StrategyText(text.strip(), name, options)


def option_types(name: str, inner: str | None = None) -> dict[str, tuple[type, ...]]:
    """The options of strategy `name` that a text can give, and the types that each may have.

    inner: the strategy inside `rollforward` or `residual`, naive unless it is said.
    """
    strategy = ALL[name]
    hints = get_type_hints(strategy)
    found = {key: _types(hints[key]) for key in options_of(name) if key not in GIVEN}
    own = {key: types for key, types in found.items() if all(each in CONVERTED for each in types)}
    if strategy not in (Rollforward, Residual):
        return own
    check_name(inner or "naive", STRATEGIES)
    return {"inner": (str,), **own, **option_types(inner or "naive")}


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
