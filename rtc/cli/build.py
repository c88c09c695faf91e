"""Tasks, policies and strategies by name: what a command line says becomes what a worker can build."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

import envs
from envs.demos import foresee
from envs.outside import AnyTask, is_outside, make_outside
from envs.task import ArmTask
from policies.checkpoint import (
    bare_task,
    find_dynamics,
    load_policy,
    shipped_checkpoint,
)
from policies.flow import FlowPolicy
from policies.residual import ResidualHead, load_residual, residual_folder
from rtc.checkpoint import CONFIG, WEIGHTS
from rtc.cli.choice import CHOICE, read_choice
from rtc.cli.world import LOOKING, check_copied
from rtc.errors import CheckpointError, InvalidArgument
from rtc.run_folder import fingerprint
from rtc.runtime.controller import Starvation
from rtc.runtime.strategies import (
    ALL,
    AROUND,
    WORLD_MODELS,
    Oracle,
    Residual,
    Rollforward,
    Strategy,
    check_name,
    defaults_of,
    make_strategy,
)
from rtc.runtime.strategies.auto import Auto
from rtc.runtime.strategies.conditioned import Conditioned

NAMESPACE = "rtc/"
TOLD = (Conditioned.name, Auto.name)  # strategies that a policy trained on prefixes serves best


def task_names() -> list[str]:
    """The tasks that exist, without their namespace."""
    return sorted(bare_task(name) for name in gymnasium.registry if name.startswith(NAMESPACE))


def check_task(task: str) -> str:
    """`task` without its namespace; raises InvalidArgument, with those that exist, if it is none.

    An environment from outside (`envs.outside`) keeps its name, and is made once to see that it can be.
    """
    if is_outside(task):
        make_outside(task).close()
        return task
    name = task.removeprefix(NAMESPACE)
    if name not in task_names():
        raise InvalidArgument(
            f"task {task!r} does not exist; choose from {', '.join(task_names())}, "
            "or give gymnasium:ID or metaworld:NAME"
        )
    return name


def make_env(task: str, **settings: Any) -> gymnasium.Env:
    """The env of a task; the module before the colon registers it, also in a fresh worker process."""
    if is_outside(task):
        return make_outside(task, **settings)
    return gymnasium.make(f"{envs.__name__}:{NAMESPACE}{task}", disable_env_checker=True, **settings)


def check_strategies(names: list[str]) -> list[str]:
    """`names` as they are; raises InvalidArgument, with those that exist, for one that does not."""
    for name in names:
        check_name(name, ALL)
    return names


@lru_cache(maxsize=4)
def cached_policy(folder: Path, task: str) -> FlowPolicy:
    """`load_policy`, once a process; also checks that the policy fits the task's spaces."""
    policy = load_policy(folder, task)
    env = make_env(task, cameras=policy.cameras)
    env.close()
    space = env.observation_space
    state = space["state"] if isinstance(space, gymnasium.spaces.Dict) else space
    expected = (state.shape, env.action_space.shape)
    if ((policy.obs_dim,), (policy.action_dim,)) != expected:
        raise CheckpointError(
            f"the policy in {folder} takes {policy.obs_dim} numbers and gives {policy.action_dim}, "
            f"but {task} has observations {expected[0]} and actions {expected[1]}; train one for it"
        )
    return policy


def build_strategy(name: str, folder: Path, task: str, **settings: Any) -> Strategy:
    """The strategy `name` around the policy in `folder`, or the oracle with chunks as long as its.

    For auto it is what a sweep found best for this policy (`rtc.cli.choice`), if that was noted.
    For rollforward and residual `settings` may name the strategy inside ("inner"), for rollforward `ahead`
    and what it looks ahead with: "model", a key of WORLD_MODELS, and the options of that. Raises Unsupported
    for what the task or the policy does not have, and says how to get it.
    """
    if name == Oracle.name:
        check_copied(task, name)
        return Oracle(foresee_anew, cached_policy(folder, task).horizon, settings.get("expected", "longest"))
    if name == Residual.name:
        inner = settings.pop("inner", AROUND[Residual.name]["inner"])
        head = cached_residual(checkpoint_for(inner, folder, task), task)
        return Residual(build_strategy(inner, folder, task, **settings), head)
    if name == Rollforward.name:
        return _rollforward(folder, task, settings)
    if name == Auto.name and (chosen := read_choice(folder)):
        return build_strategy(chosen.name, folder, task, **settings | dict(chosen.options))
    return make_strategy(name, cached_policy(checkpoint_for(name, folder, task), task), **settings)


def _rollforward(folder: Path, task: str, settings: dict[str, Any]) -> Rollforward:
    inner, model = (settings.pop(part, default) for part, default in AROUND[Rollforward.name].items())
    check_name(model, WORLD_MODELS, "model")
    options = {key: settings.pop(key) for key in defaults_of(WORLD_MODELS[model]) if key in settings}
    world = LOOKING[model](folder, task, **options)
    ahead = settings.pop("ahead", None)
    return Rollforward(build_strategy(inner, folder, task, **settings), world, ahead)


def checkpoint_for(name: str, folder: Path, task: str) -> Path:
    """The checkpoint that strategy `name` runs: `folder`, but of the shipped ones the one made for it."""
    trained = shipped_checkpoint(task, prefix=True).resolve()
    shipped = shipped_checkpoint(task).resolve()
    return trained if name in TOLD and folder == shipped and trained.is_dir() else folder


@lru_cache(maxsize=4)
def cached_residual(folder: Path, task: str) -> ResidualHead:
    """The residual head of the policy in `folder`, once a process; raises Unsupported where there is none."""
    return load_residual(residual_folder(folder), cached_policy(folder, task))


def files_of(name: str, options: Mapping[str, Any], folder: Path, task: str) -> dict[str, list[Path]]:
    """The files that decide what strategy `name` does with these options, by what they are."""
    if name == Auto.name and (chosen := read_choice(folder)):
        return {CHOICE: [folder / CHOICE]} | files_of(chosen.name, chosen.options, folder, task)
    policy = checkpoint_for(options.get("inner", name), folder, task)
    folders = {"policy" if policy == folder else policy.name: policy}
    if name == Residual.name:
        folders["residual"] = residual_folder(policy)
    if options.get("model") == "learned" and (dynamics := find_dynamics(folder)):
        folders["dynamics"] = dynamics
    return {what: [place / CONFIG, place / WEIGHTS] for what, place in folders.items()}


def foresee_anew(
    env: gymnasium.Env, committed: np.ndarray, horizon: int, random: np.random.Generator
) -> np.ndarray:
    """What an expert that comes new to the scene does after the committed rows."""
    task = env.unwrapped
    assert isinstance(task, ArmTask), "every task of ours is one"
    return foresee(task, task.make_expert(random), committed, horizon)


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
