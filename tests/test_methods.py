"""Every method by name: it runs, within its budget, on what it says it can use, and refuses the rest."""

from __future__ import annotations

import pytest
import torch
from oracle import DOUBLE
from torch import Generator

from rtc.errors import InvalidArgument, Unsupported
from rtc.exact import GaussianPrior
from rtc.inverse.counting import CountingPrior
from rtc.inverse.methods.problem import Problem
from rtc.inverse.methods.table import METHODS, abilities, named_method, usable
from rtc.measurement import LinearMeasurement
from rtc.operators import Mask, from_function
from rtc.path import VE, VP
from rtc.prior import Prior

SIZE, STEPS = 8, 40
COV = 0.4 * torch.eye(SIZE, dtype=DOUBLE) + 0.2
PRIOR = GaussianPrior(torch.zeros(SIZE, dtype=DOUBLE), COV)
MASK = Mask(torch.arange(SIZE) % 2)
SQUARES = from_function(lambda x: x[..., :4] ** 2, (SIZE,), linear=False)
PARTICLE_METHODS = {name for name, method in METHODS.items() if method.family == "particles"}


def problem(noise_variance: float = 0.01, prior: Prior = PRIOR, **changes) -> Problem:
    generator = Generator().manual_seed(0)
    truth = PRIOR.sample(1, generator)
    y = MASK.forward(truth) + noise_variance**0.5 * torch.randn(1, SIZE // 2, generator=generator).double()
    given = {
        "prior": prior,
        "measurement": LinearMeasurement(MASK, y, noise_variance),
        "shape": (2, SIZE),
        "num_steps": STEPS,
        "data_std": 0.77,
        "num_particles": 8,
        "generator": generator,
    }
    return Problem(**{**given, **changes})


@pytest.mark.parametrize("name", METHODS)
def test_a_method_restores_within_its_calls_and_leaves_no_graph(name: str) -> None:
    prior, seen = CountingPrior(PRIOR, 1), []
    given = problem(prior=prior, callback=lambda step, tau, x, x1_hat: seen.append(step))
    out = named_method(name, given.measurement)(given)
    assert out.shape == (2, SIZE)
    assert out.dtype == DOUBLE
    assert out.isfinite().all()
    assert not out.requires_grad
    assert seen
    per_image = prior.forwards / 2 / (given.num_particles if name in PARTICLE_METHODS else 1)
    if name == "d-flow":  # a line search decides how many
        assert 0.5 * STEPS <= per_image <= 3 * STEPS
    else:
        assert 0.75 * STEPS <= per_image <= STEPS


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"pokle-3"}))
@pytest.mark.parametrize("path", [VP(), VE(10.0, 0.01)], ids=["vp", "ve"])
def test_a_method_takes_a_prior_of_any_path(name: str, path) -> None:
    given = problem(prior=PRIOR.on(path))
    out = named_method(name, given.measurement)(given)
    assert out.isfinite().all()
    # whatever it is, it is a sample of something like the prior's scale
    assert float(out.abs().max()) < 30.0


def test_algorithm_3_takes_a_flow_on_the_straight_path_only() -> None:
    with pytest.raises(InvalidArgument, match="straight path"):
        METHODS["pokle-3"](problem(prior=PRIOR.on(VP())))


def test_the_data_are_met_as_well_as_the_noise_allows_by_every_method_that_claims_a_posterior() -> None:
    for name in ("pigdm", "tmpd", "mmps", "tweedie", "flower", "ddnm-plus", "tds", "fps"):
        given = problem(num_steps=100, shape=(16, SIZE), num_particles=32)
        out = METHODS[name](given)
        rms = given.measurement.residual(out).square().mean().sqrt() / 0.1
        assert 0.4 < float(rms) < 1.5, name


def test_a_method_that_cannot_use_the_operator_says_what_it_needs_and_which_can() -> None:
    nonlinear = LinearMeasurement(SQUARES, torch.ones(1, 4), 0.01)
    with pytest.raises(Unsupported, match=r"ddrm needs a linear operator and the singular values.*pigdm"):
        named_method("ddrm", nonlinear)
    assert "dps" in usable(nonlinear)
    assert "ddnm" not in usable(nonlinear)
    assert abilities(nonlinear) == {"noise"}


def test_without_noise_the_methods_that_divide_by_it_are_refused_and_the_others_run() -> None:
    given = problem(noise_variance=0.0)
    with pytest.raises(Unsupported, match="tds needs a noise level above 0"):
        named_method("tds", given.measurement)
    for name in usable(given.measurement):
        assert METHODS[name](given).isfinite().all(), name


def test_an_unknown_method_or_knob_is_answered_with_those_that_exist() -> None:
    with pytest.raises(InvalidArgument, match=r"no method 'magic'; choose from pigdm, "):
        named_method("magic", problem().measurement)
    with pytest.raises(InvalidArgument, match=r"no knob 'zeal'; the method has: zeta, misfit, eta"):
        METHODS["dps"](problem(), zeal=1.0)


def test_the_counter_counts_images_and_changes_nothing() -> None:
    plain, counted = problem(), CountingPrior(PRIOR, 1)
    expected = METHODS["pigdm"](plain)
    assert torch.equal(METHODS["pigdm"](problem(prior=counted)), expected)
    assert (counted.forwards, counted.vjps) == (2 * STEPS, 2 * STEPS)
