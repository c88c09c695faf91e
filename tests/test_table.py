"""Paths given as tables: discrete DDPM."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import DOUBLE, GaussianPrior, golden

from rtc.errors import InvalidArgument
from rtc.kernel import step_kernel
from rtc.path import noise_to_signal, wronskian
from rtc.prior import eps
from rtc.sample import sample
from rtc.table import Table, cosine_betas, ddpm, linear_betas

SMALL = (10.0, 3.0, 1.0, 0.2, 0.0)
TABLES = {
    "preserving": Table(SMALL),
    "exploding": Table(SMALL, preserving=False),
    "positive": Table((10.0, 3.0, 0.2)),
    "ddpm": ddpm(linear_betas()),
}


@pytest.mark.parametrize("row", golden("paths")["ddpm_linear_1000"], ids=lambda row: str(row["index"]))
def test_a_step_of_ddpm_is_the_reference_posterior(row: dict) -> None:
    path, level = ddpm(linear_betas(1000, 1e-4, 0.02)), 999 - row["index"]
    assert path.alpha(level / 1000) ** 2 == pytest.approx(row["alphabar"], rel=1e-9)
    kernel = step_kernel(path, level / 1000, (level + 1) / 1000, eta=1.0)
    assert list(kernel) == pytest.approx([row["A"], row["B"], row["c"]], rel=1e-9)


def test_as_many_steps_as_levels_are_the_textbook_ancestral_chain() -> None:
    betas = linear_betas(20, 0.01, 0.3)
    prior = GaussianPrior(torch.tensor([0.3, -1.0], dtype=DOUBLE), 0.5, ddpm(betas))
    noise = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    sigma_first = prior.path.sigma(0.0)

    abar = torch.tensor(betas, dtype=DOUBLE).neg().add(1.0).cumprod(0).tolist()
    generator, x = torch.Generator().manual_seed(1), sigma_first * noise
    for k in reversed(range(20)):
        predicted = eps(prior, x, 1.0 - (k + 1) / 20)
        x = (x - betas[k] * predicted / math.sqrt(1.0 - abar[k])) / math.sqrt(1.0 - betas[k])
        if k > 0:
            deviation = math.sqrt(betas[k] * (1.0 - abar[k - 1]) / (1.0 - abar[k]))
            x = x + deviation * torch.randn(3, 2, generator=generator, dtype=DOUBLE)

    ours = sample(prior, noise, 20, solver="ddpm", generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours, x, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", TABLES)
def test_a_sampler_with_a_step_for_each_level_is_at_the_levels(name: str) -> None:
    table = TABLES[name]
    steps = len(table.rho) - 1
    found = [noise_to_signal(table, step / steps) for step in range(steps + 1)]
    assert found == pytest.approx(list(table.rho), rel=1e-10, abs=1e-15)


def test_between_levels_log_rho_is_linear_and_next_to_data_rho_is() -> None:
    table = Table(SMALL)
    assert noise_to_signal(table, 1.5 / 4) == pytest.approx(math.sqrt(3.0 * 1.0), rel=1e-12)
    assert noise_to_signal(table, 3.5 / 4) == pytest.approx(0.1, rel=1e-12)


@given(position=st.floats(0.02, 0.98), cell=st.integers(0, 3), name=st.sampled_from(sorted(TABLES)))
def test_derivatives_are_those_of_the_values(position: float, cell: int, name: str) -> None:
    table = TABLES[name]
    cells = len(table.rho) - 1
    tau = (min(cell, cells - 1) + position) / cells
    step = 1e-4 / cells
    for value, slope in ((table.alpha, table.alpha_dot), (table.sigma, table.sigma_dot)):
        central = (value(tau + step) - value(tau - step)) / (2.0 * step)
        assert slope(tau) == pytest.approx(central, rel=1e-5, abs=1e-6)
    assert wronskian(table, tau) > 0.0


@pytest.mark.parametrize("name", TABLES)
def test_the_scales_are_those_of_the_family(name: str) -> None:
    for tau in (0.0, 0.3, 0.7, 1.0):
        table = TABLES[name]
        if table.preserving:
            assert table.alpha(tau) ** 2 + table.sigma(tau) ** 2 == pytest.approx(1.0, rel=1e-14)
        else:
            assert table.alpha(tau) == 1.0


@given(tau=st.floats(0.0, 1.0), name=st.sampled_from(sorted(TABLES)))
def test_the_time_is_found_again_from_the_noise_to_signal_ratio(tau: float, name: str) -> None:
    table = TABLES[name]
    assert table.tau_at(noise_to_signal(table, tau)) == pytest.approx(tau, abs=1e-9)


def test_a_noise_level_outside_the_table_is_at_a_time_outside() -> None:
    assert Table((10.0, 3.0, 0.2)).tau_at(11.0) < 0.0
    assert Table((10.0, 3.0, 0.2)).tau_at(0.1) > 1.0
    assert Table(SMALL).tau_at(0.0) == 1.0


@pytest.mark.parametrize("name", TABLES)
def test_a_tensor_of_times_gives_the_values_of_its_times(name: str) -> None:
    table, tau = TABLES[name], torch.linspace(0.0, 1.0, 13, dtype=DOUBLE)
    for function in (table.alpha, table.sigma, table.alpha_dot, table.sigma_dot):
        expected = torch.tensor([function(float(each)) for each in tau], dtype=DOUBLE)
        torch.testing.assert_close(torch.as_tensor(function(tau), dtype=DOUBLE).expand(13), expected)
    rho = torch.tensor([5.0, 1.0, 0.3], dtype=DOUBLE)
    found = [table.tau_at(float(each)) for each in rho]
    torch.testing.assert_close(table.tau_at(rho), torch.tensor(found, dtype=DOUBLE))


def test_the_linear_schedule_is_ho_et_al_s() -> None:
    betas = linear_betas()
    assert (len(betas), betas[0], betas[-1]) == (1000, 1e-4, 0.02)
    assert betas[1] - betas[0] == pytest.approx((0.02 - 1e-4) / 999, rel=1e-9)


def test_the_cosine_schedule_has_its_alpha_bar() -> None:
    path = ddpm(cosine_betas(1000))
    for index in (1, 250, 500, 900):  # abar after that many betas, below the clip
        wanted = math.cos((index / 1000 + 0.008) / 1.008 * math.pi / 2) / math.cos(
            0.008 / 1.008 * math.pi / 2
        )
        assert path.alpha(1.0 - index / 1000) == pytest.approx(wanted, rel=1e-9)
    assert max(cosine_betas(1000)) == 0.999


@pytest.mark.parametrize(
    "rho",
    [(), (1.0,), (1.0, 1.0), (0.1, 1.0), (1.0, 0.0, 0.0), (1.0, -0.1), (math.inf, 1.0), (1.0, math.nan)],
)
def test_levels_that_do_not_fall_from_noise_to_data_are_refused(rho: tuple[float, ...]) -> None:
    with pytest.raises(InvalidArgument, match="falling strictly"):
        Table(rho)


@pytest.mark.parametrize("betas", [[0.0, 0.1], [0.1, 1.0], [0.1, -0.1], []])
def test_betas_outside_their_range_are_refused(betas: list[float]) -> None:
    with pytest.raises(InvalidArgument):
        ddpm(betas)
