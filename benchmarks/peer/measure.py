"""What is measured of a run: its error, what it cost, and how much memory it took at its peak."""

from __future__ import annotations

import multiprocessing
import statistics
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from time import process_time
from typing import Any

import torch
from torch import Tensor

from benchmarks.peer.problems import Problem, blur, gaussian, photograph

PACKAGES = ("rtc", "deepinv", "azula")
KNOWN = ("scalar", "correlated", "matrix")
PHOTOGRAPHS = {"inpainting": "mask", "deblurring": "blur"}
UNGUIDED = ("ddpm", "ddim")


def make(name: str, **options: Any) -> Problem:
    """The problem of that name."""
    return gaussian(name, **options) if name in KNOWN else photograph(PHOTOGRAPHS[name], **options)


def methods(package: str, problem: Problem) -> list[str]:
    """The package's methods that apply to a problem."""
    names = list(import_module(f"benchmarks.peer.with_{package}").METHODS)
    left_out = {"dps of the batch"} if problem.chains == 1 else set()
    if problem.operator != "mask":
        left_out |= {"repaint"}
    if problem.operator == "blur":
        left_out |= {"ddrm, mended"}
    if problem.truth is not None:
        left_out |= {*UNGUIDED, "tds"}
    return [name for name in names if name not in left_out]


def sample(problem: Problem, package: str, method: str, seed: int) -> Tensor:
    """Samples [chains, *event]."""
    return import_module(f"benchmarks.peer.with_{package}").run(problem, method, seed)


def row(problem: Problem, package: str, method: str, seed: int) -> tuple[dict[str, Any], Tensor]:
    """One run as a document, and its samples."""
    problem.network.reset()
    start = process_time()
    samples = sample(problem, package, method, seed)
    document: dict[str, Any] = {
        "method": method,
        "package": package,
        "calls": problem.network.calls,
        "vjps": problem.network.vjps,
        "seconds": process_time() - start,
        "finite": bool(samples.isfinite().all()),
    }
    if not document["finite"]:
        return document, samples
    if problem.truth is not None:
        document["psnr"] = psnr(samples, problem.truth)
    else:
        law = problem.prior if method in UNGUIDED else problem.posterior
        assert law is not None
        document |= known_error(samples, *law)
    document["residual"] = residual(problem, samples)
    return document, samples


def known_error(samples: Tensor, mean: Tensor, covariance: Tensor) -> dict[str, float]:
    """How far Gaussian samples [chains, d] are from N(mean, covariance), as parts of the exact spread.

    error: the Wasserstein-2 distance of the two Gaussians, over sqrt(tr covariance). mean_error: of the mean,
    likewise. covariance_error: Frobenius, relative. Source: Gelbrich 1990 for the distance.
    """
    samples, mean, covariance = samples.double(), mean.double(), covariance.double()
    found, spread = torch.cov(samples.T), torch.trace(covariance)
    root = matrix_root(covariance)
    shift = (samples.mean(0) - mean).square().sum()
    shape = torch.trace(found) + spread - 2.0 * torch.trace(matrix_root(root @ found @ root))
    return {
        "error": float(((shift + shape).clamp(min=0.0) / spread).sqrt()),
        "mean_error": float((shift / spread).sqrt()),
        "covariance_error": float((found - covariance).norm() / covariance.norm()),
    }


def matrix_root(matrix: Tensor) -> Tensor:
    """The square root of a positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.clamp(min=0.0).sqrt()) @ vectors.T


def floor(problem: Problem, repeats: int = 20) -> float:
    """The error that as many exact samples have: the largest of `repeats`."""
    assert problem.posterior is not None
    mean, covariance = problem.posterior
    generator, root = torch.Generator().manual_seed(0), matrix_root(covariance)
    draws = (mean + torch.randn(problem.shape, generator=generator) @ root.T for _ in range(repeats))
    return max(known_error(draw, mean, covariance)["error"] for draw in draws)


def psnr(samples: Tensor, truth: Tensor) -> list[float]:
    """Peak signal-to-noise ratio in dB of each image, clipped to [0, 1]."""
    return (-10.0 * (samples.clamp(0.0, 1.0) - truth).square().flatten(1).mean(1).log10()).tolist()


def residual(problem: Problem, samples: Tensor) -> float:
    """rms (y - A x) / sigma_y over everything observed: 1 where the misfit is that of the noise."""
    if problem.operator == "matrix":
        misfit, count = problem.y - samples @ problem.array.T, len(problem.array)
    elif problem.operator == "mask":
        misfit, count = problem.array * (problem.y - samples), int(problem.array.sum())
    else:
        misfit, count = problem.y - blur(samples, problem.array), problem.y[0].numel()
    return float((misfit.square().flatten(1).sum(1) / count).mean().sqrt() / problem.sigma_y)


def difference(first: Tensor, second: Tensor) -> float:
    """rms (first - second) over the standard deviation of the first: two packages on the same noise."""
    return float((first - second).square().mean().sqrt() / first.std())


def times(problem: Problem, method: str, packages: list[str], rounds: int) -> dict[str, list[float]]:
    """Processor seconds a network call, in interleaved rounds after one that is not counted.

    Processor time, so that what else runs on the machine does not count; one thread.
    """
    found: dict[str, list[float]] = {package: [] for package in packages}
    for number in range(rounds + 1):
        for package in packages[number % len(packages) :] + packages[: number % len(packages)]:
            problem.network.reset()
            start = process_time()
            sample(problem, package, method, number)
            if number:
                found[package].append((process_time() - start) / problem.network.calls)
    return found


def ratio(first: Sequence[float], second: Sequence[float]) -> float:
    """The median of the ratios of paired times."""
    return statistics.median(a / b for a, b in zip(first, second, strict=True))


def peak_memory(name: str, package: str, method: str) -> int:
    """Bytes by which the resident memory of a fresh process grows at most while a method runs (three calls).

    The kernel's own high-water mark (VmHWM), reset after the network has been called once; Linux only.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.peer.measure", *_adapters()])
    with context.Pool(1) as pool:
        return pool.apply(_grown, (name, package, method))


def _adapters() -> list[str]:
    return [f"benchmarks.peer.with_{package}" for package in PACKAGES]


def _grown(name: str, package: str, method: str) -> int:
    torch.set_num_threads(1)
    problem = make(name, chains=1).shortened(3)
    with torch.no_grad():
        problem.network(problem.first(0), 0.1)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    sample(problem, package, method, 0)
    return _status("VmHWM") - before


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


Progress = Callable[[str], None]
"""Called with what has been done."""
