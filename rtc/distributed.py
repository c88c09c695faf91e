"""Several processes that train one network: torchrun starts them, and what they share is here.

Without torchrun there is one process, rank 0, and every function does what that means.
"""

from __future__ import annotations

import os
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

ANSWERS_WITHIN = 6  # hours that the others wait for a rank that rolls out or records


def join(device: torch.device) -> torch.device:
    """Meet the processes that torchrun started, if it did; the device of this one."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, timeout=timedelta(hours=ANSWERS_WITHIN))
    return device


def leave() -> None:
    """Part from the other processes, if there are any."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def rank() -> int:
    """Which process this is, from 0; only 0 writes."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def wait_for_all() -> None:
    """Return when every process has come here."""
    if distributed.is_initialized():
        distributed.barrier()


def average_gradients(network: nn.Module) -> None:
    """Replace every gradient by its mean over the processes."""
    if world_size() == 1:
        return
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(together)
    together /= world_size()
    parts = together.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def gather(value: Tensor) -> list[Tensor]:
    """The `value` of every process, by rank."""
    if world_size() == 1:
        return [value]
    values: list[Tensor | None] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return [value for value in values if value is not None]
