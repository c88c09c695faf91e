"""`rtc strategies`, and what the command line builds that needs a simulator."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from policies.checkpoint import shipped_checkpoint
from rtc.cli import main
from rtc.cli.assemble import build_strategy, check_strategies
from rtc.cli.build import Builder
from rtc.cli.strategies import ABOUT
from rtc.errors import Unsupported
from rtc.runtime.latency import ConstantDelay
from rtc.runtime.rollout import rollout
from rtc.runtime.strategies import SIMULATED, STRATEGIES, Rollforward, Simulator, options_of

TASK = "Peg-v0"


def say(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["strategies", *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


def test_the_list_names_every_strategy_with_what_it_needs() -> None:
    text = say()
    for name, about in ABOUT.items():
        (line,) = (line for line in text.splitlines() if line.split()[:1] == [name])
        assert about.summary[:20] in line
    assert check_strategies(list(ABOUT)) == [*STRATEGIES, "residual", *SIMULATED]


@pytest.mark.parametrize("name", ABOUT)
def test_a_description_has_its_options_and_its_source(name: str) -> None:
    text = say(name)
    assert ABOUT[name].source[:25] in text
    for option in set(options_of(name)) - {"device"}:
        assert f"{option}=" in text


def test_a_strategy_that_does_not_exist_is_refused_with_those_that_do() -> None:
    result = CliRunner().invoke(main, ["strategies", "telepathy"])
    assert result.exit_code == 2
    assert "naive, ensemble, blend" in result.output


def test_roll_forward_through_the_simulator_succeeds_where_blind_switching_fails() -> None:
    builder = Builder.check(TASK, None)
    outcomes = {
        name: [
            rollout(builder.env()(), make(), execution_horizon=6, delay=ConstantDelay(6), seed=seed).success
            for seed in range(600_000, 600_006)
        ]
        for name in ("naive", "rollforward")
        for make in [builder.strategy(name)]
    }
    assert sum(outcomes["rollforward"]) >= sum(outcomes["naive"]) + 2


def test_roll_forward_takes_another_strategy_inside_with_its_own_weights() -> None:
    weights = shipped_checkpoint(TASK).resolve()
    strategy = build_strategy("rollforward", weights, TASK, inner="conditioned", ahead=2)
    assert isinstance(strategy, Rollforward)
    assert (strategy.inner.name, strategy.ahead, strategy.horizon) == ("conditioned", 2, 16)
    with pytest.raises(Unsupported, match="cannot run synchronous inside"):
        build_strategy("rollforward", weights, TASK, inner="synchronous")


@pytest.mark.parametrize("name", SIMULATED)
def test_a_world_that_cannot_be_copied_cannot_be_looked_ahead_in(name: str) -> None:
    with pytest.raises(Unsupported, match=f"leave {name} out"):
        build_strategy(name, shipped_checkpoint(TASK), "gymnasium:Pendulum-v1")


def test_the_prediction_keeps_the_noise_of_what_was_seen() -> None:
    builder = Builder.check(TASK, None)
    strategy = builder.strategy("rollforward")()
    assert isinstance(strategy, Rollforward)
    env = builder.env()()
    seen, _ = env.reset(seed=3)
    assert isinstance(strategy.model, Simulator)
    now, still = (strategy.model.simulate(env, np.zeros((0, 3))) for _ in range(2))
    assert np.array_equal(now, still)
    assert not np.allclose(seen, now, atol=1e-5)
