"""What training costs beside the network: a step of `rtc train` against the bare step on the same tensors.

    python -m benchmarks.training [--steps 40]

Writes benchmarks/results/training.json. Both kinds of step take turns in one process, so that what else the
machine does hits both; the ratio is the median of the pairs'.
"""

from __future__ import annotations

import copy
from time import perf_counter
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from benchmarks.study import RESULTS
from policies.flow import FlowPolicy
from policies.training import Training, TrainingRecipe
from rtc.cli.provenance import commit, machine, versions
from rtc.serialise import write_json

ROWS = 100_000  # as many as a data set has
WARM_UP = 5
BAR = 1.3


def bare_step(policy: FlowPolicy, optimiser: torch.optim.Optimizer, *batch: Tensor) -> None:
    """Forward, backward and optimiser on tensors that are there: what no training does without."""
    obs, x, tau, target = batch
    loss = (policy.velocity(x, tau, policy.encode(obs)) - target).square().mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def measure(steps: int, batch_size: int, max_delay: int) -> dict[str, Any]:
    """Seconds of both kinds of step, and their ratio."""
    torch.manual_seed(0)
    policy = FlowPolicy("ReachPastPost-v0", 18, 3, max_delay=max_delay)
    other = copy.deepcopy(policy)
    data = torch.randn(ROWS, 18), torch.randn(ROWS, 16, 3), torch.ones(ROWS, 16, dtype=torch.bool)
    training = Training(policy, TrainingRecipe(batch_size=batch_size))
    optimiser = torch.optim.AdamW(other.parameters(), lr=1e-3)
    times = (batch_size, 16) if max_delay else (batch_size,)
    batch = data[0][:batch_size], torch.randn(batch_size, 16, 3), torch.rand(times), data[1][:batch_size]
    seconds: list[tuple[float, float]] = []
    for _ in range(steps + WARM_UP):
        start = perf_counter()
        bare_step(other, optimiser, *batch)
        middle = perf_counter()
        training.advance(*data)
        seconds.append((middle - start, perf_counter() - middle))
    bare, whole = np.array(seconds[WARM_UP:]).T
    ratio = float(np.median(whole / bare))
    return {
        "max_delay": max_delay,
        "bare_step_seconds": float(np.median(bare)),
        "training_step_seconds": float(np.median(whole)),
        "slowest_training_step_seconds": float(whole.max()),
        "ratio": ratio,
        "passed": ratio <= BAR,
    }


@click.command()
@click.option("--steps", type=click.IntRange(1), default=40, show_default=True, help="Pairs of steps.")
@click.option("--batch-size", type=click.IntRange(1), default=512, show_default=True, help="Chunks a step.")
def main(steps: int, batch_size: int) -> None:
    """Measure the mixer's training step, plain and with prefixes, and write the result."""
    code = commit()
    torch.set_num_threads(1)
    found = [measure(steps, batch_size, max_delay) for max_delay in (0, 8)]
    document = {
        "batch_size": batch_size,
        "pairs": steps,
        "threads": 1,
        "bar": BAR,
        "steps": found,
        "versions": versions(),
        "machine": machine(),
        "commit": code,
    }
    write_json(RESULTS / "training.json", document)
    for step in found:
        click.echo(
            f"max_delay {step['max_delay']}: bare {1e3 * step['bare_step_seconds']:.0f} ms, training "
            f"{1e3 * step['training_step_seconds']:.0f} ms, ratio {step['ratio']:.2f} (bar {BAR})"
        )


if __name__ == "__main__":
    main()
