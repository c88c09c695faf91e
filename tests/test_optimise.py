"""Optimisation methods: their formulas by hand, their fixed points in closed form on Gaussian priors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from oracle import DOUBLE, GaussianPrior, Matrix, relative_error, tensor
from scipy.optimize import minimize
from torch import Generator, Tensor

from rtc.errors import InvalidArgument
from rtc.inverse.optimise import flow_priors as flow_priors_file
from rtc.inverse.optimise import lbfgs as lbfgs_file
from rtc.inverse.optimise import red_diff as red_diff_file
from rtc.inverse.optimise.adam import Adam
from rtc.inverse.optimise.d_flow import d_flow, push_forward, value_and_gradient
from rtc.inverse.optimise.daps import bent_levels, clean_estimate, daps, langevin
from rtc.inverse.optimise.flow_priors import flow_priors
from rtc.inverse.optimise.lbfgs import lbfgs
from rtc.inverse.optimise.pnp_flow import pnp_flow
from rtc.inverse.optimise.problem import misfit_gradient, squared_norm
from rtc.inverse.optimise.red_diff import red_diff
from rtc.measurement import LinearMeasurement
from rtc.operators import Downsample, Mask, Operator
from rtc.path import OT, STRAIGHT, VE, VP, Cosine, Path, Time
from rtc.prior import from_denoiser, from_velocity, on
from rtc.sample import sample, uniform_times

Method = Callable[..., Tensor]

METHODS: dict[str, Method] = {
    "red-diff": red_diff,
    "d-flow": partial(d_flow, iterations=2),
    "flow-priors": partial(flow_priors, iterations=2),
    "pnp-flow": partial(pnp_flow, draws=2),
    "daps": partial(daps, langevin_steps=5, likelihood_std=0.5, first_length=0.01, last_length=0.01),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)

SIZE = 4
COV = tensor([[1.0, 0.5, 0.2, 0.0], [0.5, 1.2, 0.3, 0.1], [0.2, 0.3, 0.8, 0.4], [0.0, 0.1, 0.4, 1.1]])
MEAN = tensor([0.3, -0.2, 0.1, 0.5])
A = tensor([[0.6, 0.2, -0.3, 0.1], [0.0, 0.5, 0.4, -0.2]])
Y = tensor([[0.7, -0.4]])


def gaussian(path: Path = STRAIGHT) -> GaussianPrior:
    return GaussianPrior(MEAN, COV, path)


def standard(size: int, path: Path = STRAIGHT) -> GaussianPrior:
    return GaussianPrior(torch.zeros(size, dtype=DOUBLE), torch.eye(size, dtype=DOUBLE), path)


def measured(y: Tensor = Y, noise_variance: float = 0.09) -> LinearMeasurement:
    return LinearMeasurement(Matrix(A), y, noise_variance)


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=DOUBLE)


class Cubic:
    """A(x) = x + x^3 / 3 of the first two values: nonlinear, and one to one."""

    def forward(self, x: Tensor) -> Tensor:
        return x[..., :2] + x[..., :2] ** 3 / 3

    def linearised(self, x: Tensor) -> CubicSlope:
        return CubicSlope(1 + x[..., :2] ** 2)


@dataclass(frozen=True)
class CubicSlope:
    slope: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return self.slope * x[..., :2]

    def adjoint(self, y: Tensor) -> Tensor:
        return torch.cat([self.slope * y, torch.zeros_like(y[..., :1])], -1)

    def solve(self, residual: Tensor, r2: Time, noise_variance: Time) -> Tensor:
        return residual / (r2 * self.slope**2 + noise_variance)


# what every method keeps


@every_method
def test_the_result_has_the_dtype_of_the_measurement_and_leaves_no_graph(method: Method) -> None:
    prior = from_denoiser(lambda x, tau: tau / (tau**2 + (1 - tau) ** 2) * x)
    measurement = LinearMeasurement(Matrix(A.float()), Y.float(), 0.09)
    x = method(prior, measurement, (3, SIZE), 3, generator=seeded())
    assert x.shape == (3, SIZE)
    assert x.dtype == torch.float32
    assert not x.requires_grad


@every_method
def test_the_generator_is_all_the_randomness(method: Method) -> None:
    first, second = (method(gaussian(), measured(), (2, SIZE), 4, generator=seeded(7)) for _ in range(2))
    assert torch.equal(first, second)


@every_method
def test_an_element_does_not_depend_on_its_batch(method: Method) -> None:
    y = Y.repeat(3, 1)
    other = torch.cat([y[:2], 5.0 - y[2:]])
    first = method(gaussian(), measured(y), (3, SIZE), 4, generator=seeded())
    second = method(gaussian(), measured(other), (3, SIZE), 4, generator=seeded())
    assert torch.equal(first[:2], second[:2])
    assert (first[2] - second[2]).norm() > 1e-3


@every_method
@pytest.mark.parametrize("path", [Cosine(), VP(), VE(200.0, 1e-4)], ids=["cosine", "vp", "ve"])
def test_the_path_of_the_prior_is_of_no_consequence(method: Method, path: Path) -> None:
    """Lemma 2: the levels are the method's own. VP and VE start a little late where OT begins at tau = 0."""
    expected = method(gaussian(), measured(), (2, SIZE), 5, generator=seeded())
    given = method(gaussian(path), measured(), (2, SIZE), 5, generator=seeded())
    exact = isinstance(path, Cosine) or method in (METHODS["daps"], METHODS["red-diff"])
    assert relative_error(given, expected) < (1e-7 if exact else 0.05)


@every_method
def test_the_callback_is_called_once_a_step(method: Method) -> None:
    calls: list[tuple[int, float]] = []

    def note(step: int, tau: float, x: Tensor, x1_hat: Tensor) -> None:
        assert x.shape == x1_hat.shape == (2, SIZE)
        calls.append((step, tau))

    watched = method(gaussian(), measured(), (2, SIZE), 5, generator=seeded(), callback=note)
    assert [step for step, _ in calls] == [0, 1, 2, 3, 4]
    assert all(0.0 <= tau < 1.0 for _, tau in calls)
    assert torch.equal(watched, method(gaussian(), measured(), (2, SIZE), 5, generator=seeded()))


@every_method
def test_no_noise_in_the_measurement_is_allowed(method: Method) -> None:
    x = method(gaussian(), measured(noise_variance=0.0), (2, SIZE), 5, generator=seeded())
    assert torch.isfinite(x).all()


@every_method
def test_bad_input_is_refused_in_one_line(method: Method) -> None:
    for shape, steps, named in [((SIZE,), 5, "shape"), ((2, SIZE), 0, "num_steps")]:
        with pytest.raises(InvalidArgument, match=named) as error:
            method(gaussian(), measured(), shape, steps)
        assert "\n" not in str(error.value)
    with pytest.raises(InvalidArgument, match="y has shape"):
        method(gaussian(), measured(torch.zeros(1, 3, dtype=DOUBLE)), (2, SIZE), 5)


@pytest.mark.parametrize(
    ("method", "knob"),
    [
        (red_diff, {"prior_weight": 0.0}),
        (red_diff, {"learning_rate": -0.1}),
        (d_flow, {"iterations": 0}),
        (d_flow, {"noise_weight": -1.0}),
        (d_flow, {"blend": 1.5}),
        (flow_priors, {"data_weight": math.nan}),
        (pnp_flow, {"draws": 0}),
        (pnp_flow, {"decay": -0.5}),
        (daps, {"likelihood_std": 0.0}),
        (daps, {"sigma_min": 200.0}),
        (daps, {"ode_end": 0.2}),
    ],
)
def test_a_knob_out_of_range_is_refused_by_name(method: Method, knob: dict[str, float]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(knob))):
        method(gaussian(), measured(), (2, SIZE), 5, **knob)


@every_method
def test_a_result_that_is_not_finite_is_refused(method: Method) -> None:
    broken = from_denoiser(lambda x, tau: x * math.nan)
    with pytest.raises(InvalidArgument, match="not finite"):
        method(broken, measured(), (2, SIZE), 3, generator=seeded())


@every_method
def test_a_prior_that_knows_little_noise_starts_late_from_the_data(method: Method) -> None:
    """A denoiser for sigma <= .3, as image denoisers are: the result still is near the posterior."""
    prior = gaussian(VE(0.3, 0.01))
    x = method(prior, measured(), (16, SIZE), 10, generator=seeded())
    assert (x @ A.T - Y).abs().mean() < 0.35
    assert x.square().mean() < 3.0


@every_method
@pytest.mark.parametrize("operator", [Downsample((1, 4, 4), 2), Mask.half((1, 4, 4))], ids=["down", "mask"])
def test_images_are_drawn_to_the_data(method: Method, operator: Operator) -> None:
    prior = GaussianPrior(torch.zeros(1, 4, 4, dtype=DOUBLE), torch.eye(16, dtype=DOUBLE))
    y = operator.forward(drawn(1, 1, 4, 4, seed=9))
    x = method(prior, LinearMeasurement(operator, y, 0.01), (6, 1, 4, 4), 20, generator=seeded())
    blind = drawn(6, 1, 4, 4)
    assert (operator.forward(x) - y).norm() < 0.8 * (operator.forward(blind) - y).norm()


@pytest.mark.parametrize("name", ["red-diff", "d-flow", "flow-priors", "pnp-flow", "daps"])
def test_a_nonlinear_operator_is_fitted(name: str) -> None:
    sharp = {
        "red-diff": partial(red_diff, prior_weight=0.01),
        "d-flow": partial(d_flow, noise_weight=0.0),
        "flow-priors": partial(flow_priors, iterations=3, learning_rate=0.03),
        "pnp-flow": partial(pnp_flow, decay=0.01, learning_rate=0.5),
        "daps": partial(daps, first_length=1e-6, langevin_steps=100),
    }[name]
    measurement = LinearMeasurement(Cubic(), tensor([[0.8, -0.5]]), 0.0)
    steps = 5 if name == "d-flow" else 60
    x = sharp(standard(3), measurement, (4, 3), steps, generator=seeded())
    assert measurement.residual(x).abs().max() < 0.05, name


def test_the_gradient_of_the_misfit_is_that_of_autograd_where_it_is_linearised() -> None:
    measurement, x = LinearMeasurement(Cubic(), tensor([[0.8, -0.5]])), drawn(2, 3).requires_grad_()
    (expected,) = torch.autograd.grad(0.5 * measurement.residual(x).square().sum(), x)
    assert relative_error(misfit_gradient(measurement, x.detach()), expected) < 1e-14


def test_the_norm_of_an_operator_is_found_by_power_iteration() -> None:
    expected = torch.linalg.matrix_norm(A, 2) ** 2
    assert squared_norm(measured(), torch.zeros(2, SIZE, dtype=DOUBLE)) == pytest.approx(
        float(expected), 1e-3
    )
    nothing = LinearMeasurement(Matrix(torch.zeros_like(A)), Y)
    assert squared_norm(nothing, torch.zeros(2, SIZE, dtype=DOUBLE)) == 0.0


# RED-diff


def test_red_diff_descends_the_loss_of_its_paper() -> None:
    """(1/2) mean(y - A mu)^2 + lam (sigma/alpha) mean(stopgrad(eps_hat - eps) mu), by autograd."""
    prior, tau, weight = gaussian(VP()), 0.6, 0.25
    alpha, sigma = VP().alpha(tau), VP().sigma(tau)
    mu, noise = drawn(1, SIZE, seed=1).requires_grad_(), drawn(1, SIZE, seed=2)
    x = (alpha * mu + sigma * noise).detach()
    eps_hat = (x - alpha * prior.denoise(x, tau)) / sigma
    loss = (Y - mu @ A.T).square().mean() / 2 + weight * sigma / alpha * ((eps_hat - noise) * mu).mean()
    (expected,) = torch.autograd.grad(loss, mu)
    given, _ = red_diff_file.gradient(prior, measured(), mu.detach(), tau, noise, weight)
    assert relative_error(given, expected) < 1e-12


def test_red_diff_takes_steps_of_adam_from_the_pseudo_inverse() -> None:
    """Two by hand, at the first two levels of VP(0.1, 20): betas .9 and .99."""
    prior, measurement, generator = gaussian(VP()), measured(noise_variance=0.0), seeded(3)
    mu, first, second = (torch.linalg.pinv(A) @ Y[0])[None], torch.tensor(0.0), torch.tensor(0.0)
    for k, tau in [(1, 0.0), (2, 0.5)]:
        noise = torch.randn(1, SIZE, generator=generator, dtype=DOUBLE)
        slope, _ = red_diff_file.gradient(prior, measurement, mu, tau, noise, 0.25)
        first, second = 0.9 * first + 0.1 * slope, 0.99 * second + 0.01 * slope**2
        mu = mu - 0.1 * first / (1 - 0.9**k) / ((second / (1 - 0.99**k)).sqrt() + 1e-8)
    assert relative_error(red_diff(prior, measurement, (1, SIZE), 2, generator=seeded(3)), mu) < 1e-12


def stationary_point(tau: float, weight: float) -> Tensor:
    """Where the expected gradient on N(0, I) vanishes: (A^T A / m + weight sigma^2 I / d) mu = A^T y / m."""
    sigma = VP().sigma(tau)
    system = A.T @ A / len(A) + weight * sigma**2 / SIZE * torch.eye(SIZE, dtype=DOUBLE)
    return torch.linalg.solve(system, A.T @ Y[0] / len(A))


def test_the_expected_gradient_of_red_diff_vanishes_where_the_closed_form_says() -> None:
    """On a Gaussian prior the gradient is affine in the noise: its mean is its value without noise."""
    mu = stationary_point(0.5, 0.25)[None]
    slope, _ = red_diff_file.gradient(standard(SIZE, VP()), measured(), mu, 0.5, torch.zeros_like(mu), 0.25)
    assert slope.abs().max() < 1e-14


def test_the_iterates_of_red_diff_average_to_its_stationary_point() -> None:
    tau, weight, kept = 0.5, 2.0, []
    start = torch.zeros(256, SIZE, dtype=DOUBLE)

    def keep(step: int, tau: float, mu: Tensor, x1_hat: Tensor) -> None:
        if step >= 300:
            kept.append(mu.mean(0))

    prior = standard(SIZE, VP())
    red_diff_file.descend(prior, measured(), start, [tau] * 700, weight, 0.02, seeded(), keep)
    average, expected = torch.stack(kept).mean(0), stationary_point(tau, weight)
    assert (average - expected).abs().max() < 0.02
    assert (average - stationary_point(tau, 0.25)).abs().max() > 0.1


def test_adam_is_that_of_torch() -> None:
    for betas in [(0.9, 0.99), (0.9, 0.999)]:
        ours, theirs = drawn(2, 3), drawn(2, 3)
        adam, other = Adam(0.05, betas), torch.optim.Adam([theirs], lr=0.05, betas=betas)
        for k in range(5):
            theirs.grad = drawn(2, 3, seed=k) * 10.0**k
            ours = ours + adam.step(theirs.grad)
            other.step()
        assert relative_error(ours, theirs) < 1e-12


# L-BFGS and D-Flow


def rosenbrock(x: Tensor) -> tuple[Tensor, Tensor]:
    def value(x: Tensor) -> Tensor:
        return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(1)

    values, pullback, *_ = torch.func.vjp(value, x)
    return values, pullback(torch.ones_like(values))[0]


def test_lbfgs_finds_the_minimum_of_every_element() -> None:
    assert (lbfgs(rosenbrock, drawn(8, 2), 100) - 1).abs().max() < 1e-8


def test_the_memory_of_lbfgs_is_the_inverse_hessian_of_bfgs() -> None:
    """H+ = (I - s y^T / y^T s) H (I - y s^T / y^T s) + s s^T / y^T s from H = scale I, for each element."""
    root, scale = drawn(SIZE, SIZE), tensor([0.7, 2.0])
    steps = [drawn(2, SIZE, seed=k) for k in (1, 2, 3)]
    memory = [(s, s @ root @ root.T) for s in steps]
    slope = drawn(2, SIZE, seed=4)
    given = lbfgs_file._times_inverse_hessian(slope, memory, scale)
    for k in range(2):
        h = scale[k] * torch.eye(SIZE, dtype=DOUBLE)
        for s, y in memory:
            shear = torch.eye(SIZE, dtype=DOUBLE) - torch.outer(s[k], y[k]) / (s[k] @ y[k])
            h = shear @ h @ shear.T + torch.outer(s[k], s[k]) / (s[k] @ y[k])
        assert relative_error(given[k], h @ slope[k]) < 1e-10


def test_lbfgs_needs_few_evaluations() -> None:
    """An unguarded line search spends 25 evaluations an iteration once rounding is all that is left."""
    count = 0

    def counted(x: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal count
        count += 1
        return rosenbrock(x)

    lbfgs(counted, drawn(1, 2), 1000)
    assert count < 120


def test_an_element_of_lbfgs_never_gets_worse_and_avoids_what_is_not_a_number() -> None:
    def barrier(x: Tensor) -> tuple[Tensor, Tensor]:
        return (x - x.log()).sum(1), 1 - 1 / x

    assert (lbfgs(barrier, tensor([[1e-3, 5.0], [20.0, 0.5]]), 60) - 1).abs().max() < 1e-6

    def waves(x: Tensor) -> tuple[Tensor, Tensor]:
        return (x**2 + 5 * (8 * x).cos()).sum(1), 2 * x - 40 * (8 * x).sin()

    values = [waves(lbfgs(waves, 2 * drawn(64, 1), iterations))[0] for iterations in range(8)]
    assert all((later <= sooner + 1e-12).all() for sooner, later in itertools.pairwise(values))


def test_the_flow_of_d_flow_is_the_midpoint_sampler() -> None:
    z = drawn(3, SIZE)
    expected = sample(gaussian(), z, 5, solver="midpoint")
    assert torch.equal(push_forward(gaussian(), z, uniform_times(5)), expected)


def flow_matrix() -> tuple[Tensor, Tensor]:
    """Phi(z) = M z + q, which is affine for a Gaussian prior."""
    points = torch.cat([torch.zeros(1, SIZE, dtype=DOUBLE), torch.eye(SIZE, dtype=DOUBLE)])
    ends = sample(gaussian(), points, 5, solver="midpoint")
    return (ends[1:] - ends[0]).T, ends[0]


def d_flow_objective(weight: float) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """norm(A (M z + q) - y)^2 + weight (norm(z)^2 / 2 - (d - 1) log norm(z)) and its gradient, in numpy."""
    m, q = flow_matrix()
    b, c = (A @ m).numpy(), (A @ q - Y[0]).numpy()

    def objective(z: np.ndarray) -> tuple[float, np.ndarray]:
        r, square = b @ z + c, float(z @ z)
        value = float(r @ r) + weight * (square / 2 - (SIZE - 1) * math.log(math.sqrt(square)))
        return value, 2 * b.T @ r + weight * (1 - (SIZE - 1) / square) * z

    return objective


def test_the_objective_of_d_flow_and_its_gradient_are_those_of_its_paper() -> None:
    def push(noise: Tensor) -> Tensor:
        return push_forward(gaussian(), noise, uniform_times(5))

    z = drawn(3, SIZE)
    values, slopes = value_and_gradient(push, measured(), z, 0.3)
    for k in range(3):
        value, slope = d_flow_objective(0.3)(z[k].numpy())
        assert float(values[k]) == pytest.approx(value, rel=1e-12)
        assert relative_error(slopes[k], torch.from_numpy(slope)) < 1e-12


def test_d_flow_reaches_the_optimum_that_scipy_finds() -> None:
    weight, found = 0.3, []

    def keep(step: int, tau: float, z: Tensor, x1: Tensor) -> None:
        found.append((z, x1))

    x = d_flow(gaussian(), measured(), (3, SIZE), 20, noise_weight=weight, generator=seeded(1), callback=keep)
    m, q = flow_matrix()
    objective = d_flow_objective(weight)
    for k in range(3):
        start, end = found[0][0][k].numpy(), torch.linalg.solve(m, x[k] - q).numpy()
        other = minimize(objective, start, jac=True, method="BFGS", options={"gtol": 1e-10})
        assert np.abs(objective(end)[1]).max() < 1e-6
        assert objective(end)[0] == pytest.approx(other.fun, abs=1e-9)


def test_d_flow_without_a_noise_term_satisfies_the_measurement() -> None:
    x = d_flow(gaussian(), measured(), (4, SIZE), 5, noise_weight=0.0, generator=seeded())
    assert (x @ A.T - Y).abs().max() < 1e-6
    assert x.std(0).max() > 0.1  # and stays where it began in what was not measured


def test_the_noise_of_d_flow_has_the_norm_of_noise_where_there_are_no_data() -> None:
    """norm(z)^2 / 2 - (d - 1) log norm(z) is least at norm(z)^2 = d - 1; the other sign has no minimum."""
    blind = LinearMeasurement(Matrix(torch.zeros_like(A)), torch.zeros_like(Y))
    m, q = flow_matrix()
    x = d_flow(gaussian(), blind, (4, SIZE), 5, noise_weight=1.0, generator=seeded())
    z = torch.linalg.solve(m, (x - q).T)
    assert (z.square().sum(0) - (SIZE - 1)).abs().max() < 1e-8


# Flow Priors


def explicit_gradient(
    velocity: Callable[[Tensor], Tensor],
    trace: Callable[[Tensor], Tensor],
    x: Tensor,
    tau: float,
    length: float,
) -> Tensor:
    """Of 1000 norm(A (x + v dtau) - y)^2 + dtau tr(dv/dx), by autograd, plus (x - tau v) / (1 - tau)."""
    x = x.clone().requires_grad_()
    end = x + length * velocity(x)
    loss = 1e3 * (end @ A.T - Y).square().sum() + length * trace(x).sum()
    (slope,) = torch.autograd.grad(loss, x)
    return slope + (x.detach() - tau * velocity(x.detach())) / (1 - tau)


def test_the_gradient_of_flow_priors_has_its_three_terms() -> None:
    """v = sin(w x) value by value: its Jacobian is diagonal, and any probe of signs gives its trace."""
    w = tensor([0.5, -1.0, 2.0, 3.0])
    prior, x, tau = from_velocity(lambda x, tau: torch.sin(w * x)), drawn(3, SIZE), 0.4
    probe = flow_priors_file.random_signs(x, seeded(5))
    expected = explicit_gradient(lambda x: torch.sin(w * x), lambda x: w * torch.cos(w * x), x, tau, 0.5)
    with torch.no_grad():
        given = flow_priors_file.gradient(prior, measured(), x, tau, tau + 0.5, probe, 1e3)
    assert relative_error(given, expected) < 1e-12
    without = explicit_gradient(lambda x: torch.sin(w * x), torch.zeros_like, x, tau, 0.5)
    assert relative_error(given, without) > 1e-6


def test_the_probes_of_flow_priors_average_to_the_exact_trace() -> None:
    mix = drawn(SIZE, SIZE, seed=4)

    def velocity(x: Tensor) -> Tensor:
        return torch.sin(x @ mix.T)

    prior, x, tau = from_velocity(lambda x, tau: velocity(x)), drawn(2, SIZE), 0.4
    expected = explicit_gradient(velocity, lambda x: torch.cos(x @ mix.T) @ mix.diagonal(), x, tau, 0.5)
    signs = [tensor([row]).expand(2, SIZE) for row in itertools.product([-1.0, 1.0], repeat=SIZE)]
    given = [flow_priors_file.gradient(prior, measured(), x, tau, 0.9, probe, 1e3) for probe in signs]
    assert relative_error(torch.stack(given).mean(0), expected) < 1e-12
    assert set(flow_priors_file.random_signs(drawn(100), seeded()).tolist()) == {-1.0, 1.0}


def test_flow_priors_steps_by_adam_and_then_by_the_flow() -> None:
    """By hand on N(0, 1): v(x, 0) = -x, v(x, 1/2) = 0; the first step of Adam is the gradient's sign."""
    measurement = LinearMeasurement(Matrix(tensor([[1.0]])), tensor([[1.2]]))
    n = torch.randn(5, 1, generator=seeded(2), dtype=DOUBLE)
    x = n
    for tau, rate in [(0.0, -1.0), (0.5, 0.0)]:
        end, y_next = 1 + rate / 2, (tau + 0.5) * 1.2 + (0.5 - tau) * n
        slope = 2e3 * end * (end * x - y_next) + (1 - tau * rate) / (1 - tau) * x
        x = (x - 0.01 * slope.sign()) * end
    given = flow_priors(standard(1), measurement, (5, 1), 2, generator=seeded(2))
    assert relative_error(given, x) < 1e-6


def test_flow_priors_is_the_most_probable_image_if_its_weight_is_that_of_the_noise() -> None:
    """On N(0, 1) with data_weight = 1 / (2 sigma_y^2) and enough iterations: y / (1 + sigma_y^2)."""
    measurement = LinearMeasurement(Matrix(tensor([[1.0, 0.0]])), tensor([[1.2]]), 0.09)
    knobs = {"iterations": 30, "data_weight": 1 / 0.18, "learning_rate": 0.03}
    x = flow_priors(standard(2), measurement, (8, 2), 20, generator=seeded(), **knobs)
    assert (x - tensor([1.2 / 1.09, 0.0])).abs().max() < 0.02


# PnP-Flow


def test_pnp_flow_is_a_gradient_step_noise_and_the_denoiser() -> None:
    """Two steps by hand; the first forgets where it began, because tau = 0."""
    prior, generator = gaussian(), seeded(4)
    x = torch.zeros(3, SIZE, dtype=DOUBLE)
    for tau in (0.0, 0.5):
        z = x - 0.8 * (1 - tau) ** 0.5 * (x @ A.T - Y) @ A
        noises = [torch.randn(3, SIZE, generator=generator, dtype=DOUBLE) for _ in range(2)]
        x = torch.stack([prior.denoise(tau * z + (1 - tau) * noise, tau) for noise in noises]).mean(0)
    given = pnp_flow(
        prior, measured(), (3, SIZE), 2, draws=2, learning_rate=0.8, decay=0.5, generator=seeded(4)
    )
    assert relative_error(given, x) < 1e-12


def test_the_law_of_pnp_flow_on_a_gaussian_is_its_recursion() -> None:
    """N(0, 1): x+ = g (tau ((1-c) x + c y) + (1-tau) n / sqrt(draws)), c = 1 - tau if y is seen."""
    steps, y, draws = 30, 1.2, 4
    law = {"seen": [0.0, 0.0], "missing": [0.0, 0.0]}
    for tau in uniform_times(steps)[:-1]:
        g = tau / (tau**2 + (1 - tau) ** 2)
        for name, c in [("seen", 1 - tau), ("missing", 0.0)]:
            mean, variance = law[name]
            law[name] = [
                g * tau * ((1 - c) * mean + c * y),
                g**2 * (tau**2 * (1 - c) ** 2 * variance + (1 - tau) ** 2 / draws),
            ]
    measurement = LinearMeasurement(Matrix(tensor([[1.0, 0.0]])), tensor([[y]]), 0.09)
    x = pnp_flow(standard(2), measurement, (20000, 2), steps, draws=draws, generator=seeded())
    for k, (mean, variance) in enumerate(law.values()):
        assert float(x[:, k].mean()) == pytest.approx(mean, abs=4 * math.sqrt(variance / 20000))
        assert float(x[:, k].var()) == pytest.approx(variance, rel=0.04)


def test_the_first_data_step_of_pnp_flow_is_exact_for_orthonormal_rows() -> None:
    rows = torch.linalg.qr(drawn(SIZE, 2))[0].T
    measurement, points = LinearMeasurement(Matrix(rows), Y), []
    pnp_flow(gaussian(), measurement, (2, SIZE), 3, callback=lambda step, tau, z, x: points.append(z))
    assert measurement.residual(points[0]).abs().max() < 1e-14


def test_pnp_flow_refuses_a_step_that_overshoots() -> None:
    steep = LinearMeasurement(Matrix(10 * A), Y)
    with pytest.raises(InvalidArgument, match="give at most") as error:
        pnp_flow(gaussian(), steep, (2, SIZE), 3)
    most = float(str(error.value).split("at most ")[1].split(",")[0])
    assert most == pytest.approx(2 / float(torch.linalg.matrix_norm(10 * A, 2) ** 2), rel=1e-2)
    pnp_flow(gaussian(), steep, (2, SIZE), 3, learning_rate=0.95 * most)
    with pytest.raises(InvalidArgument, match="overshoots"):
        pnp_flow(gaussian(), steep, (2, SIZE), 3, learning_rate=1.05 * most)


# DAPS


def test_the_levels_of_daps_are_bent() -> None:
    levels = bent_levels(100.0, 0.1, 200)
    assert (len(levels), levels[0]) == (200, pytest.approx(100.0))
    middle = ((100 ** (1 / 7) + 0.1 ** (1 / 7)) / 2) ** 7
    assert levels[100] == pytest.approx(middle)
    assert levels[199] > 0.1  # the last level of the schedule is 0, not sigma_min


def test_the_clean_estimate_of_daps_is_the_probability_flow() -> None:
    """On N(0, C): Euler in sigma multiplies each axis by prod (v + s' s) / (v + s^2); the limit is exact."""
    prior = GaussianPrior(torch.zeros(SIZE, dtype=DOUBLE), COV, VE(100.0, 0.01))
    variances, axes = torch.linalg.eigh(COV)
    x = drawn(3, SIZE)
    for steps, tolerance in [(5, 1e-10), (2000, 1e-10)]:
        levels = [*bent_levels(3.0, 0.01, steps), 0.01]
        factor = torch.ones_like(variances)
        for s, s_next in itertools.pairwise(levels):
            factor = factor * (variances + s * s_next) / (variances + s**2)
        given = clean_estimate(prior, x, 3.0, 0.01, steps)
        assert relative_error(given, x @ axes * factor @ axes.T) < tolerance
    exact = ((variances + 0.01**2) / (variances + 9)).sqrt()
    assert relative_error(given, x @ axes * exact @ axes.T) < 3e-3


def test_the_langevin_steps_of_daps_have_the_law_of_their_density() -> None:
    """Precision 2 A^T A / std^2 + I / sigma^2, mean its inverse times 2 A^T y / std^2 + x0 / sigma^2."""
    std, sigma, length, count = 0.7, 0.5, 0.01, 20000
    x0 = drawn(1, SIZE).expand(count, SIZE)
    precision = 2 / std**2 * A.T @ A + torch.eye(SIZE, dtype=DOUBLE) / sigma**2
    cov = torch.linalg.inv(precision)
    mean = cov @ (2 / std**2 * A.T @ Y[0] + x0[0] / sigma**2)
    u = langevin(measured(), x0, sigma, std, length, 200, seeded())
    # the chain of finite length has the covariance (P - length P^2 / 2)^-1
    chain = torch.linalg.inv(precision - 0.5 * length * precision @ precision)
    assert (u.mean(0) - mean).abs().max() < 4 * math.sqrt(float(cov.diagonal().max()) / count)
    assert relative_error(u.T.cov(), chain) < 0.03
    assert relative_error(chain, cov) < 0.05


def daps_law(
    seen: bool, y: float, std: float, steps: int, first: float, last: float, chain: int
) -> tuple[float, float]:
    """Mean and variance of DAPS on N(0, 1), level by level: every step of it is affine."""
    mean, variance = 0.0, 0.0
    for step, sigma in enumerate(bent_levels(100.0, 0.1, steps)):
        levels = [*bent_levels(sigma, 0.01, 5), 0.01]
        factor = math.prod((1 + s * s_next) / (1 + s**2) for s, s_next in itertools.pairwise(levels))
        mean, variance = factor * mean, factor**2 * (variance + sigma**2)
        data = 2 / std**2 if seen else 0.0
        precision = data + 1 / sigma**2
        length = first + step / steps * (last - first)
        if length * (2 / std**2 + 1 / sigma**2) > 2:
            length = 1 / (2 / std**2 + 1 / sigma**2)
        keep = 1 - length * precision
        gain = keep**chain + (1 - keep**chain) / (sigma**2 * precision)
        noise = 2 * length * (1 - keep ** (2 * chain)) / (1 - keep**2)
        mean = gain * mean + (1 - keep**chain) * data * y / precision
        variance = gain**2 * variance + noise
    return mean, variance


@pytest.mark.parametrize(
    ("std", "first", "last"), [(0.01, 1e-4, 1e-6), (0.3 * math.sqrt(2), 1e-2, 1e-3)], ids=["paper", "sigma_y"]
)
def test_the_law_of_daps_on_a_gaussian_is_its_recursion(std: float, first: float, last: float) -> None:
    measurement = LinearMeasurement(Matrix(tensor([[1.0, 0.0]])), tensor([[1.2]]), 0.09)
    count, steps, chain = 4000, 30, 50
    x = daps(
        standard(2),
        measurement,
        (count, 2),
        steps,
        likelihood_std=std,
        first_length=first,
        last_length=last,
        langevin_steps=chain,
        generator=seeded(),
    )
    for k, seen in enumerate([True, False]):
        mean, variance = daps_law(seen, 1.2, std, steps, first, last, chain)
        assert float(x[:, k].mean()) == pytest.approx(mean, abs=4 * math.sqrt(variance / count))
        assert float(x[:, k].var()) == pytest.approx(variance, rel=0.1)


def test_daps_does_not_diverge_for_a_steep_operator() -> None:
    steep = LinearMeasurement(Matrix(10 * A), 10 * Y)
    x = daps(gaussian(), steep, (4, SIZE), 30, generator=seeded())
    assert (x @ A.T - Y).abs().max() < 0.05


def test_daps_starts_no_higher_than_its_prior_covers_and_then_at_the_data() -> None:
    seen: list[tuple[float, Tensor]] = []
    prior, measurement = on(gaussian(OT()), VE(0.3, 1e-3)), measured()
    daps(prior, measurement, (400, SIZE), 1, callback=lambda step, tau, x, u: seen.append((tau, x)))
    [(tau, x)] = seen
    assert tau == pytest.approx(0.0, abs=1e-12)
    estimate = torch.linalg.solve(A @ A.T + 0.09 * torch.eye(2, dtype=DOUBLE), Y[0]) @ A
    assert (x.mean(0) - estimate).abs().max() < 4 * 0.3 / math.sqrt(400)
    assert float(x.std(0).mean()) == pytest.approx(0.3, rel=0.1)
