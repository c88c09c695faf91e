from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import DOUBLE, Identity, Matrix, golden, tensor

from rtc.errors import InvalidArgument
from rtc.measurement import LinearMeasurement, SoftMask

GENERATOR = torch.Generator().manual_seed(0)
CHUNK, TARGET = torch.randn(2, 3, 8, 4, generator=GENERATOR, dtype=DOUBLE)


@given(
    r2=st.floats(1e-6, 10.0),
    weights=st.lists(st.floats(0.0, 1.0, allow_subnormal=False), min_size=8, max_size=8),
)
def test_a_soft_mask_is_the_identity_measured_with_noise_that_shrinks_with_r2(
    r2: float, weights: list[float]
) -> None:
    mask = SoftMask(TARGET, tensor(weights))
    noise_variance = r2 * (1.0 / tensor(weights)[:, None] - 1.0)  # infinite where the weight is 0
    measured = LinearMeasurement(Identity(), TARGET, noise_variance)
    torch.testing.assert_close(mask.pull(CHUNK, r2), measured.pull(CHUNK, r2), rtol=1e-12, atol=1e-12)


@given(r2=st.floats(1e-3, 10.0), noise_std=st.floats(1e-3, 10.0))
def test_the_pull_leads_to_the_posterior_mean(r2: float, noise_std: float) -> None:
    reference = golden("gaussian")
    a, y = tensor(reference["A"]), tensor(reference["y"])
    x1_hat = tensor(reference["mean"])
    pull = LinearMeasurement(Matrix(a), y, noise_std**2).pull(x1_hat, r2)
    # The other form of the same mean: precisions add.
    precision = a.T @ a / noise_std**2 + torch.eye(6, dtype=DOUBLE) / r2
    posterior = torch.linalg.solve(precision, a.T @ y / noise_std**2 + x1_hat / r2)
    torch.testing.assert_close(x1_hat + pull, posterior, rtol=1e-7, atol=1e-7)


def test_without_noise_the_pull_meets_the_measurement() -> None:
    a, y = torch.randn(2, 6, generator=GENERATOR, dtype=DOUBLE), torch.tensor([1.0, -2.0], dtype=DOUBLE)
    x1_hat = torch.randn(5, 6, generator=GENERATOR, dtype=DOUBLE)
    moved = x1_hat + LinearMeasurement(Matrix(a), y).pull(x1_hat, 0.3)
    torch.testing.assert_close(moved @ a.T, y.expand(5, 2), rtol=1e-9, atol=1e-9)


def test_an_action_of_weight_one_is_pulled_onto_its_target_exactly() -> None:
    pull = SoftMask(TARGET, torch.ones(8, dtype=DOUBLE)).pull(CHUNK, 0.0)
    assert torch.equal(pull, TARGET - CHUNK)


@pytest.mark.parametrize("garbage", [math.nan, math.inf, 1e308])
def test_padding_is_never_read(garbage: float) -> None:
    weights = torch.tensor([1.0, 1.0, 0.5, 0.1, 0.0, 0.0, 0.0, 0.0], dtype=DOUBLE)
    target = TARGET.clone()
    target[:, 4:] = garbage
    pull = SoftMask(target, weights).pull(CHUNK, 0.5)
    assert torch.equal(pull[:, 4:], torch.zeros(3, 4, 4, dtype=DOUBLE))
    assert torch.equal(pull, SoftMask(TARGET, weights).pull(CHUNK, 0.5))


def test_each_chunk_of_a_batch_can_have_its_own_weights() -> None:
    weights = torch.rand(3, 8, generator=GENERATOR, dtype=DOUBLE)
    together = SoftMask(TARGET, weights).pull(CHUNK, 0.5)
    for row in range(3):
        assert torch.equal(together[row], SoftMask(TARGET[row], weights[row]).pull(CHUNK[row], 0.5))


def test_a_mask_in_another_precision_leaves_the_chunk_in_its_own() -> None:
    mask = SoftMask(TARGET, torch.ones(8))
    assert mask.pull(CHUNK.bfloat16(), 0.5).dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 8), (8, 4), (3, 8, 4), ()])
def test_weights_that_do_not_fit_the_target_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgument, match="one weight per action"):
        SoftMask(TARGET, torch.ones(shape))


@pytest.mark.parametrize("weight", [-0.1, 1.0001, math.nan])
def test_weights_outside_zero_to_one_are_refused(weight: float) -> None:
    with pytest.raises(InvalidArgument, match=r"\[0, 1\]"):
        SoftMask(TARGET, torch.tensor([1.0] * 7 + [weight]))


def test_a_target_without_actions_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="horizon, action_dim"):
        SoftMask(torch.zeros(8), torch.ones(8))


@pytest.mark.parametrize("shape", [(3, 7, 4), (3, 8, 1)])
def test_a_chunk_of_another_shape_than_the_target_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgument, match="must be equal"):
        SoftMask(TARGET, torch.ones(8)).pull(torch.zeros(shape), 0.5)


def test_a_negative_noise_variance_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="at least 0"):
        LinearMeasurement(Identity(), TARGET, -0.1)
