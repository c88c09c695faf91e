"""Training-free linear image inverses via flows: the three algorithms of Pokle et al. (2024), by name.

Each is PiGDM, integrated as an ordinary differential equation that starts late, at a point that already knows
the measurement:

```
tau:   0 ──── tau0 ─────────────────────────────── 1
              alpha A^+ y + sigma eps ──► guided ODE
```

They differ in what the prior is (a pretrained denoiser, or a flow) and in the path that is walked. By Lemma 2
the path is a change of variables: algorithms 1 and 2 are one method on two grids of noise levels.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Generator, Tensor

from rtc.errors import InvalidArgument
from rtc.guidance.pigdm import pigdm
from rtc.inverse.start import back_projection, diffused
from rtc.measurement import LinearMeasurement, Measurement
from rtc.path import STRAIGHT, Path, Time, noise_to_signal
from rtc.prior import Prior, on
from rtc.sample import Callback, integrate, uniform_times
from rtc.solvers import Solver, named_solver


@dataclass(frozen=True, eq=False)
class Scaled:
    """A measurement whose pull is multiplied by gamma, the paper's adaptive-weight factor gamma_t."""

    measurement: Measurement
    gamma: float

    def pull(self, x1_hat: Float[Tensor, "*shape"], r2: Time) -> Float[Tensor, "*shape"]:
        """gamma times the pull."""
        return self.gamma * self.measurement.pull(x1_hat, r2)


def algorithm_2(
    prior: Prior,
    measurement: LinearMeasurement,
    shape: tuple[int, ...],
    num_steps: int,
    *,
    path: Path | None = None,
    tau0: float = 0.2,
    gamma: float = 1.0,
    data_std: float = 1.0,
    solver: str | Solver = "euler",
    generator: Generator | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "batch *event"]:
    """A pretrained denoiser, sampled with PiGDM on any Gaussian path; the result is shaped (batch, *event).

    path: the path to walk; the prior's own if None. tau0: where to start, as a flow time of the straight path
    in (0, 1); another path starts at the time that is as noisy. gamma >= 0 scales the guidance. data_std > 0:
    see rtc.guidance.pigdm.r2. num_steps equal steps of the path's own time from there to data; calls and VJPs
    as the solver's. Raises InvalidArgument for other values, or a path that never is as noisy as tau0.
    Source: Pokle et al. 2024, algorithm 2.
    """
    path = prior.path if path is None else path
    start = _start_time(path, tau0)
    if not gamma >= 0.0:
        raise InvalidArgument(f"gamma is {gamma}; it scales the guidance and is at least 0 (paper: 1).")
    walked = prior if path == prior.path else on(prior, path)
    guided = pigdm(walked, Scaled(measurement, gamma), data_std=data_std)
    x = diffused(path, back_projection(measurement, shape), start, generator)
    times = uniform_times(num_steps, start)
    step = named_solver(solver)
    return integrate(guided, x, times, solver=step, generator=generator, callback=callback)


def algorithm_1(
    prior: Prior,
    measurement: LinearMeasurement,
    shape: tuple[int, ...],
    num_steps: int,
    *,
    tau0: float = 0.2,
    gamma: float = 1.0,
    data_std: float = 1.0,
    solver: str | Solver = "euler",
    generator: Generator | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "batch *event"]:
    """A pretrained denoiser of any Gaussian path, sampled with PiGDM on the straight path.

    Arguments and errors are those of `algorithm_2`. Source: Pokle et al. 2024, algorithm 1.
    """
    return algorithm_2(
        prior,
        measurement,
        shape,
        num_steps,
        path=STRAIGHT,
        tau0=tau0,
        gamma=gamma,
        data_std=data_std,
        solver=solver,
        generator=generator,
        callback=callback,
    )


def algorithm_3(
    prior: Prior,
    measurement: LinearMeasurement,
    shape: tuple[int, ...],
    num_steps: int,
    *,
    tau0: float = 0.2,
    gamma: float = 1.0,
    data_std: float = 1.0,
    solver: str | Solver = "euler",
    generator: Generator | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "batch *event"]:
    """A flow trained on the straight path, sampled on it with PiGDM: the OT-ODE.

    Arguments and errors are those of `algorithm_2`; InvalidArgument also for a prior of another path.
    Source: Pokle et al. 2024, algorithm 3.
    """
    if prior.path != STRAIGHT:
        raise InvalidArgument(
            f"the prior is on {prior.path}; algorithm 3 takes a flow on the straight path. "
            "algorithm_1 brings any prior there."
        )
    return algorithm_1(
        prior,
        measurement,
        shape,
        num_steps,
        tau0=tau0,
        gamma=gamma,
        data_std=data_std,
        solver=solver,
        generator=generator,
        callback=callback,
    )


def _start_time(path: Path, tau0: float) -> float:
    """The time of `path` that is as noisy as the straight path is at tau0."""
    if not 0.0 < tau0 < 1.0:
        raise InvalidArgument(f"tau0 is {tau0}; the start must lie in (0, 1) (paper: .1 to .2).")
    start = float(path.tau_at(noise_to_signal(STRAIGHT, tau0)))
    if not -1e-9 <= start < 1.0:
        raise InvalidArgument(
            f"tau0 = {tau0} has sigma / alpha = {(1.0 - tau0) / tau0:g}, outside the levels of {path}; "
            f"start at tau0 >= {STRAIGHT.tau_at(noise_to_signal(path, 0.0)):.3g}."
        )
    return max(start, 0.0)
