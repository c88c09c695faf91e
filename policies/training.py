"""Conditional flow matching on chunks: the loss, and a training run that resumes to the bit."""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from policies.flow import FlowPolicy
from rtc.errors import CheckpointError, InvalidArgument
from rtc.serialise import whole_file

STATE = "training.pt"


@dataclass(frozen=True)
class TrainingRecipe:
    """How a policy is trained; written into its recipe.json.

    steps: optimiser steps. batch_size: chunks a step. learning_rate: its peak, reached after `warmup` steps
    and followed by a half cosine down to a hundredth. ema_decay: of the averaged weights that are kept.
    clip: largest gradient norm. validation: each episode whose seed is a multiple of it is held out.
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


def flow_matching_loss(
    policy: FlowPolicy,
    obs: Float[Tensor, "batch obs_dim"],
    chunks: Float[Tensor, "batch horizon action_dim"],
    generator: Generator | None = None,
) -> Float[Tensor, ""]:
    """E |v(x_tau, tau | obs) - (a - noise)|^2 with x_tau = (1 - tau) noise + tau a, tau uniform.

    `chunks` are normalised; the mean runs over the batch, the rows and the action dimensions.
    Source: Lipman et al. 2023, eq. 23 with sigma_min = 0.
    """
    tau = torch.rand(len(chunks), generator=generator)
    noise = torch.randn(chunks.shape, generator=generator)
    spread = tau[:, None, None]
    x = (1 - spread) * noise + spread * chunks
    predicted = policy.velocity(x, tau, policy.encode(obs))
    return (predicted - (chunks - noise)).square().mean()


class Training:
    """One run: policy, averaged copy, optimiser, random generator, and how far it has come.

    Interrupted at any step and resumed from its last `save`, it goes on exactly as it would have.
    """

    def __init__(self, policy: FlowPolicy, recipe: TrainingRecipe) -> None:
        self.policy, self.recipe = policy, recipe
        self.average = copy.deepcopy(policy).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            policy.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.generator = Generator().manual_seed(recipe.seed)
        self.step = 0
        self.seconds = 0.0
        self.curve: list[dict[str, float]] = []

    def advance(
        self, obs: Float[Tensor, "n obs_dim"], chunks: Float[Tensor, "n horizon action_dim"]
    ) -> float:
        """One optimiser step on a random batch of the (normalised) training set; its loss."""
        recipe, start = self.recipe, perf_counter()
        rows = torch.randint(len(obs), (recipe.batch_size,), generator=self.generator)
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.rate(self.step)
        loss = flow_matching_loss(self.policy, obs[rows], chunks[rows], self.generator)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), recipe.clip)
        self.optimiser.step()
        self.step += 1
        self._average_weights()
        self.seconds += perf_counter() - start
        return loss.item()

    @torch.no_grad()
    def _average_weights(self) -> None:
        # young averages forget faster, so that the initial weights leave them
        decay = min(self.recipe.ema_decay, self.step / (self.step + 10))
        for averaged, current in zip(self.average.parameters(), self.policy.parameters(), strict=True):
            averaged.lerp_(current, 1 - decay)

    @torch.no_grad()
    def held_out_loss(
        self, obs: Float[Tensor, "n obs_dim"], chunks: Float[Tensor, "n horizon action_dim"]
    ) -> float:
        """The averaged weights' loss on (normalised) held-out chunks, with the same noise at every call."""
        generator = Generator().manual_seed(self.recipe.seed + 1)
        losses = [
            flow_matching_loss(self.average, *batch, generator).item() * len(batch[0])
            for batch in zip(obs.split(2048), chunks.split(2048), strict=True)
        ]
        return sum(losses) / len(obs)

    def save(self, folder: Path) -> None:
        """Keep everything that resuming needs, whole or not at all."""
        state = {
            "recipe": asdict(self.recipe),
            "policy": self.policy.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.step,
            "seconds": self.seconds,
            "curve": self.curve,
        }
        with whole_file(folder / STATE) as temporary:
            torch.save(state, temporary)

    def resume(self, folder: Path) -> None:
        """Go on from what `save` kept.

        Raises CheckpointError if it is damaged, or belongs to another recipe, policy or data set (which its
        normalisation tells).
        """
        path = folder / STATE
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True)
            before, weights = dict(state["recipe"]), dict(state["policy"])
        except Exception as error:  # a damaged zip or pickle surfaces as many exception types
            raise CheckpointError(
                f"{path} is damaged ({type(error).__name__}); delete it and train again"
            ) from error
        now = self.policy.state_dict()
        normalisation = [name for name, _ in self.policy.named_buffers() if name in now]
        differing = [name for name, value in asdict(self.recipe).items() if before.get(name) != value]
        if {name: value.shape for name, value in now.items()} != {n: v.shape for n, v in weights.items()}:
            differing.append("policy")
        elif not all(torch.equal(now[name], weights[name]) for name in normalisation):
            differing.append("data set")
        if differing:
            raise CheckpointError(
                f"{path} was trained with another {', '.join(differing)}; "
                "give the same to resume, or use --force"
            )
        self.policy.load_state_dict(state["policy"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        self.step, self.seconds, self.curve = state["step"], state["seconds"], state["curve"]
