"""The mixture benchmark: its instances, its metric, a run in small, and the committed tables."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from oracle import golden
from torch import Generator

from benchmarks import evidence, mixture
from benchmarks.mixture import Setting, entry, measure, methods_of, summary, table
from benchmarks.mixture_rows import MAIN, REFERENCES, VARIANTS, levels, make_case, sliced_wasserstein
from benchmarks.study import RESULTS
from rtc.serialise import read_json

ROOT = Path(__file__).parents[1]
FILTER_AT_20 = {8: 0.49, 80: 0.86, 800: 1.57}
FILTER_AT_100 = {8: 0.34, 80: 0.64}
"""The authors' particle filter at dy = 4, measured."""


def test_an_instance_is_the_papers() -> None:
    case = make_case(80, 4, 3, 20, "geometric", 10)
    means = case.prior.means
    assert means.shape == (25, 80)
    assert sorted({tuple(mean[:2].tolist()) for mean in means}) == [
        (-8.0 * i, -8.0 * j) for i in range(2, -3, -1) for j in range(2, -3, -1)
    ]
    assert torch.equal(means, means[:, :2].repeat(1, 40))
    assert case.prior.weights.sum().item() == pytest.approx(1.0, abs=1e-6)
    values = case.measurement.operator.svd().values  # pyright: ignore[reportAttributeAccessIssue]
    assert (values > 0.0).sum() == 4
    assert values.max() <= 1.0
    assert 0.0 < float(case.measurement.noise_variance) < values.max() ** 2
    assert case.data_std == pytest.approx(11.0, rel=0.3)


def test_an_instance_is_the_same_for_all_columns() -> None:
    first, second = (make_case(8, 2, 5, *column, 10) for column in ((20, "geometric"), (100, "index")))
    assert torch.equal(first.measurement.y, second.measurement.y)
    other = make_case(8, 2, 6, 20, "geometric", 10)
    assert not torch.equal(first.measurement.y, other.measurement.y)


@pytest.mark.parametrize("calls", [20, 100])
def test_both_grids_walk_the_discrete_prior_from_end_to_end(calls: int) -> None:
    geometric, index = levels("geometric", calls), levels("index", calls)
    assert geometric.rho[0] == pytest.approx(index.rho[0], rel=1e-9)
    assert len(geometric.rho) == len(index.rho) == calls + 1
    assert geometric.rho[-2] == pytest.approx((0.02 / 0.98) ** 0.5, rel=1e-9)
    assert geometric.alpha(0.0) == pytest.approx(0.0064, rel=0.05)


def test_the_distance_of_shifted_samples_is_the_shift() -> None:
    points = torch.randn(500, 3, generator=Generator().manual_seed(0))
    shift = torch.tensor([3.0, -4.0, 0.0])
    value = sliced_wasserstein(points + shift, points, Generator().manual_seed(1), 2000)
    assert value == pytest.approx(5.0 / 2.0, rel=0.04)  # E|u . s| = |s| / 2 on the sphere of 3 dimensions
    assert sliced_wasserstein(points, points, Generator()) == 0.0


def test_a_row_that_breaks_is_said_and_not_averaged() -> None:
    found = summary(
        [
            {"a": {"distance": 1.0, "seconds": 1.0}, "b": {"refused": "no"}},
            {"a": {"distance": None, "seconds": 3.0}, "b": {"refused": "no"}},
        ]
    )
    assert entry(found["a"]) == "1.00±0.00 (1 nan)"
    assert entry(found["b"]) == "(2 refused)"
    assert found["a"]["seconds"] == 2.0
    assert methods_of({"rows": found}) == {}


def test_a_small_run_ranks_oracle_twist_and_prior(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture, "RESULTS", tmp_path)
    diverging = "PiGDM, Euler, data_std 1"
    monkeypatch.setattr(mixture, "ALL", mixture.FEW | {diverging: VARIANTS[diverging]})
    document = measure([Setting(8, 4, 20)], 1, 200, 1)
    assert list(tmp_path.iterdir()) == []  # the work folder is gone
    rows = document["settings"][0]["rows"]
    distance = {name: row["distances"][0] for name, row in rows.items() if row["distances"]}
    assert distance["oracle: a second posterior sample"] < 0.2
    assert distance["TDS, Tweedie twist"] < 0.4
    assert distance["prior"] > 5.0
    assert distance["TDS, Tweedie twist"] < distance["PiGDM"] < distance[diverging]
    refused = {name: row["refused"] for name, row in rows.items() if row["refused"]}
    assert refused == {}
    assert all(f"| {name} |" in table(document["settings"]) for name in rows)


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture, "RESULTS", tmp_path)
    monkeypatch.setattr(mixture, "FEW", {"prior": REFERENCES["prior"]})
    settings = [Setting(8, dy, 20, "index") for dy in (1, 2)]
    whole = measure(settings, 2, 50, 1)
    original, calls = mixture.distances, []

    def breaking(*arguments: Any) -> Any:
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(mixture, "distances", breaking)
    with pytest.raises(KeyboardInterrupt):
        measure(settings, 2, 50, 1)
    calls.clear()
    resumed = measure(settings, 2, 50, 1)
    assert len(calls) == 1
    for first, second in zip(whole["settings"], resumed["settings"], strict=True):
        assert first["rows"]["prior"]["distances"] == second["rows"]["prior"]["distances"]


def test_quick_prints_a_table_and_writes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mixture, "RESULTS", tmp_path)
    monkeypatch.setattr(mixture, "ALL", {"prior": REFERENCES["prior"], "FPS": MAIN["FPS"]})
    result = CliRunner().invoke(mixture.main, ["--quick"])
    assert result.exit_code == 0, result.output
    assert "| FPS |" in result.output
    assert list(tmp_path.iterdir()) == []


def test_the_evidence_benchmark_is_the_golden_problem() -> None:
    case, (prior, a, measurement) = golden("mixture")["isotropic_2d"], evidence.problem()
    assert prior.means.tolist() == case["means"]
    assert prior.weights.tolist() == pytest.approx(case["weights"])
    assert (a.tolist(), measurement.y.tolist()) == (case["A"], case["y"])
    document = evidence.measure(counts=(16,), seeds=2, steps=10)
    assert document["exact"] == pytest.approx(case["log_evidence"], abs=1e-9)
    assert evidence.table(document).count("\n") == 1 + len(evidence.METHODS)
    assert "| FPS | -; " in evidence.table(document)


# --- the committed results


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    return read_json(RESULTS / "mixture.json")


def mean(committed: dict[str, Any], setting: Setting) -> dict[str, float]:
    return methods_of(mixture.column_of(committed, setting))


def test_the_best_method_is_within_the_bar(committed: dict[str, Any]) -> None:
    assert min(mean(committed, Setting(8, 4, 20)).values()) <= 0.30


@pytest.mark.parametrize(
    ("calls", "filters", "grid"), [(20, FILTER_AT_20, "geometric"), (100, FILTER_AT_100, "geometric")]
)
def test_one_method_beats_the_particle_filter_in_every_dimension(
    committed: dict[str, Any], calls: int, filters: dict[int, float], grid: str
) -> None:
    found = {dim: mean(committed, Setting(dim, 4, calls, grid)) for dim in filters}
    winners = [name for name in MAIN if all(found[dim].get(name, math.inf) < filters[dim] for dim in filters)]
    assert "TDS, PiGDM twist" in winners


def test_the_twisted_sampler_finds_the_evidence_within_the_bar() -> None:
    document = read_json(RESULTS / "evidence.json")
    cells = {(cell["method"], cell["particles"]): cell for cell in document["cells"]}
    found = torch.tensor(cells["TDS, Tweedie twist", 512]["log_evidences"])
    assert len(found) == 20
    assert found.mean().item() == pytest.approx(-3.2934, abs=0.03)
    plain = torch.tensor(cells["bootstrap", 512]["log_evidences"])
    assert plain.mean().item() == pytest.approx(-3.2934, abs=0.2)


def test_the_committed_results_make_the_committed_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, committed: dict[str, Any]
) -> None:
    shutil.copy(ROOT / "docs" / "mixture.md", tmp_path)
    page = tmp_path / "mixture.md"
    lines = page.read_text().splitlines(keepends=True)
    page.write_text("".join(line for line in lines if not line.startswith("|")))
    monkeypatch.setattr(mixture, "DOCS", tmp_path)
    mixture.report(committed, read_json(RESULTS / "evidence.json"))
    assert page.read_text() == (ROOT / "docs" / "mixture.md").read_text()
    assert len(committed["commit"].rstrip("+")) == 40
