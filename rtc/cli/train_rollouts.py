"""A policy in training, tried in its task: how often it succeeds, and what the expert says where it goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from envs.demos import Act, Recipe, record_episodes
from policies.flow import FlowPolicy
from rtc.cli.demos_source import expert_env
from rtc.cli.environments import make_env
from rtc.demonstrations import Demonstrations
from rtc.distributed import rank, wait_for_all
from rtc.errors import InvalidArgument
from rtc.runtime.controller import Request
from rtc.runtime.episode import Episode
from rtc.runtime.latency import ConstantDelay
from rtc.runtime.observation import Observation, stack
from rtc.runtime.rollout import rollout_batch
from rtc.runtime.strategies import make_strategy
from rtc.shards import read_shard, shard_path, write_shard

JUDGED_FROM = 2_000_000  # seeds that neither demonstrations (from 1,000,000) nor evaluations (from 0) use
RELABELLED_FROM = 3_000_000
ROUND = 100_000  # between the seeds of two rounds
BATCH = 64  # episodes in lockstep


def episodes_without_delay(policy: FlowPolicy, seeds: Sequence[int], execution_horizon: int) -> list[Episode]:
    """The policy in its task at d = 0, one episode a seed."""
    strategy = make_strategy("naive", policy, device=policy.obs_mean.device)
    episodes: list[Episode] = []
    for start in range(0, len(seeds), BATCH):
        some = list(seeds[start : start + BATCH])
        envs = [make_env(policy.task, cameras=policy.cameras) for _ in some]
        done, _ = rollout_batch(
            envs, strategy, execution_horizon=execution_horizon, delay=ConstantDelay(0), seeds=some
        )
        episodes += done
        for env in envs:
            env.close()
    return episodes


def success_without_delay(network: nn.Module, episodes: int) -> float:
    """The part of `episodes` in which the policy succeeds at d = 0, replanned every quarter of a chunk."""
    assert isinstance(network, FlowPolicy)
    seeds = range(JUDGED_FROM, JUDGED_FROM + episodes)
    done = episodes_without_delay(network, seeds, max(1, network.horizon // 4))
    return sum(episode.success for episode in done) / episodes


def relabelled(
    folder: Path, number: int, episodes: int, network: nn.Module, recorded: dict[str, Any]
) -> Demonstrations:
    """Round `number` >= 1 of DAgger: `episodes` driven by the policy and labelled by the task's expert.

    What a process that was killed has recorded is in `folder` and is not recorded again. recorded: the
    manifest of the first demonstrations, whose recipe is used. See `check_relabelling`.
    """
    assert isinstance(network, FlowPolicy)
    if rank() == 0 and not shard_path(folder, number).exists():
        recipe = Recipe(**recorded["recipe"]) if "recipe" in recorded else Recipe(network.horizon)
        if network.max_delay:
            recipe = replace(recipe, max_prefix=min(recipe.max_prefix, network.max_delay))
        first = RELABELLED_FROM + number * ROUND
        make = partial(expert_env, network.task, list(network.cameras))
        act = driver(network, first)
        write_shard(folder, number, record_episodes(make, range(first, first + episodes), recipe, act=act))
    wait_for_all()
    return read_shard(folder, number).demonstrations()


def check_relabelling(policy: FlowPolicy) -> None:
    """Raise InvalidArgument for a policy that looks back, or whose task has no expert that looks ahead."""
    if policy.history > 1:
        raise InvalidArgument(
            f"the policy looks back on {policy.history} observations, but relabelling shows it one: "
            "train with --history 1, or without --dagger"
        )
    expert_env(policy.task).close()


def driver(policy: FlowPolicy, seed: int) -> Act:
    """The policy as what drives a recording; it is told what is committed if it was trained on prefixes."""
    name = "conditioned" if policy.max_delay else "naive"
    strategy = make_strategy(name, policy, device=policy.obs_mean.device)
    generator = torch.Generator().manual_seed(seed)
    shape = (policy.horizon, policy.action_dim)

    def act(obs: Observation, committed: np.ndarray) -> np.ndarray:
        plan = np.zeros(shape, np.float32)
        plan[: len(committed)] = committed
        request = Request(0, 0, inference_delay=len(committed), previous=plan, remaining=policy.horizon)
        chunks, _ = strategy(stack([obs]), [request], torch.randn(1, *shape, generator=generator))
        return chunks[0]

    return act
