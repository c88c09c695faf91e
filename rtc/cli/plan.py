"""A validated run: what is simulated, in which shards, and what decides its results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rtc.cli.assemble import check_strategies
from rtc.cli.build import Builder, execution_horizon
from rtc.cli.provenance import versions
from rtc.errors import InvalidArgument
from rtc.runtime.latency import ConstantDelay
from rtc.sweep import Cell, Shard, split

# What the study in docs/ recommends: this is the one place for it.
STRATEGY_DEFAULTS: dict[str, Any] = {
    "num_steps": 5,
    "schedule": "zeros",
    "jacobian": "exact",
    "max_weight": 5.0,
    "data_std": 1.0,
    "mask_end": None,
}
"""Arguments that go to `make_strategy` as they are, and what they are if a user does not say."""
DECIDE_NOTHING = ("policy", "out", "workers", "batch", "video_seed", "no_video", "rerun", "force", "as_json")
"""Arguments that no number depends on; the policy counts by its contents."""


@dataclass(frozen=True)
class Plan:
    """Cells by (strategy, delay), their shards, and `settings`: all that decides the results, for JSON."""

    builder: Builder
    cells: dict[tuple[str, int], Cell]
    shards: list[Shard]
    seeds: range
    settings: dict[str, Any]

    def shards_of(self, strategy: str, delay: int) -> list[Shard]:
        """The shards of one cell, in the order of their seeds."""
        return [shard for shard in self.shards if shard.cell is self.cells[strategy, delay]]


def make_plan(arguments: dict[str, Any]) -> Plan:
    """Check everything but the output folder, and touch nothing. Raises RtcError."""
    builder = Builder.check(arguments["task"], arguments["policy"])
    cells = _cells(builder, arguments)
    seeds = range(arguments["seed"], arguments["seed"] + arguments["episodes"])
    if arguments["video_seed"] is not None and arguments["video_seed"] not in seeds:
        raise InvalidArgument(
            f"the video's seed {arguments['video_seed']} is not simulated; "
            f"choose one of {seeds[0]}..{seeds[-1]}"
        )
    decisive = {name: value for name, value in arguments.items() if name not in DECIDE_NOTHING}
    settings = decisive | {
        "task": builder.task,
        "policy_sha256": builder.fingerprints((name, {}) for name in arguments["strategies"]),
        "versions": versions(),
    }
    return Plan(builder, cells, split(cells.values(), seeds, arguments["batch"]), seeds, settings)


def _cells(builder: Builder, arguments: dict[str, Any]) -> dict[tuple[str, int], Cell]:
    cells = {}
    starvation = arguments["starvation"] or builder.starvation
    for name in check_strategies(arguments["strategies"]):
        factory = builder.strategy(name, **{key: arguments[key] for key in STRATEGY_DEFAULTS})
        strategy = factory()
        for delay in arguments["delays"]:
            cells[name, delay] = Cell(
                name=f"{name}-d{delay}",
                make_env=builder.env(),
                make_strategy=factory,
                delay=ConstantDelay(delay),
                execution_horizon=execution_horizon(arguments["execution_horizon"], strategy, delay),
                starvation=starvation,
            )
    return cells
