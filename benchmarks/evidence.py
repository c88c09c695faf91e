"""Log evidence of y under a two-dimensional mixture, where it is known: -3.2934.

Part of `python -m benchmarks.mixture --evidence`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from rich.console import Console
from torch import Generator, Tensor

from rtc.cli.progress import progress
from rtc.cli.provenance import commit, machine, versions
from rtc.exact import MixturePrior
from rtc.inverse.particles import Particles, bootstrap, fps, importance_sampling, mcgdiff, tds
from rtc.measurement import LinearMeasurement
from rtc.operators.dense import Matrix
from rtc.path import Cosine
from rtc.process_pool import in_workers

COUNTS, STEPS, SEEDS = (32, 128, 512), 300, 20

METHODS: dict[str, tuple[Callable[..., Particles], dict[str, Any]]] = {
    "importance sampling": (importance_sampling, {}),
    "bootstrap": (bootstrap, {}),
    "bootstrap, PiGDM twist, data_std": (bootstrap, {"twist": "pigdm", "data_std": None}),
    "TDS, DPS twist": (tds, {"twist": "dps"}),
    "TDS, PiGDM twist, data_std 1": (tds, {"twist": "pigdm"}),
    "TDS, PiGDM twist, data_std": (tds, {"twist": "pigdm", "data_std": None}),
    "TDS, Tweedie twist": (tds, {"twist": "tweedie"}),
    "MCGdiff": (mcgdiff, {}),
    "MCGdiff, width .5": (mcgdiff, {"width": 0.5}),
    "FPS": (fps, {}),
}
"""Rows; data_std None is the prior's own."""


def problem() -> tuple[MixturePrior, Tensor, LinearMeasurement]:
    """The prior on the cosine path, A, and y = A x1 + .5 n with its value 3."""
    means = torch.tensor([[-4.0, -4.0], [4.0, 4.0], [-4.0, 4.0], [0.0, 6.0]], dtype=torch.float64)
    weights = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    a = torch.tensor([[1.0, 0.3]], dtype=torch.float64)
    y = torch.tensor([3.0], dtype=torch.float64)
    return MixturePrior(weights, means, 1.0, Cosine()), a, LinearMeasurement(Matrix(a), y, 0.25)


def run(name: str, count: int, seed: int, steps: int = STEPS) -> tuple[float | None, float]:
    """log evidence, and the distance of the mean from E[x1 | y]."""
    prior, a, measurement = problem()
    method, knobs = METHODS[name]
    std = math.sqrt(float(prior.cov.trace()) / 2.0)
    knobs = {key: std if value is None else value for key, value in knobs.items()}
    particles = method(
        prior, measurement, count, (2,), steps, generator=Generator().manual_seed(seed), **knobs
    )
    exact = prior.posterior(a, measurement.y, measurement.noise_variance).mean
    return particles.log_evidence, float((particles.mean() - exact).norm())


def measure(
    workers: int = 1, counts: Sequence[int] = COUNTS, seeds: int = SEEDS, steps: int = STEPS
) -> dict[str, Any]:
    """Every method with every number of particles, `seeds` times; the document."""
    code, (prior, a, measurement) = commit(), problem()
    keys = [(name, count) for name in METHODS for count in counts]
    jobs = [partial(run, *key, seed, steps) for key in keys for seed in range(seeds)]
    found: dict[int, tuple[float | None, float]] = {}
    with progress(Console(stderr=True), "evidences", len(jobs), "runs") as advance:
        for index, result in in_workers(jobs, workers):
            found[index] = result
            advance(1)
    document: dict[str, Any] = {"steps": steps, "seeds": seeds, "counts": list(counts)}
    document |= {"versions": versions(), "commit": code, "machine": machine()}
    document["exact"] = float(prior.log_evidence(a, measurement.y, measurement.noise_variance))
    document["cells"] = [
        {
            "method": name,
            "particles": count,
            "log_evidences": [found[index][0] for index in range(first, first + seeds)],
            "mean_errors": [found[index][1] for index in range(first, first + seeds)],
        }
        for first, (name, count) in zip(range(0, len(jobs), seeds), keys, strict=True)
    ]
    return document


def entry(cell: dict[str, Any]) -> str:
    """`-3.293 ± .020; .103`: mean and standard deviation of log evidence, and the mean's rms error."""
    error = math.sqrt(sum(value**2 for value in cell["mean_errors"]) / len(cell["mean_errors"]))
    if None in cell["log_evidences"]:
        return f"-; {error:.3f}"
    values = torch.tensor(cell["log_evidences"], dtype=torch.float64)
    return f"{float(values.mean()):.3f} ± {float(values.std()):.3f}; {error:.3f}"


def table(document: dict[str, Any]) -> str:
    """A row a method, a column a number of particles."""
    counts = document["counts"]
    lines = ["| method | " + " | ".join(f"{count} particles" for count in counts) + " |"]
    lines.append("|---|" + "---|" * len(counts))
    cells = {(cell["method"], cell["particles"]): entry(cell) for cell in document["cells"]}
    names = dict.fromkeys(cell["method"] for cell in document["cells"])
    lines += [f"| {name} | " + " | ".join(cells[name, count] for count in counts) + " |" for name in names]
    return "\n".join(lines)
