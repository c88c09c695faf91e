"""Checkpoints of policies: read with every doubt resolved, or refused with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from policies.dynamics import Dynamics
from policies.flow import FlowPolicy
from rtc.checkpoint import CONFIG, WEIGHTS, misfit, parameters_of, read_config, read_weights
from rtc.errors import CheckpointError

SHIPPED = Path(__file__).parent / "weights"
DYNAMICS = "dynamics"  # the folder, within a policy's, of the learned model of its world
PREFIX = "-prefix"  # ends the name of the folder of a policy that was trained on committed prefixes


def bare_task(task: str) -> str:
    """A task's Gymnasium id without its namespace: "rtc/ReachPastPost-v0" becomes "ReachPastPost-v0"."""
    return task.rpartition("/")[2]


def shipped_checkpoint(task: str, prefix: bool = False) -> Path:
    """The folder of the weights that come with the package for `task`; it may not exist.

    prefix: of the policy that was trained on committed prefixes as well.
    """
    return SHIPPED / (bare_task(task) + (PREFIX if prefix else ""))


def load_policy(folder: Path | str, task: str | None = None, **changes: Any) -> FlowPolicy:
    """The policy that `save_pretrained` wrote to `folder`, on the CPU, for inference, in float32.

    task: if given, the task (with or without `rtc/`) that the policy must have been trained for.
    changes: `max_delay` or `obs_dropout` other than the checkpoint's, for a training that goes on from it.
    Raises CheckpointError for files that are missing, truncated, from a newer version or do not fit together,
    for weights that are not finite, and for another task; the message names the file and the remedy.
    """
    folder = Path(folder)
    config, weights = _read(folder, FlowPolicy, "policy", "train", task)
    try:
        policy = FlowPolicy(**config | changes)
        policy.load_state_dict(_with_or_without_nothing(policy, weights) if changes else weights)
    except CheckpointError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from None
    except (TypeError, ValueError, RuntimeError) as error:
        raise misfit(folder, "policy", error) from error
    return policy.eval().requires_grad_(False)


def load_dynamics(folder: Path | str, task: str | None = None) -> Dynamics:
    """The dynamics that `save_pretrained` wrote to `folder`; as `load_policy`, and raises what that does.

    They compute in float64: among many robots a product of float32 is rounded otherwise than alone, and an
    episode must not depend on how many others are simulated with it.
    """
    folder = Path(folder)
    config, weights = _read(folder, Dynamics, "dynamics", "train-dynamics", task)
    try:
        dynamics = Dynamics(**config)
        dynamics.load_state_dict(weights)
    except CheckpointError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from None
    except (TypeError, ValueError, RuntimeError) as error:
        raise misfit(folder, "dynamics", error) from error
    return dynamics.double().eval().requires_grad_(False)


def find_dynamics(policy: Path) -> Path | None:
    """The folder of the dynamics that serve the policy in this one, if there are any: DYNAMICS within it.

    A policy that was trained on prefixes acts in the same world: without its own, X-prefix has those of X.
    """
    plain = policy.with_name(policy.name.removesuffix(PREFIX))
    found = (folder / DYNAMICS for folder in (policy, plain))
    return next((folder for folder in found if (folder / CONFIG).exists()), None)


def _read(
    folder: Path, network: type[nn.Module], what: str, command: str, task: str | None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and weights of the `network` in `folder`, which `rtc command` makes, checked to be of `task`."""
    if not folder.is_dir():
        raise CheckpointError(
            f"there is no checkpoint folder {folder}; "
            f"train one (rtc {command} -h), or give the folder that holds config.json and model.safetensors"
        )
    required = parameters_of(network, required=True)
    config = read_config(folder / CONFIG, network, required, f"copy it from where the {what} was saved")
    trained_for = bare_task(str(config["task"]))
    if task is not None and trained_for != bare_task(task):
        raise CheckpointError(
            f"the {what} in {folder} was trained for {trained_for}, not for {bare_task(task)}; "
            f"give a checkpoint of {bare_task(task)}, or that task"
        )
    return config, read_weights(folder / WEIGHTS)


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
