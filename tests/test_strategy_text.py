"""Strategies as texts: what they name, what they are refused for, and that options reach their strategy."""

from __future__ import annotations

import pytest
from point_mass import GaussianPolicy

from rtc.cli.strategy_text import option_types, parse_strategy
from rtc.errors import InvalidArgument
from rtc.runtime.strategies import STRATEGIES, make_strategy


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("naive", "naive", {}),
        ("realtime:schedule=exp:jacobian=identity", "realtime", {"schedule": "exp", "jacobian": "identity"}),
        ("realtime:max_weight=steps", "realtime", {"max_weight": "steps"}),
        ("realtime:max_weight=5:mask_end=4", "realtime", {"max_weight": 5.0, "mask_end": 4}),
        ("realtime:mask_end=none", "realtime", {"mask_end": None}),
        (" bid:samples=8 ", "bid", {"samples": 8}),
        ("rollforward:error=0.1", "rollforward", {"error": 0.1}),
        ("residual:inner=conditioned", "residual", {"inner": "conditioned"}),
        (
            "rollforward:model=learned:inner=conditioned:ahead=4",
            "rollforward",
            {"model": "learned", "inner": "conditioned", "ahead": 4},
        ),
        (
            "rollforward:schedule=linear:inner=realtime:ahead=2",
            "rollforward",
            {"schedule": "linear", "inner": "realtime", "ahead": 2},
        ),
    ],
)
def test_a_text_names_a_strategy_and_its_options(text: str, name: str, options: dict) -> None:
    strategy = parse_strategy(text)
    assert (strategy.name, dict(strategy.options)) == (name, options)
    assert [type(value) for value in strategy.options.values()] == [type(value) for value in options.values()]
    assert str(strategy) == text.strip()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "choose from synchronous, naive"),
        ("psychic", "'psychic' does not exist; choose from synchronous, naive"),
        ("naive:schedule=exp", "'schedule=exp' is no option of strategy naive; choose from num_steps=..."),
        ("bid:weak=policy", "'weak=policy' is no option"),
        ("naive:device=cpu", "'device=cpu' is no option"),
        ("naive:num_steps", "'num_steps' is no option"),
        ("naive:", "'' is no option"),
        ("naive:num_steps=", "it must be a whole number"),
        ("naive:num_steps=2.5", "num_steps=2.5 of strategy naive: it must be a whole number"),
        ("realtime:data_std=wide", "it must be a number"),
        ("realtime:mask_end=all", "it must be a whole number or none"),
        ("naive:num_steps=2:num_steps=2", "gives num_steps twice"),
        ("rollforward:inner=oracle", "'oracle' does not exist"),
        ("rollforward:model=oracle", "model 'oracle' does not exist; choose from simulator, learned"),
        ("rollforward:model=learned:error=0.1", "'error=0.1' is no option of strategy rollforward"),
        ("naive:model=learned", "'model=learned' is no option of strategy naive"),
        ("rollforward:schedule=exp", "'schedule=exp' is no option of strategy rollforward"),
    ],
)
def test_what_is_no_strategy_says_what_there_is(text: str, expected: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        parse_strategy(text)
    assert expected in str(error.value)


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "conditioned"])
def test_every_whole_number_that_a_text_gives_reaches_its_strategy(name: str) -> None:
    numbers = [option for option, types in option_types(name).items() if int in types]
    text = ":".join([name, *(f"{option}=3" for option in numbers)])
    options = dict(parse_strategy(text).options)
    strategy = make_strategy(name, GaussianPolicy(), **options)
    assert "num_steps" in numbers
    assert all(getattr(strategy, option) == 3 for option in numbers)
