"""Memory: slices of the particles through the network, and one line where even that is too much."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from rtc.errors import InvalidArgument

COPIES = 8
"""Tensors of the size of all particles that a filter holds at once: points, estimates, noise, proposals."""


def in_slices(
    function: Callable[[Tensor], Sequence[Tensor]], x: Tensor, particle_batch: int | None
) -> list[Tensor]:
    """function(x), a tuple of tensors [n, ...], computed for at most `particle_batch` particles at a time."""
    parts = [function(part) for part in x.split(particle_batch or len(x))]
    return [torch.cat(tensors) if len(parts) > 1 else tensors[0] for tensors in zip(*parts, strict=True)]


@contextmanager
def bounded_memory(like: Tensor, particle_batch: int | None) -> Iterator[None]:
    """Where the particles do not fit, say in one line how much was asked for and what asks for less.

    like: shaped as all the particles. On a CPU what cannot fit is refused before it is tried, since the
    system would end the process; elsewhere the allocation fails, and is put in words.
    """
    needed, batch = COPIES * like.element_size() * like.numel(), particle_batch or len(like)
    refusal = InvalidArgument(
        f"{len(like)} particles of shape {tuple(like.shape[1:])} (about {needed / 1e9:.3g} GB), {batch} of "
        "them in a network call, are more than memory holds; give a smaller particle_batch "
        "(--particle-batch), or fewer particles."
    )
    if like.device.type == "cpu" and needed > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
        raise refusal
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or "memory" in str(error).lower():
            raise refusal from error
        raise
