"""Operators made of functions, deepinv's physics, and the solver behind both."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from oracle import DOUBLE
from torch import Tensor
from torch.nn.functional import avg_pool2d

from rtc.errors import InvalidArgument, Unsupported
from rtc.guidance.pigdm import guide
from rtc.measurement import LinearMeasurement, LinearOperator, NonlinearOperator
from rtc.operators import (
    Blur,
    Downsample,
    Mask,
    Matrix,
    Nonlinear,
    conjugate_gradients,
    dot_test,
    from_deepinv,
    from_function,
    gaussian,
    to_deepinv,
)
from rtc.path import OT
from rtc.prior import from_denoiser

FLOAT64 = torch.zeros((), dtype=DOUBLE)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def positive(size: int, seed: int = 0) -> Tensor:
    root = random(size, size, seed=seed)
    return root @ root.T + 0.1 * torch.eye(size, dtype=DOUBLE)


# ---- conjugate gradients


def test_conjugate_gradients_solve_each_system_of_a_batch() -> None:
    systems, b = torch.stack([positive(6, seed) for seed in range(4)]), random(4, 6)
    x = conjugate_gradients(lambda v: (systems @ v[..., None])[..., 0], b, iterations=50, tolerance=1e-12)
    torch.testing.assert_close(x, torch.linalg.solve(systems, b), rtol=1e-9, atol=1e-9)


def test_one_system_does_not_depend_on_the_others() -> None:
    system, b = positive(6), random(3, 6)
    b[1] *= 1e8
    b[2] = 0.0
    together = conjugate_gradients(lambda v: v @ system, b, iterations=4, tolerance=1e-3)
    for given, alone in zip(together, b, strict=True):
        single = conjugate_gradients(lambda v: v @ system, alone[None], iterations=4, tolerance=1e-3)[0]
        torch.testing.assert_close(given, single, rtol=1e-10, atol=0)
    assert not together[2].any()


def test_k_steps_are_the_best_in_the_krylov_space() -> None:
    system, b = positive(8), random(1, 8)
    given = conjugate_gradients(lambda v: v @ system, b, iterations=3, tolerance=0.0)[0]
    basis = torch.linalg.qr(torch.stack([torch.linalg.matrix_power(system, k) @ b[0] for k in range(3)], 1)).Q
    best = basis @ torch.linalg.solve(basis.T @ system @ basis, basis.T @ b[0])
    torch.testing.assert_close(given, best, rtol=1e-9, atol=1e-9)


def test_it_stops_when_all_have_converged() -> None:
    calls = []

    def apply(v: Tensor) -> Tensor:
        calls.append(v)
        return 2.0 * v

    conjugate_gradients(apply, random(3, 5), iterations=100)
    assert len(calls) == 1


@pytest.mark.parametrize("shape", [(5,), (2, 5), (2, 3, 5), (2, 1, 1, 5)])
def test_batch_dimensions_are_as_many_as_said(shape: tuple[int, ...]) -> None:
    system, b = positive(5), random(*shape)
    for batch_dims in range(len(shape)):
        x = conjugate_gradients(
            lambda v: v @ system, b, iterations=500, tolerance=1e-12, batch_dims=batch_dims
        )
        torch.testing.assert_close(x @ system, b, rtol=1e-8, atol=1e-8)
    scalars = conjugate_gradients(lambda v: 4.0 * v, b, iterations=1, batch_dims=b.ndim)
    torch.testing.assert_close(scalars, b / 4.0)


def test_a_singular_system_in_range_gives_the_solution_of_least_norm() -> None:
    root = random(6, 3)
    system, b = root @ root.T, random(2, 6) @ root @ root.T
    x = conjugate_gradients(lambda v: v @ system, b, iterations=30, tolerance=1e-12)
    torch.testing.assert_close(x, b @ torch.linalg.pinv(system, rtol=1e-10), rtol=1e-7, atol=1e-7)


def test_a_flat_direction_stops_its_own_system_only() -> None:
    system = torch.diag(torch.tensor([2.0, 0.0], dtype=DOUBLE))
    b = torch.tensor([[0.0, 1.0], [3.0, 0.0]], dtype=DOUBLE)
    x = conjugate_gradients(lambda v: v @ system, b, iterations=200)
    torch.testing.assert_close(x, torch.tensor([[0.0, 0.0], [1.5, 0.0]], dtype=DOUBLE))


def test_nan_stays_in_its_own_system_and_is_seen() -> None:
    b = random(2, 4)
    b[0, 1] = math.nan
    system = positive(4)
    x = conjugate_gradients(lambda v: v @ system, b, iterations=50, tolerance=1e-12)
    assert x[0].isnan().any()
    assert conjugate_gradients(lambda v: v @ system, b[:1], iterations=50).isnan().any()
    torch.testing.assert_close(x[1] @ system, b[1], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    "bad", [{"iterations": 0}, {"iterations": 3, "tolerance": -1.0}, {"iterations": 3, "batch_dims": 3}]
)
def test_conjugate_gradients_refuse_what_makes_no_sense(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="it needs iterations >= 1"):
        conjugate_gradients(lambda v: v, random(2, 3), **bad)


# ---- functions


def test_a_wrapped_function_is_the_operator_that_it_computes() -> None:
    ours = Downsample((2, 4, 6), 2)
    wrapped = from_function(lambda x: avg_pool2d(x, 2), (2, 4, 6), like=FLOAT64)
    x, y = random(3, 2, 4, 6), random(3, 2, 2, 3)
    assert wrapped.event_out == (2, 2, 3)
    torch.testing.assert_close(wrapped.dense(), ours.dense())
    for given, expected in (
        (wrapped.adjoint(y), ours.adjoint(y)),
        (wrapped.pinv(y), ours.pinv(y)),
        (wrapped.solve(y, 0.3, 0.01), ours.solve(y, 0.3, 0.01)),
        (wrapped.forward(x), ours.forward(x)),
    ):
        torch.testing.assert_close(given, expected, rtol=1e-9, atol=1e-9)


def test_a_function_of_fixed_precision_is_tested_and_decomposed_in_it() -> None:
    layer = torch.nn.Conv2d(1, 2, 3, padding=1, bias=False)
    operator = from_function(layer, (1, 5, 5))
    assert dot_test(operator) < 1e-6
    assert operator.svd().v_t(torch.ones(1, 1, 5, 5)).dtype == torch.float32


@pytest.mark.parametrize(
    "function",
    [lambda x: x**2, lambda x: x + 1.0, lambda x: x.abs(), lambda x: x / 0.0],
    ids=["square", "shift", "abs", "infinite"],
)
def test_a_function_that_is_not_linear_is_refused_as_one(function: Any) -> None:
    with pytest.raises(InvalidArgument, match="give linear=False"):
        from_function(function, (4,))


def test_a_function_that_drops_the_batch_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"\(2, 4\) to \(2,\).*keep the batch dimension"):
        from_function(lambda x: x.sum(-1), (4,))


def nonlinear(x: Tensor) -> Tensor:
    return torch.stack((x[..., 0] * x[..., 1], x.sin().sum(-1)), dim=-1)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 3)])
def test_a_nonlinear_function_is_linearised_by_its_derivative(shape: tuple[int, ...]) -> None:
    operator, x, v = (
        from_function(nonlinear, (3,), linear=False, like=FLOAT64),
        random(*shape),
        random(*shape, seed=1),
    )
    derivative = operator.linearised(x)
    step = 1e-6
    finite = (operator.forward(x + step * v) - operator.forward(x - step * v)) / (2.0 * step)
    torch.testing.assert_close(derivative.forward(v), finite, rtol=1e-8, atol=1e-8)
    y = random(*finite.shape, seed=2)
    torch.testing.assert_close((derivative.forward(v) * y).sum(-1), (v * derivative.adjoint(y)).sum(-1))
    solved = derivative.solve(y, 0.5, 0.1)
    again = 0.5 * derivative.forward(derivative.adjoint(solved)) + 0.1 * solved
    torch.testing.assert_close(again, y, rtol=1e-9, atol=1e-9)


def test_the_derivative_at_one_point_has_a_matrix() -> None:
    operator, x = from_function(nonlinear, (3,), linear=False, like=FLOAT64), random(3)
    jacobian = torch.autograd.functional.jacobian(nonlinear, x)
    derivative = operator.linearised(x)
    torch.testing.assert_close(derivative.dense(), jacobian)
    assert dot_test(derivative) < 1e-14
    torch.testing.assert_close(derivative.svd().values[:2], torch.linalg.svdvals(jacobian))


def test_a_nonlinear_function_guides_a_prior() -> None:
    operator = from_function(nonlinear, (3,), linear=False, like=FLOAT64)
    assert isinstance(operator, NonlinearOperator)
    assert not isinstance(operator, LinearOperator)
    prior = from_denoiser(lambda x, tau: tau * x / (tau**2 + (1 - tau) ** 2), OT())
    x, tau, noise = random(2, 3), 0.6, 0.04
    guided = guide(prior, LinearMeasurement(operator, random(2), noise), max_weight=math.inf)
    slope, r2 = tau / (tau**2 + (1 - tau) ** 2), (1 - tau) ** 2 / (tau**2 + (1 - tau) ** 2)
    for element, given in zip(x, guided.denoise(x, tau), strict=True):
        x1_hat = slope * element
        a = torch.autograd.functional.jacobian(nonlinear, x1_hat)
        system = r2 * a @ a.T + noise * torch.eye(2, dtype=DOUBLE)
        pull = r2 * a.T @ torch.linalg.solve(system, random(2) - nonlinear(x1_hat))
        torch.testing.assert_close(
            given, x1_hat + pull, rtol=1e-9, atol=1e-9
        )  # J r2 = (sigma^2/alpha) J = r2


def test_a_nonlinear_function_refuses_another_shape() -> None:
    with pytest.raises(InvalidArgument, match=r"x has shape \(2, 4\)"):
        from_function(nonlinear, (3,), linear=False).forward(torch.ones(2, 4))


def test_the_dot_test_finds_an_adjoint_that_is_wrong() -> None:
    class Careless(Blur):
        def _adjoint(self, y: Tensor) -> Tensor:
            return self._forward(y)  # right for a symmetric kernel only

    lopsided = torch.rand(3, 3, generator=torch.Generator().manual_seed(0))
    assert dot_test(Careless((4, 5), lopsided + lopsided.flip((0, 1))), torch.Generator()) < 1e-14
    assert dot_test(Careless((4, 5), lopsided), torch.Generator().manual_seed(0)) > 1e-3


# ---- deepinv


class Physics:
    """What the adapter asks of a physics: the three maps, on images of one batch dimension."""

    def __init__(self, operator: Any) -> None:
        self.operator, self.shapes = operator, []

    def A(self, x: Tensor) -> Tensor:
        self.shapes.append(x.shape)
        return self.operator.forward(x)

    def A_adjoint(self, y: Tensor) -> Tensor:
        return self.operator.adjoint(y)

    def A_dagger(self, y: Tensor) -> Tensor:
        return self.operator.pinv(y)


def test_a_physics_is_an_operator() -> None:
    ours = Blur((1, 4, 6), gaussian(0.6))
    physics = Physics(ours)
    operator = from_deepinv(physics, (1, 4, 6), like=FLOAT64)
    assert not isinstance(operator, Nonlinear)
    y = random(2, 3, 1, 4, 6)
    torch.testing.assert_close(operator.adjoint(y), ours.adjoint(y))
    torch.testing.assert_close(operator.pinv(y), ours.pinv(y))
    torch.testing.assert_close(operator.solve(y, 0.4, 0.1), ours.solve(y, 0.4, 0.1), rtol=1e-8, atol=1e-8)
    assert {len(shape) for shape in physics.shapes} == {4}
    assert repr(operator) == "Physics([1, 4, 6] -> [1, 4, 6])"


def test_a_physics_without_an_adjoint_is_nonlinear() -> None:
    class Clipped:
        def A(self, x: Tensor) -> Tensor:
            return x.clamp(0.0, 1.0)

    assert isinstance(from_deepinv(Clipped(), (1, 4, 4)), Nonlinear)


def test_a_physics_of_several_measurements_is_refused() -> None:
    class Stacked:
        def A(self, x: Tensor) -> list[Tensor]:
            return [x, x]

    with pytest.raises(Unsupported, match="Stacked gives no single tensor"):
        from_deepinv(Stacked(), (1, 4, 4))


def deepinv_physics(name: str) -> Any:
    physics = pytest.importorskip("deepinv").physics
    return {
        "inpainting": lambda: physics.Inpainting((1, 8, 8), mask=0.5, rng=torch.Generator().manual_seed(0)),
        "blur": lambda: physics.BlurFFT((1, 8, 8), filter=gaussian(0.6).float()[None, None]),
        "downsampling": lambda: physics.Downsampling((1, 8, 8), filter="bicubic", factor=2),
        "decolorize": lambda: physics.Decolorize(),
        "denoising": lambda: physics.Denoising(),
    }[name]()


@pytest.mark.parametrize("name", ["inpainting", "blur", "downsampling", "decolorize", "denoising"])
def test_deepinvs_own_physics_are_operators(name: str) -> None:
    physics = deepinv_physics(name)
    event = (3, 8, 8) if name == "decolorize" else (1, 8, 8)
    operator = from_deepinv(physics, event)
    assert not isinstance(operator, Nonlinear)
    x = random(2, *event).float()
    y = operator.forward(x)
    torch.testing.assert_close(y, physics.A(x))
    assert dot_test(operator, torch.Generator().manual_seed(0)) < 1e-5
    a, b = operator.dense().double(), y.flatten(1).double()
    dense = torch.linalg.solve(0.5 * a @ a.T + 0.1 * torch.eye(len(a), dtype=DOUBLE), b.T).T
    torch.testing.assert_close(operator.solve(y, 0.5, 0.1).flatten(1).double(), dense, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(operator.forward(operator.pinv(y)), y, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    "operator",
    [Mask.box((1, 6, 6), 2, 2), Blur((1, 6, 6), gaussian(0.6)), Matrix(random(5, 9), (1, 3, 3))],
    ids=str,
)
def test_our_operators_are_deepinvs_physics(operator: Any) -> None:
    pytest.importorskip("deepinv")
    physics = to_deepinv(operator)
    x, y = random(2, *operator.event_in), random(2, *operator.event_out)
    torch.testing.assert_close(physics.A(x), operator.forward(x))
    torch.testing.assert_close(physics.A_adjoint(y), operator.adjoint(y))
    torch.testing.assert_close(physics(x), operator.forward(x))  # no noise
    reached = operator.forward(x)
    torch.testing.assert_close(physics.A_dagger(reached), operator.pinv(reached), rtol=1e-2, atol=1e-2)
