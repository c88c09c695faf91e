"""What the guidance family solves and differentiates with."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from oracle import DOUBLE
from torch import Tensor

from rtc.guidance.pullback import gradient
from rtc.guidance.systems import gmres


@pytest.mark.parametrize("kept", [5, 3])
def test_gmres_solves_asymmetric_systems_and_singular_ones(kept: int) -> None:
    generator = torch.Generator().manual_seed(2)
    keep = torch.diag((torch.arange(5) < kept).to(DOUBLE))
    inner = torch.eye(5, dtype=DOUBLE) + 0.3 * torch.randn(3, 5, 5, generator=generator, dtype=DOUBLE)
    system = keep @ inner @ keep
    b = (system @ torch.randn(3, 5, 1, generator=generator, dtype=DOUBLE))[..., 0]
    found = gmres(lambda v: (system @ v[..., None])[..., 0], b, iterations=5)
    torch.testing.assert_close((system @ found[..., None])[..., 0], b, rtol=1e-9, atol=1e-9)
    assert float(found.abs().max()) < 100.0


def test_each_step_of_gmres_lowers_the_residual() -> None:
    generator = torch.Generator().manual_seed(2)
    system = torch.randn(2, 6, 6, generator=generator, dtype=DOUBLE)  # neither positive nor symmetric
    b = torch.randn(2, 6, generator=generator, dtype=DOUBLE)

    def apply(v: Tensor) -> Tensor:
        return (system @ v[..., None])[..., 0]

    left = [(b - apply(gmres(apply, b, iterations=k))).norm(dim=1) for k in range(1, 7)]
    for earlier, later in pairwise(left):
        assert (later <= earlier + 1e-12).all()
    assert (left[-1] < 1e-9).all()
    assert (left[0] < b.norm(dim=1)).all()


def test_the_gradient_of_each_element_is_its_own() -> None:
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    torch.testing.assert_close(gradient(lambda z: (z**3).sum(1), x), 3.0 * x**2)
