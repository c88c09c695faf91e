"""How each method runs on a Problem: the first point, the steps, and the budget of network calls.

A problem's `num_steps` is a number of network calls: a method that makes several a step takes fewer steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from rtc.guidance.langevin import AnnealedLangevin
from rtc.inverse.methods.problem import Problem, Run
from rtc.inverse.optimise.d_flow import d_flow
from rtc.inverse.optimise.daps import daps
from rtc.inverse.optimise.flow_priors import flow_priors
from rtc.inverse.optimise.pnp_flow import pnp_flow
from rtc.inverse.particles import Particles
from rtc.inverse.replacement import repaint
from rtc.inverse.schedule import jump_times
from rtc.kernel import normal
from rtc.path import VE, VP, noise_to_signal
from rtc.prior import Prior, on
from rtc.sample import integrate, uniform_times
from rtc.solvers import DDIM, Solver
from rtc.table import Table


def first_point(problem: Problem) -> Tensor:
    """alpha(0) m + sigma(0) n, where m is the mean of N(data_mean, data_std^2 I) given y.

    On a path that begins with pure noise (OT) it is that noise; a path that begins with less (a denoiser's)
    must not forget the measurement.
    """
    path, y = problem.prior.path, problem.measurement.y
    mean = torch.full(problem.shape, problem.data_mean, dtype=y.dtype, device=y.device)
    noise = float(path.sigma(0.0)) * normal(mean, problem.generator)
    if path.alpha(0.0) == 0.0:
        return noise
    return float(path.alpha(0.0)) * (mean + problem.measurement.pull(mean, problem.data_std**2)) + noise


def _walk(problem: Problem, prior: Prior, solver: Solver) -> Tensor:
    """Integrate from the first point, in the problem's number of steps."""
    return integrate(
        prior,
        first_point(problem),
        uniform_times(problem.num_steps),
        solver=solver,
        generator=problem.generator,
        callback=problem.callback,
    )


def guided(make: Callable[..., Prior]) -> Run:
    """A prior made by make(problem, **knobs), sampled by DDIM(eta)."""

    def run(problem: Problem, eta: float, **knobs: Any) -> Tensor:
        return _walk(problem, make(problem, **knobs), DDIM(eta))

    return run


def stepped(make: Callable[..., Solver]) -> Run:
    """A solver made by make(problem, **knobs), on the prior as it is."""

    def run(problem: Problem, **knobs: Any) -> Tensor:
        return _walk(problem, problem.prior, make(problem, **knobs))

    return run


def whole(function: Callable[..., Tensor], data_std: bool = False) -> Run:
    """A procedure with a loop of its own."""

    def run(problem: Problem, **knobs: Any) -> Tensor:
        if data_std:
            knobs["data_std"] = problem.data_std
        return function(
            problem.prior,
            problem.measurement,
            problem.shape,
            problem.num_steps,
            generator=problem.generator,
            callback=problem.callback,
            **knobs,
        )

    return run


def run_repaint(problem: Problem, jump: int, repeats: int) -> Tensor:
    """RePaint whose walks back and forth are within the problem's number of calls."""
    steps = problem.num_steps
    while steps > 1 and _forward_steps(jump_times(steps, jump, repeats)) > problem.num_steps:
        steps -= 1
    return whole(repaint)(replace(problem, num_steps=steps), jump=jump, repeats=repeats)


def _forward_steps(times: Sequence[float]) -> int:
    return sum(later > earlier for earlier, later in pairwise(times))


def on_vp(function: Callable[..., Tensor]) -> Run:
    """An algorithm that walks another path than the prior's: the variance-preserving one."""

    def run(problem: Problem, **knobs: Any) -> Tensor:
        path = variance_preserving(problem.prior, problem.num_steps).path
        return whole(function, data_std=True)(problem, path=path, **knobs)

    return run


def run_d_flow(problem: Problem, flow_steps: int, **knobs: Any) -> Tensor:
    """D-Flow with as many iterations of L-BFGS as the calls allow; at least one."""
    iterations = max(1, problem.num_steps // (2 * flow_steps))
    rounds = replace(problem, num_steps=1)
    return whole(d_flow)(rounds, flow_steps=flow_steps, iterations=iterations, **knobs)


def run_flow_priors(problem: Problem, iterations: int, **knobs: Any) -> Tensor:
    """Flow Priors with 1 + iterations calls a step."""
    steps = max(1, problem.num_steps // (1 + iterations))
    return whole(flow_priors)(replace(problem, num_steps=steps), iterations=iterations, **knobs)


def run_pnp_flow(problem: Problem, draws: int, **knobs: Any) -> Tensor:
    """PnP-Flow with `draws` calls a step."""
    return whole(pnp_flow)(
        replace(problem, num_steps=max(1, problem.num_steps // draws)), draws=draws, **knobs
    )


def run_daps(problem: Problem, ode_steps: int) -> Tensor:
    """DAPS in the problem's number of calls, its Langevin part scaled to sigma_y and to the data."""
    levels = max(1, problem.num_steps // ode_steps)
    sigma_y = math.sqrt(float(torch.as_tensor(problem.measurement.noise_variance).max()))
    return whole(daps)(
        replace(problem, num_steps=levels),
        ode_steps=ode_steps,
        sigma_max=20.0 * problem.data_std,
        likelihood_std=math.sqrt(2.0) * sigma_y,
        first_length=0.3 * sigma_y**2,
        last_length=0.3 * sigma_y**2,
    )


def run_langevin(problem: Problem, step: float, steps: int) -> Tensor:
    """Score-ALD on a path that keeps the data in sight, the levels split over `steps` Langevin steps each."""
    prior = problem.prior
    if prior.path.alpha(0.0) == 0.0:
        prior = on(prior, VE(20.0 * problem.data_std, 0.01 * problem.data_std))
    levels = max(1, problem.num_steps // steps)
    solver = AnnealedLangevin(problem.measurement, step, steps)
    return _walk(replace(problem, num_steps=levels), prior, solver)


def particles(function: Callable[..., Particles], data_std: bool = False, preserving: bool = False) -> Run:
    """One draw from the particles of each element of the batch, whose measurements are taken one by one."""

    def run(problem: Problem, **knobs: Any) -> Tensor:
        if data_std:
            knobs["data_std"] = problem.data_std
        batch, *event = problem.shape
        prior = variance_preserving(problem.prior, problem.num_steps) if preserving else problem.prior
        observed = problem.measurement.operator.forward(torch.zeros(problem.shape)).shape
        drawn = []
        for y in problem.measurement.y.expand(batch, *observed[1:]):
            particles = function(
                prior,
                replace(problem.measurement, y=y),
                problem.num_particles,
                event,
                problem.num_steps,
                particle_batch=problem.particle_batch,
                generator=problem.generator,
                callback=problem.callback,
                **knobs,
            )
            drawn.append(particles.draw(1, problem.generator))
        return torch.cat(drawn)

    return run


def variance_preserving(prior: Prior, num_steps: int) -> Prior:
    """The prior where alpha^2 + sigma^2 = 1: on VP(), or at its own levels if they begin with less."""
    own = prior.path
    if own.alpha(0.0) == 0.0:
        return on(prior, VP())
    levels = [float(noise_to_signal(own, step / num_steps)) for step in range(num_steps)]
    return on(prior, Table((*levels, 0.0)))
