"""A validated sweep: which cells are simulated, which are left out and why, and what decides the results."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtc.cli.build import Builder, execution_horizon, rows_of_rule
from rtc.cli.environments import check_task
from rtc.cli.fair import FAIR, fair_delay, measure_latency, read_latencies, try_out
from rtc.cli.plan import STRATEGY_DEFAULTS
from rtc.cli.provenance import versions
from rtc.cli.strategy_text import StrategyText
from rtc.errors import InvalidArgument, Unsupported
from rtc.report.sweep_summary import FORMAT
from rtc.run_folder import earlier_settings
from rtc.runtime.latency import ConstantDelay, DelayModel, TraceDelay
from rtc.runtime.strategies import Oracle, Strategy
from rtc.sweep import Cell, Shard, split

Latencies = dict[str, dict[str, float]]
"""Milliseconds of one inference, by task and strategy."""


@dataclass(frozen=True)
class Setting:
    """What tells one cell of a sweep from another: texts as they were asked for, and s in rows."""

    task: str
    strategy: str
    delay: str
    execution_horizon: int

    @property
    def name(self) -> str:
        """Unique, fit for a file name."""
        text = f"{self.task} {self.strategy} d={self.delay} s={self.execution_horizon}"
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"{re.sub(r'[^A-Za-z0-9=.-]+', '_', text)[-100:]}-{digest}"


@dataclass(frozen=True)
class LeftOut:
    """A cell that cannot be, by its own rule for s, and the reason."""

    task: str
    strategy: str
    delay: str
    horizon: str
    reason: str


@dataclass
class SweepPlan:
    """The cells, what was left out, and `settings`: all that decides the results, as JSON can hold it."""

    builders: dict[str, Builder]
    seeds: range
    settings: dict[str, Any]
    cells: dict[Setting, Cell] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)

    def shards(self, batch: int) -> list[Shard]:
        """All shards, cell after cell."""
        return split(self.cells.values(), self.seeds, batch)

    def shards_of(self, setting: Setting, batch: int) -> list[Shard]:
        """Those of one cell, in the order of their seeds."""
        return split([self.cells[setting]], self.seeds, batch)


def make_sweep_plan(arguments: Mapping[str, Any]) -> SweepPlan:
    """Check everything but the output folder, and write nothing. Raises RtcError."""
    for rule in arguments["horizons"]:
        rows_of_rule(rule, 1, 0)
    builders = builders_of(arguments["tasks"], arguments["policies"])
    strategies: list[StrategyText] = arguments["strategies"]
    seeds = range(arguments["seed"], arguments["seed"] + arguments["episodes"])
    settings = {
        "format": FORMAT,
        "tasks": list(builders),
        "strategies": [str(strategy) for strategy in strategies],
        "strategy_defaults": STRATEGY_DEFAULTS,
        "delays": [str(delay) for delay in arguments["delays"]],
        "traces": {str(delay): delay.ticks for delay in arguments["delays"] if isinstance(delay, TraceDelay)},
        "horizons": list(arguments["horizons"]),
        "episodes": arguments["episodes"],
        "seed": arguments["seed"],
        "policy_sha256": {
            task: builder.fingerprints((strategy.name, strategy.options) for strategy in strategies)
            for task, builder in builders.items()
        },
        "versions": versions(),
    }
    plan = SweepPlan(builders, seeds, settings)
    found = [_Candidate(plan, task, strategy) for task in builders for strategy in strategies]
    if FAIR in arguments["delays"]:
        settings["latencies"] = _latencies(found, arguments)
    for candidate in found:
        candidate.fill(arguments["delays"], arguments["horizons"])
    if not plan.cells:
        raise InvalidArgument(f"nothing is left to simulate: {plan.left_out[0].reason}")
    return plan


def builders_of(tasks: list[str], policies: tuple[str, ...]) -> dict[str, Builder]:
    """A builder a task; policies: texts TASK=FOLDER. Raises RtcError for what does not exist or fit."""
    names = [check_task(task) for task in tasks]
    folders = dict(_policy(text) for text in policies)
    unused = [task for task in folders if task not in names]
    if unused:
        raise InvalidArgument(f"--policy for {unused[0]}, which is none of the tasks {', '.join(names)}")
    return {name: Builder.check(name, folders.get(name)) for name in names}


def _policy(text: str) -> tuple[str, Path]:
    task, equals, folder = text.partition("=")
    if not equals or not folder:
        raise InvalidArgument(f"--policy {text!r} is not TASK=FOLDER, such as Catch-v0=out/policy")
    return check_task(task), Path(folder)


class _Candidate:
    """A strategy in a task, tried once: its cells, or why it has none."""

    def __init__(self, plan: SweepPlan, task: str, text: StrategyText) -> None:
        self.task, self.text, self.builder = task, text, plan.builders[task]
        self._plan = plan
        self._reason = ""
        self.strategy: Strategy | None = None
        try:
            self._make = self.builder.strategy(text.name, **STRATEGY_DEFAULTS | dict(text.options))
            strategy = self._make()
            try_out(strategy, self.builder.env(), 1)
            self.strategy = strategy
        except Unsupported as error:
            self._reason = str(error)

    def fill(self, delays: list[DelayModel | str], rules: list[str]) -> None:
        """Add the cells of this strategy to the plan, and what it must leave out."""
        for delay in delays:
            for rule in rules:
                try:
                    setting, cell = self._cell(delay, rule)
                except Unsupported as error:
                    reason = LeftOut(self.task, str(self.text), str(delay), rule, str(error))
                    self._plan.left_out.append(reason)
                else:
                    self._plan.cells.setdefault(setting, cell)

    def _cell(self, delay: DelayModel | str, rule: str) -> tuple[Setting, Cell]:
        if self.strategy is None:
            raise Unsupported(self._reason)
        model = self._fair() if isinstance(delay, str) else delay
        rows = _legal_rows(rule, self.strategy, model)
        setting = Setting(self.task, str(self.text), str(delay), rows)
        starvation = self.builder.starvation
        return setting, Cell(setting.name, self.builder.env(), self._make, model, rows, starvation)

    def _fair(self) -> ConstantDelay:
        latencies: Latencies = self._plan.settings["latencies"]
        if str(self.text) not in latencies[self.task]:
            raise Unsupported(
                f"{self.text} is no policy and has no latency of its own; name one in --latencies"
            )
        return fair_delay(latencies[self.task][str(self.text)], self.builder.tick_seconds)


def _legal_rows(rule: str, strategy: Strategy, delay: DelayModel) -> int:
    """The rows s that `rule` means; Unsupported, with the reason, where this strategy cannot run like that.

    A delay that varies counts as what a robot begins with; while it moves, s is at least what was counted.
    """
    expected, longest = delay.initial, strategy.max_delay
    if longest is not None and expected > longest:
        raise Unsupported(
            f"d = {expected} is beyond the policy, which was trained on at most {longest} committed actions"
        )
    rows = rows_of_rule(rule, strategy.horizon, expected)
    if rows < expected and not strategy.waits:
        raise Unsupported(f"s = {rows} is below d = {expected}: a robot asks for one chunk at a time")
    try:
        return execution_horizon(rule, strategy, expected)
    except InvalidArgument as error:
        raise Unsupported(str(error)) from None


def _latencies(candidates: list[_Candidate], arguments: Mapping[str, Any]) -> Latencies:
    """Given, or measured by an earlier part of this run, or measured now."""
    able = [each for each in candidates if each.strategy is not None]
    if arguments["latencies"] is not None:
        given = read_latencies(arguments["latencies"])
        wanted = {str(each.text) for each in able if each.text.name != Oracle.name}
        missing = ", ".join(sorted(wanted - given.keys()))
        if missing:
            raise InvalidArgument(f"{arguments['latencies']} has no latency of {missing}; add it, in ms")
        return {each.task: given for each in able}
    earlier = {} if arguments["force"] else earlier_settings(arguments["out"])
    before: Latencies = earlier.get("latencies", {})
    found: Latencies = {each.task: {} for each in candidates}
    for each in able:
        label = str(each.text)
        if each.text.name != Oracle.name and each.strategy is not None:
            stored = before.get(each.task, {}).get(label)
            now = measure_latency(each.strategy, each.builder.env()) if stored is None else stored
            found[each.task][label] = now
    return found


def reasons(plan: SweepPlan) -> Iterator[str]:
    """A line for each reason to leave cells out, with those that it concerns."""
    concerned: dict[str, list[str]] = {}
    for each in plan.left_out:
        cell = f"{each.strategy} at d = {each.delay}, s = {each.horizon} ({each.task})"
        concerned.setdefault(each.reason, []).append(cell)
    for reason, cells in concerned.items():
        more = f" and {len(cells) - 2} more" if len(cells) > 3 else ""
        yield f"left out: {'; '.join(cells[: 2 if more else 3])}{more}: {reason}"
