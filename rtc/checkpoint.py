"""What a checkpoint's two files hold, read with every doubt resolved, or refused with a reason."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from rtc.errors import CheckpointError
from rtc.serialise import read_json

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def parameters_of(network: type[nn.Module], *, required: bool = False) -> list[str]:
    """The names of the arguments of `network`: all, or those without a default."""
    parameters = inspect.signature(network).parameters.items()
    return [name for name, each in parameters if not required or each.default is each.empty]


def read_config(path: Path, network: type[nn.Module], required: Iterable[str], remedy: str) -> dict[str, Any]:
    """The arguments of `network` in a config.json; what else it holds is not needed.

    remedy: what to do where there is none. Raises CheckpointError for a file that is missing or no JSON, or
    lacks some of the arguments `required`.
    """
    try:
        document = read_json(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; {remedy}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error}); copy it again") from error
    missing = [name for name in required if not isinstance(document, dict) or name not in document]
    if missing:
        raise CheckpointError(
            f"{path} does not say {', '.join(missing)}; it is no {network.__name__}'s: save it again"
        )
    return {name: document[name] for name in parameters_of(network) if name in document}


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, as float32.

    Raises CheckpointError if it is missing or damaged, or holds values that are not finite.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; copy it from where it was saved")
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


def misfit(folder: Path, what: str, error: Exception) -> CheckpointError:
    """That the two files in `folder` do not make one `what`, with the reason that PyTorch gives."""
    return CheckpointError(
        f"{folder / CONFIG} and {folder / WEIGHTS} do not describe one {what} "
        f"({' '.join(str(error).split())[:200]}); copy both from the same checkpoint"
    )
