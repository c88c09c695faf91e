"""Strategies as users write them: `naive`, or with options `realtime:schedule=exp:max_weight=steps`.

`rollforward` and `residual` have the options of the strategy inside, too, and the former those of the model
that it looks ahead with: `rollforward:inner=realtime:ahead=4:schedule=exp`, `rollforward:model=learned`,
`rollforward:error=0.1`, `residual:inner=conditioned`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rtc.errors import InvalidArgument
from rtc.runtime.strategies import ALL, AROUND, STRATEGIES, WORLD_MODELS, check_name, defaults_of

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
    around = {option: value for option, _, value in given if option in AROUND.get(name, {})}
    types, options = option_types(name, around), {}
    for option, equals, value in given:
        if option not in types or not equals:
            choice = ", ".join(f"{key}=..." for key in types)
            raise InvalidArgument(
                f"{option + equals + value!r} is no option of strategy {name}; choose from {choice}"
            )
        if option in options:
            raise InvalidArgument(f"strategy {text!r} gives {option} twice; give it once")
        options[option] = _convert(name, option, value, types[option])
    return StrategyText(text.strip(), name, options)


def option_types(name: str, around: Mapping[str, str] | None = None) -> dict[str, tuple[type, ...]]:
    """The options of strategy `name` that a text can give, and the types that each may have.

    around: what is inside of `rollforward` or `residual`, as far as it is not as in AROUND. Raises
    InvalidArgument for what does not exist.
    """
    own = _options(ALL[name])
    if name not in AROUND:
        return own
    inside = AROUND[name] | dict(around or {})
    found: dict[str, tuple[type, ...]] = {option: (str,) for option in inside} | own
    check_name(inside["inner"], STRATEGIES)
    if "model" in inside:
        check_name(inside["model"], WORLD_MODELS, "model")
        found |= _options(WORLD_MODELS[inside["model"]])
    return found | _options(STRATEGIES[inside["inner"]])


def _options(kind: type[Any]) -> dict[str, tuple[type, ...]]:
    hints = get_type_hints(kind)
    found = {key: _types(hints[key]) for key in defaults_of(kind) if key not in GIVEN}
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
