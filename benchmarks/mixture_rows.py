"""The mixture benchmark's instances, and its rows: every method of the library, each in a line.

Instances: 25 components of unit covariance on a grid of spacing 8, in planes repeated dim / 2 times, with
random weights; y = A x + sigma_y n with A [dy, dim] of singular values U(0, 1) and sigma_y = U(0, max s).
Source: Cardoso et al. 2024 (MCGdiff), section 5.1 and its code; drawn anew here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from torch import Generator, Tensor

from rtc.exact import MixturePrior
from rtc.guidance.pigdm import pigdm
from rtc.guidance.tweedie import tweedie
from rtc.inverse.methods.problem import Problem
from rtc.inverse.methods.table import METHODS
from rtc.inverse.particles import Particles, bootstrap, fps, importance_sampling, mcgdiff, tds
from rtc.measurement import LinearMeasurement
from rtc.operators.dense import Matrix
from rtc.prior import Prior
from rtc.sample import sample
from rtc.solvers import DDIM, Euler, Heun, Solver
from rtc.table import Table

COUNT = 999
"""Levels of the discrete prior, beta falling from .02 (data) to 1e-4 (noise)."""
ETAS = {20: 0.6, 100: 0.85}
"""Network calls -> eta of the chain, as the source pairs them."""


@dataclass(frozen=True, eq=False)
class Case:
    """One instance on one grid of levels; float32 but for the exact posterior."""

    prior: MixturePrior
    posterior: MixturePrior
    measurement: LinearMeasurement
    calls: int
    samples: int
    generator: Generator

    @property
    def dim(self) -> int:
        """Size of a sample."""
        return self.prior.means.shape[1]

    @property
    def eta(self) -> float:
        """Noise of the chain."""
        return ETAS[self.calls]

    @property
    def data_std(self) -> float:
        """Standard deviation of one coordinate of the prior's data, about 11."""
        offsets = self.prior.means - self.prior.mean
        return math.sqrt(1.0 + float((self.prior.weights @ offsets.square()).mean()))


def levels(grid: str, calls: int) -> Table:
    """`calls` noise levels of the discrete prior and 0: "geometric" in rho, or uniform in "index"."""
    betas = torch.linspace(0.02, 1e-4, COUNT, dtype=torch.float64)
    rho = torch.expm1(-torch.log1p(-betas).cumsum(0)).sqrt()
    if grid == "index":
        chosen = torch.linspace(COUNT, 0, calls + 1)[:-1].round().long() - 1
        return Table((*rho[chosen].tolist(), 0.0))
    first, last = math.log10(rho[-1]), math.log10(rho[0])
    return Table((*torch.logspace(first, last, calls, dtype=torch.float64).tolist(), 0.0))


def make_case(dim: int, dy: int, instance: int, calls: int, grid: str, samples: int) -> Case:
    """The case of that number: the same instance for all calls and grids."""
    draw = Generator().manual_seed(100_000 * dim + 1000 * dy + instance)
    normal = partial(torch.randn, generator=draw, dtype=torch.float64)
    uniform = partial(torch.rand, generator=draw, dtype=torch.float64)
    plane = [(-8.0 * i, -8.0 * j) for i, j in product(range(-2, 3), repeat=2)]
    means = torch.tensor(plane, dtype=torch.float64).repeat(1, dim // 2)
    weights = normal(25).square()
    exact = MixturePrior(weights / weights.sum(), means, 1.0, levels(grid, calls))
    left, _, right = torch.linalg.svd(normal(dy, dim), full_matrices=False)
    values = uniform(dy).sort(descending=True).values
    a, sigma_y = left * values @ right, float(uniform(()) * values.max())
    y = a @ exact.sample(1, draw)[0] + sigma_y * normal(dy)
    prior = MixturePrior(exact.weights.float(), means.float(), 1.0, exact.path)
    measurement = LinearMeasurement(Matrix(a.float()), y.float(), sigma_y**2)
    generator = Generator().manual_seed(instance)
    return Case(prior, exact.posterior(a, y, sigma_y**2), measurement, calls, samples, generator)


def sliced_wasserstein(first: Tensor, second: Tensor, generator: Generator, directions: int = 100) -> float:
    """Mean W1 distance of two samples [n, dim] of one size, projected on random directions."""
    lines = torch.randn(first.shape[1], directions, generator=generator, dtype=torch.float64)
    lines = lines / lines.norm(dim=0)
    ordered = [(points.double() @ lines).sort(0).values for points in (first, second)]
    return (ordered[0] - ordered[1]).abs().mean().item()


Row = Callable[[Case], Tensor]
"""A case -> samples [samples, dim]."""


def chain(
    guide: Callable[[MixturePrior, Case], Prior],
    solver: Callable[[Case], Solver] = lambda case: DDIM(case.eta),
    calls_a_step: int = 1,
) -> Row:
    """A guided prior, sampled from noise; on every second level where a step takes two calls."""

    def row(case: Case) -> Tensor:
        rho = case.prior.path.rho[:-1][::calls_a_step]  # pyright: ignore[reportAttributeAccessIssue]
        prior = guide(case.prior.on(Table((*rho, 0.0))), case)
        noise = torch.randn(case.samples, case.dim, generator=case.generator)
        return sample(prior, noise, len(rho), solver=solver(case), generator=case.generator)

    return row


def registered(name: str, **knobs: float) -> Row:
    """A method of `rtc restore` with its defaults, the chain's eta, and other knobs."""

    def row(case: Case) -> Tensor:
        method = METHODS[name]
        eta = {"eta": case.eta} if "eta" in method.knobs else {}
        problem = Problem(
            prior=case.prior,
            measurement=case.measurement,
            shape=(case.samples, case.dim),
            num_steps=case.calls,
            data_std=case.data_std,
            generator=case.generator,
        )
        return method(problem, **{**eta, **knobs})

    return row


def filtered(
    method: Callable[..., Particles], scaled: bool = False, eta: bool = True, **knobs: object
) -> Row:
    """A particle method with as many particles as samples; `scaled`: it is told the standard deviation."""

    def row(case: Case) -> Tensor:
        options = {"data_std": case.data_std} if scaled else {}
        options |= {"eta": case.eta} if eta else {}
        particles = method(
            case.prior,
            case.measurement,
            case.samples,
            (case.dim,),
            case.calls,
            generator=case.generator,
            **options,
            **knobs,
        )
        return particles.draw(case.samples, case.generator)

    return row


REFERENCES: dict[str, Row] = {
    "oracle: a second posterior sample": lambda case: case.posterior.sample(case.samples, case.generator),
    "prior": lambda case: case.prior.sample(case.samples, case.generator),
    "the exact conditional denoiser, same chain": chain(lambda prior, case: case.posterior.on(prior.path)),
}
"""What the best and the worst can be, and what the chain alone costs."""

MAIN: dict[str, Row] = {
    "importance sampling": filtered(importance_sampling),
    "bootstrap, PiGDM twist": filtered(bootstrap, True, twist="pigdm"),
    "TDS, Tweedie twist": filtered(tds, twist="tweedie"),
    "TDS, PiGDM twist": filtered(tds, True, twist="pigdm"),
    "FPS": filtered(fps, eta=False),
    "MCGdiff": filtered(mcgdiff),
    "MCGdiff, width .5": filtered(mcgdiff, width=0.5),
    "Tweedie covariance": chain(lambda prior, case: tweedie(prior, case.measurement)),
    "PiGDM": registered("pigdm"),
    "DPS, zeta .1": registered("dps", zeta=0.1),
    "DDRM": registered("ddrm"),
    "DDNM+": registered("ddnm-plus"),
    "Flower": registered("flower"),
}
"""Rows of every table."""

VARIANTS: dict[str, Row] = {
    "TDS, PiGDM twist, data_std 1": filtered(tds, twist="pigdm"),
    "TDS, DPS twist": filtered(tds, twist="dps"),
    "Tweedie covariance, Euler": chain(
        lambda prior, case: tweedie(prior, case.measurement), lambda case: Euler()
    ),
    "Tweedie covariance, DDPM": chain(
        lambda prior, case: tweedie(prior, case.measurement), lambda case: DDIM(1.0)
    ),
    "Tweedie covariance, Heun": chain(
        lambda prior, case: tweedie(prior, case.measurement), lambda case: Heun(), calls_a_step=2
    ),
    "PiGDM, Euler": chain(
        lambda prior, case: pigdm(prior, case.measurement, data_std=case.data_std), lambda case: Euler()
    ),
    "PiGDM, Euler, data_std 1": chain(
        lambda prior, case: pigdm(prior, case.measurement), lambda case: Euler()
    ),
}
"""What one choice does."""

IN_MAIN = ("importance", "bootstrap", "tds", "fps", "mcgdiff", "tweedie", "pigdm", "dps", "ddrm", "ddnm-plus")
REST: dict[str, Row] = {
    name: registered(name) for name in METHODS if name not in (*IN_MAIN, "flower", "pokle-2", "pokle-3")
}
"""Every other method that `rtc restore --list` names, as it comes; pokle-2 and 3 are pokle-1 on other
paths (lemma 2)."""
