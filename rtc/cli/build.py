"""A task and a policy, checked: what the cells of a sweep are made from; and the rules for s."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import gymnasium

from envs.outside import AnyTask, is_outside
from policies.checkpoint import (
    shipped_checkpoint,
)
from policies.flow import FlowPolicy
from rtc.cli.assemble import build_strategy, cached_policy, files_of
from rtc.cli.environments import check_task, make_env
from rtc.errors import CheckpointError, InvalidArgument
from rtc.run_folder import fingerprint
from rtc.runtime.controller import Starvation
from rtc.runtime.strategies import (
    Strategy,
)


@dataclass(frozen=True)
class Builder:
    """A task and a policy, checked, from which the factories of a sweep's cells are made."""

    task: str
    folder: Path

    @classmethod
    def check(cls, task: str, policy: Path | None) -> Builder:
        """From a task's name and a checkpoint folder (the shipped weights if None). Raises RtcError."""
        name = check_task(task)
        folder = shipped_checkpoint(name) if policy is None else policy
        if policy is None and not folder.is_dir():
            raise CheckpointError(
                f"no weights are shipped for {name}: train them (rtc train -h), then give them as --policy"
            )
        cached_policy(folder.resolve(), name)
        return cls(name, folder.resolve())

    @property
    def policy(self) -> FlowPolicy:
        """The policy; loaded once."""
        return cached_policy(self.folder, self.task)

    @cached_property
    def _metadata(self) -> dict[str, Any]:
        env = self.env()()
        env.close()
        return env.metadata

    @property
    def starvation(self) -> Starvation:
        """What this task's robot does at a tick without an action; "hold" where the task does not say."""
        return self._metadata.get("starvation", "hold")

    @property
    def tick_seconds(self) -> float:
        """Seconds of one control tick of the task."""
        return 1 / float(self._metadata["control_hz"])

    @property
    def assumed(self) -> list[str]:
        """What an environment from outside does not say and is assumed, one sentence each."""
        env = self.env()()
        env.close()
        return env.assumed if isinstance(env, AnyTask) else []

    def env(self, **settings: Any) -> Callable[[], gymnasium.Env]:
        """A picklable factory of the task's env, with the images that the policy sees."""
        return partial(make_env, self.task, cameras=self.policy.cameras, **settings)

    def filmed_env(self, image_size: tuple[int, int]) -> Callable[[], gymnasium.Env]:
        """The same with pictures to render: of this height and width, but for environments from outside."""
        if is_outside(self.task):
            return self.env(render_mode="rgb_array")
        return self.env(render_mode="rgb_array", image_size=image_size)

    def fingerprints(self, strategies: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, str]:
        """Of what these strategies, names with their options, run: checkpoints and choices, by their kind."""
        found: dict[str, list[Path]] = {}
        for name, options in strategies:
            found |= files_of(name, options, self.folder, self.task)
        return {
            what: fingerprint(*files)
            for what, files in sorted(found.items())
            if all(file.is_file() for file in files)
        }

    def strategy(self, name: str, **settings: Any) -> Callable[[], Strategy]:
        """A picklable factory of a strategy, tried once: bad settings raise InvalidArgument here."""
        factory = partial(build_strategy, name, self.folder, self.task, **settings)
        factory()
        return factory


def rows_of_rule(rule: str, horizon: int, delay: int) -> int:
    """The rows that `rule` means (see `execution_horizon`), legal or not; InvalidArgument if it is none."""
    match = re.fullmatch(r"(max\(d,|H/)?(\d+)(\))?", rule.replace(" ", ""))
    if not match or (match[1] == "max(d,") != bool(match[3]) or (match[1] == "H/" and match[2] == "0"):
        raise InvalidArgument(
            f"execution horizon {rule!r} is none of: a number of ticks such as 4; H/4; max(d,1)"
        )
    number = int(match[2])
    return {None: number, "H/": horizon // max(number, 1), "max(d,": max(number, delay)}[match[1]]


def execution_horizon(rule: str, strategy: Strategy, delay: int) -> int:
    """The execution horizon s in rows that `rule` means at `delay` ticks, legal for the strategy.

    rule: "4" rows; "H/4", a part of a chunk; "max(d,4)" rows, 4 or the delay if that is more.
    A strategy that moves while it infers asks for one chunk at a time: an s below d is raised to d.
    Raises InvalidArgument unless 1 <= s <= H and, for those strategies, s <= H - d (Black et al. 2025).
    """
    horizon = strategy.horizon
    rows = rows_of_rule(rule, horizon, delay)
    if not 1 <= rows <= horizon:
        raise InvalidArgument(
            f"execution horizon {rule} is s = {rows} at d = {delay}, but a chunk has H = {horizon} actions: "
            f"the legal range is 1 <= s <= {horizon}"
        )
    if strategy.waits:
        return rows
    rows = max(rows, delay)
    if rows > horizon - delay:
        raise InvalidArgument(
            f"delay d = {delay} with execution horizon s = {rows} leaves {strategy.name} without actions: "
            f"the legal range is d <= s <= H - d with H = {horizon}, so "
            + (f"s <= {horizon - delay} at this d" if 2 * delay <= horizon else f"d <= {horizon // 2}")
        )
    return rows
