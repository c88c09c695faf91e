"""Checkpoints of policies: read with every doubt resolved, or refused with a reason."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from policies.flow import FlowPolicy
from rtc.errors import CheckpointError

CONFIG, WEIGHTS = "config.json", "model.safetensors"
SHIPPED = Path(__file__).parent / "weights"


def bare_task(task: str) -> str:
    """A task's Gymnasium id without its namespace: "rtc/ReachPastPost-v0" becomes "ReachPastPost-v0"."""
    return task.rpartition("/")[2]


def shipped_checkpoint(task: str) -> Path:
    """The folder of the weights that come with the package for `task`; it may not exist."""
    return SHIPPED / bare_task(task)


def load_policy(folder: Path | str, task: str | None = None, **changes: Any) -> FlowPolicy:
    """The policy that `save_pretrained` wrote to `folder`, on the CPU, for inference, in float32.

    task: if given, the task (with or without `rtc/`) that the policy must have been trained for.
    changes: `max_delay` or `obs_dropout` other than the checkpoint's, for a training that goes on from it.
    Raises CheckpointError for files that are missing, truncated, from a newer version or do not fit together,
    for weights that are not finite, and for another task; the message names the file and the remedy.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(
            f"there is no checkpoint folder {folder}; "
            "train one (rtc train -h), or give the folder that holds config.json and model.safetensors"
        )
    config = _read_config(folder / CONFIG)
    trained_for = bare_task(str(config["task"]))
    if task is not None and trained_for != bare_task(task):
        raise CheckpointError(
            f"the policy in {folder} was trained for {trained_for}, not for {bare_task(task)}; "
            f"give a checkpoint of {bare_task(task)}, or that task"
        )
    weights = _read_weights(folder / WEIGHTS)
    try:
        policy = FlowPolicy(**config | changes)
        policy.load_state_dict(_with_or_without_nothing(policy, weights) if changes else weights)
    except CheckpointError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from None
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{folder / CONFIG} and {folder / WEIGHTS} do not describe one policy "
            f"({' '.join(str(error).split())[:200]}); copy both from the same checkpoint"
        ) from error
    return policy.eval().requires_grad_(False)


def _with_or_without_nothing(policy: FlowPolicy, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """`weights` with what stands for a missing observation as new, if the policy has that, or without."""
    others = {name: value for name, value in weights.items() if name != "nothing"}
    if policy.nothing is None:
        return others
    return {"nothing": policy.nothing.detach()} | weights


def halve(network: nn.Module) -> None:
    """Store the weights as float16, in place, for writing them; normalisation and limits stay float32.

    float16 keeps 11 bits of a weight, bfloat16 8; the range that bfloat16 has more is not needed.
    Raises CheckpointError for weights that are too large.
    """
    for name, parameter in network.named_parameters():
        parameter.data = parameter.data.half()
        if not parameter.isfinite().all():
            raise CheckpointError(f"{name} has weights beyond float16's 65504; train again, without --half")


def _read_config(path: Path) -> dict:
    """The arguments of FlowPolicy; what else the file holds is not needed."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; copy it from where the policy was saved") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error}); copy it again") from error
    known = inspect.signature(FlowPolicy).parameters
    required = [name for name, parameter in known.items() if parameter.default is parameter.empty]
    missing = [name for name in required if not isinstance(document, dict) or name not in document]
    if missing:
        raise CheckpointError(
            f"{path} does not say {', '.join(missing)}; it is no FlowPolicy's: save the policy again"
        )
    return {name: value for name, value in document.items() if name in known}


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; copy it from where the policy was saved")
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is truncated or damaged ({error}); copy it again, or train anew"
        ) from error
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"{path}: {name} is not finite; the training diverged: use an earlier checkpoint"
            )
    return weights
