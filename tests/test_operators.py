"""What every operator must satisfy, held to dense linear algebra."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from oracle import DOUBLE
from torch import Tensor
from torch.nn.functional import conv2d

from rtc.errors import InvalidArgument, Unsupported
from rtc.measurement import LinearMeasurement, LinearOperator
from rtc.operators import (
    Blur,
    Compose,
    Downsample,
    Grayscale,
    Hadamard,
    Identity,
    Mask,
    Matrix,
    Operator,
    anisotropic,
    dot_test,
    from_function,
    gaussian,
    motion,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=DOUBLE)


LOW_RANK = random(5, 3) @ random(3, 12, seed=1)
KERNEL = random(2, 2, 3, 3)


def convolve(x: Tensor) -> Tensor:
    return conv2d(x, KERNEL, padding=1)


def sums_of_rows(x: Tensor) -> Tensor:
    """The same sum twice: of half rank, so that most y cannot be reached."""
    return torch.cat((x.sum(-1), 2.0 * x.sum(-1)), dim=-1)


BLUR = Blur((4, 6), gaussian(0.6))
OPERATORS: dict[str, Operator] = {
    "identity": Identity((2, 3)),
    "mask": Mask(random(2, 4, 3) > 0.3),
    "mask of pixels": Mask.random((3, 4, 4), 0.4, seeded()),
    "average": Downsample((2, 4, 6), 2),
    "bicubic": Downsample((2, 8, 6), 2, "bicubic"),
    "blur": Blur((2, 6, 5), gaussian(0.6)),
    "motion blur of even size": Blur((4, 6), motion(3.0, 30.0)),
    "blur that loses frequencies": Blur((1, 4, 8), torch.full((1, 2), 0.5, dtype=DOUBLE)),
    "grayscale": Grayscale((3, 2, 4)),
    "negative weights": Grayscale((2, 5), (-1.0, 0.5)),
    "hadamard": Hadamard((4, 4), 0.4, seeded()),
    "hadamard of any size": Hadamard((3, 2, 4), 0.5, seeded()),
    "matrix": Matrix(random(4, 6), (2, 3)),
    "tall matrix": Matrix(random(6, 4)),
    "matrix of low rank": Matrix(LOW_RANK, (3, 4)),
    "mask after blur": Compose(Mask.box((4, 6), 2, 2), BLUR),
    "average after grayscale": Compose(Downsample((1, 4, 4), 2), Grayscale((3, 4, 4))),
    "function": from_function(convolve, (2, 4, 4), like=KERNEL),
    "function of low rank": from_function(sums_of_rows, (3, 4), like=KERNEL),
}
NOISES: dict[str, Callable[[Operator], float | Tensor]] = {
    "noise": lambda operator: 0.3,
    "no noise": lambda operator: 0.0,
    "no noise, a tensor": lambda operator: torch.zeros((), dtype=DOUBLE),
    "noise per element": lambda operator: torch.tensor([0.1, 2.0], dtype=DOUBLE).reshape(
        2, *(1 for _ in operator.event_out)
    ),
    "noise per value": lambda operator: 0.1 + random(*operator.event_out, seed=7).abs(),
    "noise per value and element": lambda operator: 0.1 + random(2, *operator.event_out, seed=8).abs(),
    "infinite noise": lambda operator: math.inf,
}
every_operator = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)


def size_of(event: tuple[int, ...]) -> int:
    return math.prod(event)


def columns(function: Callable[[Tensor], Tensor], event: tuple[int, ...]) -> Tensor:
    """The matrix of a linear function of one flat or shaped argument."""
    size = size_of(event)
    return function(torch.eye(size, dtype=DOUBLE).reshape(size, *event)).reshape(size, -1).T


def close(given: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(given, expected, rtol=tolerance, atol=tolerance)


@every_operator
def test_the_adjoint_is_the_transpose(operator: Operator) -> None:
    assert dot_test(operator, seeded(3)) < 1e-14
    close(columns(operator.adjoint, operator.event_out), operator.dense().T, 1e-14)


@every_operator
def test_the_pseudo_inverse_satisfies_the_four_identities(operator: Operator) -> None:
    a, inverse = operator.dense(), columns(operator.pinv, operator.event_out)
    close(a @ inverse @ a, a)
    close(inverse @ a @ inverse, inverse)
    close(a @ inverse, (a @ inverse).T)
    close(inverse @ a, (inverse @ a).T)


@every_operator
def test_the_svd_multiplies_to_the_operator(operator: Operator) -> None:
    svd, a = operator.svd(), operator.dense()
    assert svd.values.shape == (a.shape[1],)
    coordinates = (a.shape[1],)
    v_t = columns(svd.v_t, operator.event_in)
    u, u_t = columns(svd.u, coordinates), columns(svd.u_t, operator.event_out)
    close(u @ torch.diag(svd.values) @ v_t, a, 1e-12)
    close(v_t @ v_t.T, torch.eye(a.shape[1], dtype=DOUBLE), 1e-12)
    close(columns(svd.v, coordinates), v_t.T, 1e-12)
    close(u_t, u.T, 1e-12)
    close(u_t @ u, torch.diag((svd.values > 0.0).double()), 1e-12)
    expected = torch.linalg.svdvals(a)
    close(svd.values.sort(descending=True).values[: len(expected)], expected, 1e-12)


@every_operator
@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
@pytest.mark.parametrize("r2", [0.7, torch.tensor([0.2, 3.0], dtype=DOUBLE)], ids=["r2", "r2 per element"])
def test_the_solve_is_that_of_dense_algebra(
    operator: Operator, noise: Callable[[Operator], float | Tensor], r2: float | Tensor
) -> None:
    a, variance = operator.dense(), noise(operator)
    b = random(2, *operator.event_out, seed=5)
    given_r2 = r2.reshape(2, *(1 for _ in operator.event_in)) if isinstance(r2, Tensor) else r2
    solved = operator.solve(b, given_r2, variance).reshape(2, -1)
    per_value = torch.as_tensor(variance, dtype=DOUBLE).expand(b.shape).reshape(2, -1)
    per_element = torch.as_tensor(r2, dtype=DOUBLE).expand(2)
    for element in range(2):
        if per_value[element].isinf().all():
            assert not solved[element].any()
            continue
        system = per_element[element] * a @ a.T + torch.diag(per_value[element])
        expected = torch.linalg.pinv(system, rtol=1e-10, hermitian=True) @ b[element].reshape(-1)
        close(solved[element], expected, 1e-8)


@every_operator
def test_one_value_of_infinite_noise_is_as_one_not_observed(operator: Operator) -> None:
    noise = torch.full(operator.event_out, 0.2, dtype=DOUBLE).reshape(-1)
    noise[0] = math.inf
    b, a = random(*operator.event_out, seed=5), operator.dense()
    solved = operator.solve(b, 0.7, noise.reshape(operator.event_out)).reshape(-1)
    rest = 0.7 * a[1:] @ a[1:].T + 0.2 * torch.eye(len(a) - 1, dtype=DOUBLE)
    close(solved[1:], torch.linalg.solve(rest, b.reshape(-1)[1:]))
    assert solved[0] == 0.0


@every_operator
def test_a_batch_is_its_elements_one_by_one(operator: Operator) -> None:
    x, y = random(2, 3, *operator.event_in), random(2, 3, *operator.event_out)
    for function, value in (
        (operator.forward, x),
        (operator.adjoint, y),
        (operator.pinv, y),
        (lambda b: operator.solve(b, 0.5, 0.1), y),
        (operator.svd().v_t, x),
        (operator.svd().u_t, y),
    ):
        single = torch.stack([torch.stack([function(element) for element in row]) for row in value])
        close(function(value), single, 1e-10)


@every_operator
def test_the_precision_of_the_data_is_kept(operator: Operator) -> None:
    if operator.like is not None:
        pytest.skip("takes one dtype only")
    x, y = random(2, *operator.event_in).float(), random(2, *operator.event_out).float()
    svd = operator.svd()
    solve = operator.solve(y, torch.tensor([0.1, 0.2], dtype=DOUBLE), torch.tensor(0.3, dtype=DOUBLE))
    outputs = [operator.forward(x), operator.adjoint(y), operator.pinv(y), solve]
    outputs += [svd.v_t(x), svd.u_t(y), svd.v(svd.v_t(x)), svd.u(svd.v_t(x)), operator.picture(y)]
    assert {output.dtype for output in outputs} == {torch.float32}
    close(operator.forward(x).double(), operator.forward(x.double()), 1e-5)


@every_operator
def test_the_device_of_the_data_is_kept(operator: Operator) -> None:
    if isinstance(operator, Compose) or operator.like is not None:
        pytest.skip("asks whether a solve has converged, which the device `meta` cannot say")
    x = torch.empty(2, *operator.event_in, device="meta")
    y = torch.empty(2, *operator.event_out, device="meta")
    svd, r2, noise = operator.svd(), torch.ones(2), torch.ones(())
    outputs = [operator.forward(x), operator.adjoint(y), operator.pinv(y), operator.solve(y, r2, noise)]
    outputs += [svd.v_t(x), svd.u_t(y), svd.v(svd.v_t(x)), svd.u(svd.v_t(x))]
    assert {output.device.type for output in outputs} == {"meta"}


@every_operator
def test_gradients_flow_through(operator: Operator) -> None:
    x = random(1, *operator.event_in).requires_grad_()
    y = random(1, *operator.event_out).requires_grad_()
    a = operator.dense()
    system = 0.7 * a @ a.T + 0.4 * torch.eye(len(a), dtype=DOUBLE)
    weights_out, weights_in = random(*operator.event_out, seed=2), random(*operator.event_in, seed=2)
    (of_x,) = torch.autograd.grad((operator.forward(x)[0] * weights_out).sum(), x)
    close(of_x.reshape(-1), a.T @ weights_out.reshape(-1))
    (of_y,) = torch.autograd.grad((operator.adjoint(y)[0] * weights_in).sum(), y)
    close(of_y.reshape(-1), a @ weights_in.reshape(-1))
    (of_b,) = torch.autograd.grad((operator.solve(y, 0.7, 0.4)[0] * weights_out).sum(), y)
    close(of_b.reshape(-1), torch.linalg.solve(system, weights_out.reshape(-1)))
    _, pullback, *_ = torch.func.vjp(lambda b: operator.solve(b, 0.7, 0.4), y.detach())
    close(pullback(weights_out[None])[0], of_b)


@every_operator
def test_another_shape_is_refused_with_both_named(operator: Operator) -> None:
    wrong = random(2, *operator.event_in, 9)
    for function in (
        operator.forward,
        operator.adjoint,
        operator.pinv,
        lambda b: operator.solve(b, 1.0, 0.1),
    ):
        with pytest.raises(
            InvalidArgument, match=r"has shape \(2, .*, 9\), but .* \[\*batch, .*\]; give that"
        ):
            function(wrong)


@every_operator
def test_an_operator_serves_as_a_measurement(operator: Operator) -> None:
    assert isinstance(operator, LinearOperator)
    x1_hat, y = random(3, *operator.event_in), operator.forward(random(*operator.event_in, seed=4))
    moved = x1_hat + LinearMeasurement(operator, y).pull(
        x1_hat, torch.rand(3, dtype=DOUBLE).reshape(3, *x1_hat[0].ndim * [1])
    )
    close(operator.forward(moved), y.expand(3, *y.shape), 1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE], ids=str)
def test_what_was_made_under_inference_mode_serves_with_autograd(dtype: torch.dtype) -> None:
    with torch.inference_mode():
        operators = [
            Blur((4, 4), gaussian(0.5)),
            Downsample((4, 4), 2, "bicubic"),
            Matrix(random(3, 16), (4, 4)),
            Compose(Mask.half((4, 4)), Blur((4, 4), gaussian(0.5))),
        ]
        for operator in operators:
            operator.pinv(operator.forward(torch.ones(1, 4, 4, dtype=dtype)))
            operator.svd()
    for operator in operators:
        x, svd = random(1, 4, 4).to(dtype).requires_grad_(), operator.svd()
        spectral = svd.u(svd.values.to(x) * svd.v_t(x))
        (operator.pinv(operator.forward(x)).square().sum() + spectral.square().sum()).backward()
        assert x.grad is not None
        assert x.grad.any()


@pytest.mark.parametrize(
    ("r2", "noise", "message"),
    [
        (torch.ones(3, dtype=DOUBLE), 0.1, r"r2 has shape \(3,\).*\(2,\)"),
        (torch.ones(2, 4, 6, dtype=DOUBLE), 0.1, r"r2 has shape \(2, 4, 6\)"),
        (1.0, torch.ones(5, dtype=DOUBLE), r"noise_variance has shape \(5,\).*\(2, 4, 6\)"),
        (1.0, torch.ones(3, 2, 4, 6, dtype=DOUBLE), r"noise_variance has shape \(3, 2, 4, 6\)"),
    ],
)
def test_variances_that_do_not_fit_are_refused(
    r2: float | Tensor, noise: float | Tensor, message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        BLUR.solve(random(2, 4, 6), r2, noise)


def test_without_noise_and_without_uncertainty_nothing_is_asked_for() -> None:
    for operator in (BLUR, Matrix(random(2, 3)), Identity((4,)), OPERATORS["function"]):
        assert not operator.solve(torch.ones(1, *operator.event_out, dtype=DOUBLE), 0.0, 0.0).any()


def test_rounding_is_not_divided_by_a_small_noise() -> None:
    operator = OPERATORS["matrix of low rank"]
    b = operator.forward(random(1, 3, 4))
    given = operator.adjoint(operator.solve(b.float(), 0.7, 1e-10))
    close(given.double(), operator.adjoint(operator.solve(b, 0.7, 0.0)), 1e-2)


def test_a_large_operator_without_an_svd_says_what_to_do() -> None:
    large = Compose(Mask.box((3, 32, 32), 8, 8), Blur((3, 32, 32), gaussian(1.0)))
    with pytest.raises(Unsupported, match=r"3072 data values .* Matrix\(operator.dense\(\)\)"):
        large.svd()


def test_a_solve_that_does_not_converge_says_so_and_returns_nothing() -> None:
    spread = torch.diag(torch.logspace(0, -7, 60, dtype=DOUBLE)) @ torch.linalg.qr(random(60, 60)).Q
    stiff = from_function(lambda x: x @ spread, (60,), like=spread)
    with pytest.raises(Unsupported, match="conjugate gradients left"):
        stiff.pinv(random(1, 60).float().double() @ spread.inverse() * 1e3)


@pytest.mark.parametrize("std_a", [1.0, 2.0])
def test_rank_tolerance_decides_which_frequencies_are_lost(std_a: float) -> None:
    kernel = anisotropic(std_a, 0.5, 0.0)
    exact, rough = Blur((16, 16), kernel), Blur((16, 16), kernel, rank_tolerance=0.1)
    values = rough.svd().values
    assert values[values > 0].min() > 0.1 * values.max()
    assert (values > 0).sum() < (exact.svd().values > 0).sum()
    seen = (values > 0).double()
    y = exact.forward(random(1, 16, 16))
    # The pseudo-inverse gives back the part of x in the frequencies that count, and nothing else.
    close(rough.svd().v_t(rough.pinv(y)), seen * rough.svd().v_t(random(1, 16, 16)), 1e-9)
