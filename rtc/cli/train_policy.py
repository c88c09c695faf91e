"""What a training of a policy starts from: the policy, and the rows that its loss reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from jaxtyping import Bool, Int

from policies.checkpoint import load_policy
from policies.flow import FlowPolicy
from rtc.cli.environments import make_env
from rtc.cli.train_options import PolicyOptions
from rtc.dataset import read_demonstrations
from rtc.demonstrations import Demonstrations
from rtc.errors import CheckpointError, InvalidArgument

Rows = tuple[torch.Tensor, ...]
"""Observations [n, obs_dim], normalised chunks [n, horizon, action_dim], valid rows [n, horizon], committed
rows [n], and images [n, height, width, 3] of each camera of the policy."""


def rows_of(demonstrations: Demonstrations, policy: FlowPolicy) -> Rows:
    """What the loss reads, in memory."""
    chunks, valid = torch.from_numpy(demonstrations.chunks), demonstrations.valid
    committed = demonstrations.committed
    return (
        torch.from_numpy(demonstrations.obs),
        policy.normalize(chunks),
        torch.ones(chunks.shape[:2], dtype=torch.bool) if valid is None else torch.from_numpy(valid),
        torch.zeros(len(chunks), dtype=torch.int64) if committed is None else torch.from_numpy(committed),
        *(torch.from_numpy(demonstrations.images[camera]) for camera in policy.cameras),
    )


def of_held_out(episode: Int[np.ndarray, " n"], every: int) -> Bool[np.ndarray, " n"]:
    """Which rows belong to a held-out episode; raises InvalidArgument if those are none, or all."""
    held_out = episode % every == 0
    if held_out.all() or not held_out.any():
        raise InvalidArgument(
            f"the data have too few episodes to hold out every {every}th; record more (rtc demos)"
        )
    return held_out


def split(
    demonstrations: Demonstrations, policy: FlowPolicy, every: int, normalise: bool = True
) -> tuple[Rows, Rows]:
    """Rows to train on, and those of every `every`th episode, held out; fits the policy's normalisation.

    normalise: False keeps the one that the policy has. Raises InvalidArgument if either part is empty.
    """
    held_out = torch.from_numpy(of_held_out(demonstrations.episode, every))
    if normalise:
        obs, chunks = torch.from_numpy(demonstrations.obs), torch.from_numpy(demonstrations.chunks)
        policy.fit_normalisation(obs[~held_out], chunks[~held_out])
    rows = rows_of(demonstrations, policy)
    return tuple(values[~held_out] for values in rows), tuple(values[held_out] for values in rows)


def new_policy(
    task: str,
    demonstrations: Demonstrations,
    *,
    channels: int = 96,
    cameras: tuple[str, ...] = (),
    **settings: Any,
) -> FlowPolicy:
    """A policy in the sizes of the demonstrations and the limits of the task's actions.

    settings: further arguments of FlowPolicy.
    """
    env = make_env(task)
    space = env.action_space
    env.close()
    assert isinstance(space, gymnasium.spaces.Box), "an env with other actions is refused when it is made"
    obs, chunks = demonstrations.obs, demonstrations.chunks
    return FlowPolicy(
        task,
        obs.shape[-1],
        chunks.shape[2],
        chunks.shape[1],
        channels,
        row_hidden=channels // 2,
        channel_hidden=2 * channels,
        action_low=space.low.tolist(),
        action_high=space.high.tolist(),
        history=1 if obs.ndim == 2 else obs.shape[1],
        cameras=cameras,
        image_size=demonstrations.images[cameras[0]].shape[1] if cameras else 96,
        **settings,
    )


def start(task: str, data: Path, shape: PolicyOptions) -> tuple[FlowPolicy, Demonstrations, dict[str, Any]]:
    """The policy that `shape` asks for, new or from a checkpoint, with its demonstrations and their manifest.

    Raises DatasetError and CheckpointError for what cannot be read or does not fit, InvalidArgument for a
    shape that the checkpoint does not have.
    """
    if shape.origin is None:
        cameras = tuple(shape.cameras or ())
        demonstrations, manifest = read_demonstrations(
            data, task, horizon=shape.horizon, history=shape.history or 1, cameras=cameras
        )
        settings = shape.given("network", "channels", "blocks", "max_delay", "obs_dropout")
        return new_policy(task, demonstrations, cameras=cameras, **settings), demonstrations, manifest
    if shaping := shape.given("network", "channels", "blocks", "horizon", "history", "cameras"):
        options = ", ".join(f"--{name}" for name in shaping)
        raise InvalidArgument(f"--from takes the network as it is in {shape.origin}: leave out {options}")
    policy = load_policy(shape.origin, task, **shape.given("max_delay", "obs_dropout"))
    demonstrations, manifest = read_demonstrations(
        data, task, horizon=policy.horizon, history=policy.history, cameras=policy.cameras
    )
    _check_fit(policy, demonstrations, shape.origin)
    return policy.requires_grad_(True).train(), demonstrations, manifest


def _check_fit(policy: FlowPolicy, demonstrations: Demonstrations, folder: Path) -> None:
    obs, chunks = demonstrations.obs, demonstrations.chunks
    sizes = (policy.obs_dim, policy.action_dim)
    if sizes != (obs.shape[-1], chunks.shape[2]):
        raise CheckpointError(
            f"the policy in {folder} has observations of {sizes[0]} numbers and actions of {sizes[1]}, "
            f"the demonstrations {obs.shape[-1]} and {chunks.shape[2]}; train without --from"
        )
