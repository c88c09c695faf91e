"""A policy in training, tried in its task: how often it succeeds, and what the expert says where it goes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from envs.demos import Act, Recipe, record_episodes
from policies.flow import FlowPolicy
from rtc.cli.build import make_env
from rtc.cli.demos_source import expert_env
from rtc.demonstrations import Demonstrations
from rtc.distributed import rank, wait_for_all
from rtc.errors import InvalidArgument
from rtc.prefix import Prefix
from rtc.runtime.latency import ConstantDelay
from rtc.runtime.rollout import rollout_batch
from rtc.runtime.strategies import make_strategy
from rtc.sample import sample
from rtc.shards import read_shard, shard_path, write_shard

JUDGED_FROM = 2_000_000  # seeds that neither demonstrations (from 1,000,000) nor evaluations (from 0) use
RELABELLED_FROM = 3_000_000
ROUND = 100_000  # between the seeds of two rounds
BATCH = 64  # episodes in lockstep
FLOW_STEPS = 5


def success_without_delay(network: nn.Module, episodes: int) -> float:
    """The part of `episodes` in which the policy succeeds at d = 0, replanned every quarter of a chunk."""
    assert isinstance(network, FlowPolicy)
    strategy = make_strategy("naive", network, device=network.obs_mean.device)
    successes = 0
    for start in range(0, episodes, BATCH):
        seeds = list(range(JUDGED_FROM + start, JUDGED_FROM + min(start + BATCH, episodes)))
        envs = [make_env(network.task, cameras=network.cameras) for _ in seeds]
        done, _ = rollout_batch(
            envs,
            strategy,
            execution_horizon=max(1, network.horizon // 4),
            delay=ConstantDelay(0),
            seeds=seeds,
        )
        successes += sum(episode.success for episode in done)
        for env in envs:
            env.close()
    return successes / episodes


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
    device = policy.obs_mean.device
    generator = torch.Generator().manual_seed(seed)

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values)[None].to(device)

    @torch.inference_mode()
    def act(obs: Any, committed: np.ndarray) -> np.ndarray:
        noise = torch.randn(1, policy.horizon, policy.action_dim, generator=generator).to(device)
        prefix = None
        if policy.max_delay:
            rows = np.zeros((policy.horizon, policy.action_dim), np.float32)
            rows[: len(committed)] = committed
            prefix = Prefix(policy.normalize(tensor(rows)), torch.tensor([len(committed)], device=device))
        seen = {name: tensor(value) for name, value in obs.items()} if isinstance(obs, dict) else tensor(obs)
        chunk = sample(policy.condition(seen, prefix), noise, FLOW_STEPS)
        return policy.denormalize(chunk)[0].cpu().numpy()

    return act
