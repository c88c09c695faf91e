"""Replacement: what was measured is put into every noisy point, or into every estimate.

```
x  ── any solver ──► x'  ── the part that A sees is overwritten ──► x+ = x' + A^+ (alpha y + sigma A n - A x')
```

With P = A^+ A (for a mask: P = M) this is x+ = (I - P) x' + P (alpha A^+ y + sigma n), alpha and sigma at the
level that the step arrives at, as the papers write it; the released code of RePaint and ILVR noises y to the
level that the step leaves. sigma_y is ignored. The unknown part never learns that the known one was
overwritten, so that replacement does not sample the posterior even with a perfect prior.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Generator, Tensor

from rtc.errors import InvalidArgument
from rtc.inverse.schedule import jump_times, travel
from rtc.inverse.start import back_projection, diffused, noise_free, pure_noise
from rtc.kernel import normal, step_kernel
from rtc.measurement import LinearMeasurement
from rtc.path import Path
from rtc.prior import Prior
from rtc.sample import Callback, integrate, uniform_times
from rtc.solvers import DDIM, Move, Solver, named_solver

ANCESTRAL = DDIM(1.0)
"""The solver of the papers (DDPM)."""


@dataclass(frozen=True, eq=False)
class Replacement:
    """Any solver, with the measured part of its point replaced by a noised measurement after each step.

    stop: flow time in [0, 1] after which nothing is replaced (ILVR's stop time; 1 replaces to the end, where
    A x = y). Costs one A and one A^+ a step. Raises InvalidArgument for another stop, Unsupported for a
    nonlinear operator. Source: Song et al. 2021 (score SDE), appendix I.2; Choi et al. 2021 (ILVR), eq. 8;
    Lugmayr et al. 2022 (RePaint), eq. 8.
    """

    measurement: LinearMeasurement
    solver: Solver = ANCESTRAL
    stop: float = 1.0

    def __post_init__(self) -> None:
        noise_free(self.measurement)
        if not 0.0 <= self.stop <= 1.0:
            raise InvalidArgument(f"stop is {self.stop}; a flow time lies in [0, 1] (1 replaces to the end).")

    def __call__(
        self, prior: Prior, x: Tensor, tau: float, tau_next: float, generator: Generator | None = None
    ) -> Move:
        """One step."""
        move = self.solver(prior, x, tau, tau_next, generator)
        if tau_next > self.stop:
            return move
        known = noised(self.measurement, prior.path, tau_next, move.x, generator)
        return Move(move.x + known.pull(move.x, 1.0), move.x1_hat)


def noised(
    measurement: LinearMeasurement, path: Path, tau: float, like: Tensor, generator: Generator | None = None
) -> LinearMeasurement:
    """What A would see of a noisy point at tau: alpha y + sigma A n, exactly; n is shaped like `like`."""
    noise = measurement.operator.forward(normal(like, generator))
    return replace(noise_free(measurement), y=path.alpha(tau) * measurement.y + path.sigma(tau) * noise)


@dataclass(frozen=True, eq=False)
class DDNM:
    """The kernel of DDIM(eta) on the estimate with its measured part replaced: x1_hat + A^+ (y - A x1_hat).

    The move carries the estimate *before* that, from which time travel draws. eta in [0, 1]: 1 is the paper's
    algorithm 1, .85 the released code's value. sigma_y is ignored. Raises Unsupported for a nonlinear
    operator. Source: Wang et al. 2023 (DDNM), eqs. 12 and 13.
    """

    measurement: LinearMeasurement
    eta: float = 0.85

    def __post_init__(self) -> None:
        noise_free(self.measurement)

    def __call__(
        self, prior: Prior, x: Tensor, tau: float, tau_next: float, generator: Generator | None = None
    ) -> Move:
        """One step."""
        x1_hat = prior.denoise(x, tau)
        corrected = x1_hat + noise_free(self.measurement).pull(x1_hat, 1.0)
        kernel = step_kernel(prior.path, tau, tau_next, self.eta)
        return Move(kernel.apply(corrected, x, generator), x1_hat)


def ilvr(
    prior: Prior,
    measurement: LinearMeasurement,
    shape: tuple[int, ...],
    num_steps: int,
    *,
    stop: float = 1.0,
    solver: str | Solver = "ddpm",
    generator: Generator | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "batch *event"]:
    """Samples whose measured part follows y until the flow time `stop`, shaped shape = (batch, *event).

    With A a downsampling, low frequencies come from the reference and high ones from the prior (ILVR); with A
    a mask and stop = 1 it is the inpainting of score SDEs. num_steps calls. Errors: see Replacement.
    Source: Choi et al. 2021 (ILVR), algorithm 1; Song et al. 2021 (score SDE), appendix I.2.
    """
    step = Replacement(measurement, named_solver(solver), stop)
    start = pure_noise(prior.path, measurement, shape, generator)
    times = uniform_times(num_steps)
    return integrate(prior, start, times, solver=step, generator=generator, callback=callback)


def score_sde(
    prior: Prior,
    measurement: LinearMeasurement,
    shape: tuple[int, ...],
    num_steps: int,
    *,
    solver: str | Solver = "ddpm",
    generator: Generator | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "batch *event"]:
    """Inpainting by replacement to the end, where A x = y: `ilvr` with stop = 1.

    Source: Song et al. 2021 (score SDE), appendix I.2.
    """
    return ilvr(prior, measurement, shape, num_steps, solver=solver, generator=generator, callback=callback)


def repaint(
    prior: Prior,
    measurement: LinearMeasurement,
    shape: tuple[int, ...],
    num_steps: int,
    *,
    jump: int = 10,
    repeats: int = 10,
    solver: str | Solver = "ddpm",
    generator: Generator | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "batch *event"]:
    """Replacement on the times of `jump_times`: each stretch of `jump` steps is walked `repeats` times.

    Calls: num_steps + (repeats - 1) jump for each of about num_steps / jump - 1 stretches; 2410 for the
    paper's 250 steps. Errors: see Replacement and jump_times. Source: Lugmayr et al. 2022, algorithm 1.
    """
    step = Replacement(measurement, named_solver(solver))
    times = jump_times(num_steps, jump, repeats)
    start = pure_noise(prior.path, measurement, shape, generator)
    return integrate(prior, start, times, solver=step, generator=generator, callback=callback)


def ccdf(
    prior: Prior,
    measurement: LinearMeasurement,
    shape: tuple[int, ...],
    num_steps: int,
    *,
    tau0: float = 0.8,
    estimate: Float[Tensor, "..."] | None = None,
    solver: str | Solver = "ddpm",
    generator: Generator | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "batch *event"]:
    """Replacement started late, from a first estimate that was diffused forward to the flow time tau0.

    estimate: [batch, *event]; the better it is, the later it may start; A^+ y if None. tau0 in [0, 1): the
    paper's N' / N is 1 - tau0, .2 for inpainting. num_steps calls, all of them after tau0. Raises
    InvalidArgument for another tau0 or shape; see Replacement.
    Source: Chung et al. 2022 (Come-Closer-Diffuse-Faster), algorithm 1.
    """
    step = Replacement(measurement, named_solver(solver))
    times = uniform_times(num_steps, tau0)
    back_projected = back_projection(measurement, shape)
    if estimate is None:
        estimate = back_projected
    if tuple(estimate.shape) != tuple(shape):
        raise InvalidArgument(f"the estimate has shape {tuple(estimate.shape)}; it must be {tuple(shape)}.")
    start = diffused(prior.path, estimate.to(back_projected), tau0, generator)
    return integrate(prior, start, times, solver=step, generator=generator, callback=callback)


def ddnm(
    prior: Prior,
    measurement: LinearMeasurement,
    shape: tuple[int, ...],
    num_steps: int,
    *,
    eta: float = 0.85,
    jump: int = 1,
    repeats: int = 1,
    generator: Generator | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "batch *event"]:
    """DDNM with time travel (`jump`, `repeats` as in jump_times; 1 and 1 is without); A x = y at the end.

    Going back is one fresh draw from the last uncorrected estimate. Errors: see DDNM and jump_times.
    Source: Wang et al. 2023 (DDNM), algorithms 1 and 2.
    """
    step = DDNM(measurement, eta)
    times = jump_times(num_steps, jump, repeats)
    start = pure_noise(prior.path, measurement, shape, generator)
    return travel(prior, start, times, solver=step, generator=generator, callback=callback)
