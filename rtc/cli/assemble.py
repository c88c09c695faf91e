"""Policies and strategies by name: what a command line says becomes what a worker can run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from envs.demos import foresee
from envs.task import ArmTask
from policies.checkpoint import (
    find_dynamics,
    load_policy,
    shipped_checkpoint,
)
from policies.flow import FlowPolicy
from policies.residual import ResidualHead, load_residual, residual_folder
from rtc.checkpoint import CONFIG, WEIGHTS
from rtc.cli.choice import CHOICE, read_choice
from rtc.cli.environments import make_env
from rtc.cli.world import LOOKING, check_copied
from rtc.errors import CheckpointError
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

TOLD = (Conditioned.name, Auto.name)  # strategies that a policy trained on prefixes serves best


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
