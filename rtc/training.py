"""A training run of any network with any loss: averaged weights, a held-out loss, and resuming to the bit.

In several processes (`torchrun`) each takes its share of every batch, and gradients are averaged.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Generator, Tensor, nn

from rtc.distributed import average_gradients, gather, rank, world_size
from rtc.errors import CheckpointError, InvalidArgument
from rtc.serialise import whole_file

STATE = "training.pt"
HELD_OUT_BATCH = 2048
BETWEEN_RANKS = 2**20  # between the seeds of two processes

Loss = Callable[..., Tensor]
"""(network, *batch, generator=generator) -> a mean over the rows of the batch, a scalar."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; written into its recipe.json.

    steps: optimiser steps. batch_size: rows a step, of all processes together. learning_rate: its peak,
    reached after `warmup` steps and followed by a half cosine down to a hundredth. ema_decay: of the averaged
    weights that are kept. clip: largest gradient norm. validation: one in so many is held out. bfloat16:
    gradients in mixed precision; what is only measured, is measured in full. compile: the loss through
    torch.compile.
    Raises InvalidArgument for counts below 1 and for a learning rate that is not positive and finite.
    """

    steps: int = 5000
    batch_size: int = 512
    learning_rate: float = 2e-3
    warmup: int = 300
    weight_decay: float = 1e-2
    ema_decay: float = 0.999
    clip: float = 1.0
    validation: int = 25
    bfloat16: bool = False
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "warmup", "validation"):
            if getattr(self, name) < 1:
                raise InvalidArgument(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0.0 < self.learning_rate < math.inf:
            raise InvalidArgument(f"learning_rate is {self.learning_rate}; it must be positive and finite")

    def rate(self, step: int) -> float:
        """The learning rate of optimiser step `step`, counted from 0."""
        fall = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.learning_rate * min(1.0, (step + 1) / self.warmup) * (0.01 + 0.99 * fall)


class Run:
    """One run: network, averaged copy, optimiser, random generator, and how far it has come.

    loss: (network, *batch, generator=generator) -> scalar, all its randomness from the generator. kind: what
    is trained, for errors; a state of another kind is refused. device: where the network goes, and where its
    data must be. Interrupted at any step and resumed from its last `save`, a run goes on exactly as it would
    have. `curve` and `judged` are what the caller measured on the way.
    Raises InvalidArgument for a batch that the processes cannot share evenly.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        loss: Loss,
        kind: str = "network",
        device: torch.device | str = "cpu",
    ) -> None:
        if recipe.batch_size % world_size():
            raise InvalidArgument(
                f"batch_size is {recipe.batch_size}, which {world_size()} processes cannot share evenly"
            )
        self.device = torch.device(device)
        self.network, self.recipe, self.loss, self.kind = network.to(device), recipe, loss, kind
        self._training_loss = torch.compile(loss) if recipe.compile else loss
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.generator = Generator(self.device).manual_seed(recipe.seed + BETWEEN_RANKS * rank())
        self.step = 0
        self.seconds = 0.0
        self.curve: list[dict[str, float]] = []
        self.judged: list[dict[str, float]] = []
        self.best: dict[str, Tensor] | None = None

    def advance(self, *data: Tensor) -> float:
        """One optimiser step on a random batch of the rows of `data`; its loss."""
        recipe, start = self.recipe, perf_counter()
        share = (recipe.batch_size // world_size(),)
        rows = torch.randint(len(data[0]), share, generator=self.generator, device=self.device)
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.rate(self.step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=recipe.bfloat16):
            batch = [values[rows] for values in data]
            loss = self._training_loss(self.network, *batch, generator=self.generator)
        self.optimiser.zero_grad()
        loss.backward()
        average_gradients(self.network)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip)
        self.optimiser.step()
        self.step += 1
        self._average_weights()
        value = loss.item()  # waits for a device that computes on its own
        self.seconds += perf_counter() - start
        return value

    def judge(self, score: float) -> None:
        """Note how good the averaged weights are at this step; the best are kept, of equals the later."""
        if score >= max((point["score"] for point in self.judged), default=score):
            self.best = {name: value.clone() for name, value in self.average.state_dict().items()}
        self.judged.append({"step": self.step, "score": score})

    @property
    def best_step(self) -> int:
        """The step whose averaged weights are kept: the best judged, or the last."""
        scores = [(point["score"], point["step"]) for point in self.judged]
        return int(max(scores)[1]) if scores else self.step

    def kept(self) -> nn.Module:
        """A copy of the averaged network with the weights of `best_step`, on the CPU."""
        network = copy.deepcopy(self.average)
        if self.best is not None:
            network.load_state_dict(self.best)
        return network.cpu()

    @torch.no_grad()
    def _average_weights(self) -> None:
        # young averages forget faster, so that the initial weights leave them
        decay = min(self.recipe.ema_decay, self.step / (self.step + 10))
        for averaged, current in zip(self.average.parameters(), self.network.parameters(), strict=True):
            averaged.lerp_(current, 1 - decay)

    @torch.no_grad()
    def held_out_loss(self, *data: Tensor) -> float:
        """The averaged weights' loss on held-out rows, with the same noise at every call."""
        generator = Generator(self.device).manual_seed(self.recipe.seed + 1)
        losses = [
            self.loss(self.average, *batch, generator=generator).item() * len(batch[0])
            for batch in zip(*(values.split(HELD_OUT_BATCH) for values in data), strict=True)
        ]
        return sum(losses) / len(data[0])

    def save(self, folder: Path) -> None:
        """Keep all that resuming needs, whole or not at all; every process must call it, one writes."""
        state = {
            "kind": self.kind,
            "recipe": asdict(self.recipe),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generators": gather(self.generator.get_state()),
            "step": self.step,
            "seconds": self.seconds,
            "curve": self.curve,
            "judged": self.judged,
            "best": self.best,
        }
        if rank() == 0:
            with whole_file(folder / STATE) as temporary:
                torch.save(state, temporary)

    def resume(self, folder: Path) -> None:
        """Go on from what `save` kept.

        Raises CheckpointError if it is damaged, or belongs to another recipe, network, number of processes or
        data set (which the network's buffers tell).
        """
        path = folder / STATE
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            differing = self._differing(state)
        except Exception as error:  # a damaged zip or pickle surfaces as many exception types
            raise CheckpointError(
                f"{path} is damaged ({type(error).__name__}); delete it and train again"
            ) from error
        if differing:
            raise CheckpointError(
                f"{path} was trained with another {', '.join(differing)}; "
                "give the same to resume, or use --force"
            )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generators"][rank()])
        self.step, self.seconds, self.curve = state["step"], state["seconds"], state["curve"]
        self.judged, self.best = state["judged"], state["best"]

    def _differing(self, state: dict[str, Any]) -> list[str]:
        """What this run and the one that left `state` do not have in common."""
        before, weights = dict(state["recipe"]), dict(state["network"])
        now = {name: value.cpu() for name, value in self.network.state_dict().items()}
        differing = [name for name, value in asdict(self.recipe).items() if before.get(name) != value]
        if len(state["generators"]) != world_size():
            differing.append("number of processes")
        shapes = [{name: value.shape for name, value in each.items()} for each in (now, weights)]
        buffers = [name for name, _ in self.network.named_buffers() if name in now]
        if shapes[0] != shapes[1] or state["kind"] != self.kind:
            differing.append(self.kind)
        elif not all(torch.equal(now[name], weights[name]) for name in buffers):
            differing.append("data set")
        return differing
