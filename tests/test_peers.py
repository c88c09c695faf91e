"""The comparison with other packages: that it is fair, and that its page follows from its numbers.

Tests that need deepinv and azula are skipped without them; `make peers` runs them.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from benchmarks import peers
from benchmarks.peer import measure, with_rtc
from benchmarks.peer.problems import GaussianDenoiser, Problem, gaussian, geometric, photograph
from benchmarks.peer.tables import verdict
from rtc.errors import InvalidArgument
from rtc.guidance.likelihood import DPS
from rtc.inverse.spectral import ddrm
from rtc.operators.base import Operator
from rtc.prior import classifier_free, from_gaussian_denoiser
from rtc.serialise import read_json

ROOT = Path(__file__).parents[1]
with_peers = pytest.mark.skipif(
    find_spec("deepinv") is None or find_spec("azula") is None, reason="needs the extra rtc[peers]"
)


def small(name: str, num_calls: int = 20, chains: int = 64) -> Problem:
    return gaussian(name, num_calls=num_calls, chains=chains)


def apart(problem: Problem, package: str, method: str) -> float:
    """How far the package's samples are from ours, drawn with the same noise."""
    ours, theirs = (measure.sample(problem, name, method, 3) for name in ("rtc", package))
    return measure.difference(ours, theirs)


@with_peers
@pytest.mark.parametrize("name", measure.KNOWN)
@pytest.mark.parametrize(
    ("package", "method"),
    [
        ("deepinv", "ddpm"),
        ("deepinv", "ddim"),
        ("deepinv", "pigdm"),
        ("deepinv", "mmps"),
        ("deepinv", "dps, in the score"),
        ("deepinv", "dps annealed"),
        ("deepinv", "score-ald"),
        ("azula", "ddpm"),
        ("azula", "ddim"),
        ("azula", "mmps"),
        ("azula", "tmpd"),
        ("azula", "prox"),
        ("azula", "dps"),
        ("azula", "diffpir, ancestral"),
    ],
)
def test_samples_are_the_peers_own_where_the_method_is_the_same(name: str, package: str, method: str) -> None:
    assert apart(small(name), package, method) < 2e-3


@with_peers
def test_a_wrong_weight_would_show_in_the_samples() -> None:
    problem = small("correlated")
    ours = measure.sample(replace(problem, weight=0.9), "rtc", "dps", 3)
    assert measure.difference(ours, measure.sample(problem, "azula", "dps", 3)) > 0.01


@with_peers
@pytest.mark.parametrize("package", measure.PACKAGES)
def test_every_method_makes_the_same_number_of_network_calls(package: str) -> None:
    problem = small("correlated", num_calls=12, chains=16)
    for method in measure.methods(package, problem):
        row, _ = measure.row(problem, package, method, 0)
        assert problem.num_calls - 2 <= row["calls"] <= problem.num_calls, method


@with_peers
@pytest.mark.parametrize("operator", ["mask", "blur"])
def test_deepinv_s_physics_and_ours_are_the_same_operator_and_ours_takes_theirs(operator: str) -> None:
    from benchmarks.peer import with_deepinv
    from rtc.operators.adapters import from_deepinv

    problem = photograph(operator, size=32)
    theirs, ours = with_deepinv.physics(problem), with_rtc.measurement_of(problem).operator
    adapted = from_deepinv(theirs, problem.event)
    assert isinstance(ours, Operator)
    assert isinstance(adapted, Operator)
    x = torch.rand(2, *problem.event)
    seen = ours.forward(x)
    laid_out = ours.adjoint(seen) if operator == "mask" else seen
    torch.testing.assert_close(theirs.A(x), laid_out, atol=1e-5, rtol=0.0)
    torch.testing.assert_close(adapted.forward(x), laid_out, atol=1e-5, rtol=0.0)
    torch.testing.assert_close(adapted.adjoint(laid_out), ours.adjoint(seen), atol=1e-5, rtol=0.0)


@with_peers
@pytest.mark.parametrize("name", ["scalar", "correlated"])
def test_deepinv_s_ddrm_with_all_of_its_noise_is_ours(name: str) -> None:
    assert apart(small(name), "deepinv", "ddrm, mended") < 1e-4
    assert apart(small(name), "deepinv", "ddrm") > 0.1


@with_peers
def test_deepinv_s_ddrm_has_half_the_variance_where_nothing_is_seen() -> None:
    problem = gaussian("scalar", num_calls=100, chains=4096)
    ours, theirs = (measure.sample(problem, name, "ddrm", 0)[:, 1].var() for name in ("rtc", "deepinv"))
    assert theirs / ours == pytest.approx(0.5, abs=0.04)


@with_peers
def test_below_the_noise_of_a_weak_direction_deepinv_s_ddrm_is_nan_and_ours_refuses() -> None:
    problem = photograph("blur", num_calls=3, chains=1, size=32)
    problem = replace(problem, rho=geometric(0.5, 0.1, 3))
    assert not measure.sample(problem, "deepinv", "ddrm", 0).isfinite().all()
    prior, measurement = with_rtc.prior_of(problem), with_rtc.measurement_of(problem)
    with pytest.raises(InvalidArgument, match="noisier"):
        ddrm(prior, measurement, problem.shape, problem.num_calls)


@with_peers
def test_azula_s_pgdm_takes_a_noisy_measurement_for_exact() -> None:
    problem = gaussian("scalar", num_calls=100, chains=1024)
    assert measure.sample(problem, "azula", "pigdm", 0)[:, 0].var() < 1e-6
    assert measure.sample(problem, "rtc", "pigdm", 0)[:, 0].var() == pytest.approx(0.0826, abs=0.015)


@with_peers
def test_azula_s_dps_as_released_depends_on_the_rest_of_the_batch_and_ours_does_not() -> None:
    from benchmarks.peer import with_azula

    problem = small("correlated", chains=4)
    x = problem.first(0)
    others = torch.cat([x[:1], x[1:] + 3.0])

    def theirs(method: str, x: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)
        return with_azula.METHODS[method](problem).step(x, torch.tensor(0.5), torch.tensor(0.45))[0]

    def ours(x: torch.Tensor) -> torch.Tensor:
        step, generator = DPS(with_rtc.measurement_of(problem)), torch.Generator().manual_seed(0)
        return step(with_rtc.prior_of(problem), x, 0.5, 0.55, generator).x[0]

    assert (theirs("dps of the batch", x) - theirs("dps of the batch", others)).abs().max() > 0.01
    torch.testing.assert_close(theirs("dps", x), theirs("dps", others))
    torch.testing.assert_close(ours(x), ours(others))
    torch.testing.assert_close(ours(x), theirs("dps", x), atol=1e-4, rtol=0.0)


@with_peers
def test_azula_s_guidance_strength_is_our_weight_less_one() -> None:
    from azula.guidance import CFGDenoiser

    from benchmarks.peer import with_azula

    unconditional, conditional = small("correlated"), small("matrix")
    assert isinstance(conditional.network.module, GaussianDenoiser)
    conditional.network.module.mean = conditional.network.module.mean + 1.0
    x, w = torch.randn(5, 8), 1.7

    class Labelled(with_azula.Wrapped):
        def forward(self, x_t, t, label=0, **_):
            self.network = (unconditional, conditional)[label].network
            return super().forward(x_t, t)

    t = torch.tensor(0.5)
    theirs = CFGDenoiser(Labelled(unconditional))(x, t, {"label": 1}, {"label": 0}, guidance=w).mean
    priors = [from_gaussian_denoiser(p.network, unconditional.path) for p in (unconditional, conditional)]
    ours = classifier_free(priors[0], priors[1], w + 1.0).denoise(x, 0.5)
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)


def test_exact_samples_have_the_error_of_the_floor_and_wrong_ones_more() -> None:
    problem = small("correlated", chains=4096)
    assert problem.posterior is not None
    mean, covariance = (tensor.double() for tensor in problem.posterior)
    root = torch.linalg.cholesky(covariance)
    draw = mean + torch.randn(4096, 8, dtype=torch.float64) @ root.T
    floor = measure.floor(problem)
    assert measure.known_error(draw, mean, covariance)["error"] < 1.3 * floor
    assert measure.known_error(draw + 0.2, mean, covariance)["mean_error"] > 5.0 * floor
    wide = measure.known_error(mean + 1.5 * (draw - mean), mean, covariance)
    assert wide["error"] == pytest.approx(0.5, abs=0.03)  # the standard deviations are off by half
    assert wide["covariance_error"] == pytest.approx(1.25, abs=0.1)


def test_the_posterior_of_a_problem_is_bayes() -> None:
    problem = small("matrix")
    assert problem.posterior is not None
    assert problem.prior is not None
    mean, covariance = (tensor.double() for tensor in problem.prior)
    rows = problem.array.double()
    precision = torch.linalg.inv(covariance) + rows.T @ rows / problem.sigma_y**2
    information = torch.linalg.inv(covariance) @ mean + rows.T @ problem.y[0].double() / problem.sigma_y**2
    torch.testing.assert_close(
        problem.posterior[1].double(), torch.linalg.inv(precision), atol=1e-5, rtol=0.0
    )
    torch.testing.assert_close(
        problem.posterior[0].double(), torch.linalg.solve(precision, information), atol=1e-4, rtol=0.0
    )


def test_our_side_needs_no_peer_and_counts_its_calls() -> None:
    problem = small("correlated", num_calls=9, chains=8)
    row, samples = measure.row(problem, "rtc", "mmps", 0)
    assert (row["calls"], row["vjps"]) == (9, 36)
    assert samples.shape == problem.shape


def test_a_verdict_says_where_ours_is_worse() -> None:
    def row(error: float, finite: bool = True) -> dict[str, object]:
        return {"error": error, "floor": 0.02, "finite": finite}

    assert verdict({"rtc": row(0.3), "azula": row(0.29)}, "error") == ""
    assert verdict({"rtc": row(0.3), "azula": row(0.29), "deepinv": row(0.2)}, "error") == "**worse**"
    assert verdict({"rtc": row(0.3), "deepinv": row(0.1, finite=False)}, "error") == ""
    assert verdict({"deepinv": row(0.1)}, "error") == "no pair"


def test_the_committed_results_make_the_committed_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed = (ROOT / "docs" / "peers.md").read_text()
    emptied = re.sub(r"(<!-- (\w+) -->\n).*?(<!-- /\2 -->)", r"\1\3", committed, flags=re.DOTALL)
    assert len(emptied) < 0.7 * len(committed)
    (tmp_path / "peers.md").write_text(emptied)
    monkeypatch.setattr(peers, "DOCS", tmp_path)
    peers.report(read_json(peers.OUT))
    assert (tmp_path / "peers.md").read_text() == committed
