"""The digits benchmark, on few digits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.digits import (
    GRID,
    OPERATORS,
    Cell,
    calibration,
    cells,
    decoded,
    encoded,
    measured,
    quick,
    table,
)
from rtc.inverse.methods.table import METHODS


def test_a_subset_runs_and_makes_a_table() -> None:
    document = quick()
    text = table(document, "inpaint-box")
    for row in document["rows"]:
        assert row["method"] in text
        assert len(row["psnr"]) == 4
        assert row["calls"] == 8
        assert row["knobs"] == {} or next(iter(row["knobs"].values())) in GRID[row["method"]][1]
    # the best one stands first
    means = [float(line.split("|")[2].split("±")[0]) for line in text.splitlines()[2:]]
    assert means == sorted(means, reverse=True)


def test_every_method_has_a_row_on_every_operator() -> None:
    listed = {(cell.operator, cell.method) for cell in cells()}
    # `mmps` stands for `tweedie`, which takes a VJP for each value of y; on a flow `pokle-1` is `pokle-3`
    assert listed == {(o, m) for o in OPERATORS for m in METHODS if m not in ("tweedie", "pokle-1")}


def test_a_digit_is_measured_the_same_whichever_others_are() -> None:
    truth, many = measured("inpaint-random", range(12))
    alone, one = measured("inpaint-random", range(5, 6))
    assert torch.equal(truth[5:6], alone)
    assert torch.equal(many.y[5:6], one.y)


def test_draws_of_the_posterior_are_calibrated_and_a_point_estimate_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(50, 1, 28, 28, generator=generator)
    truth, first, second = (mean + 0.3 * torch.randn(mean.shape, generator=generator) for _ in range(3))
    cell = Cell("inpaint-box", "pigdm", images=range(50))
    for again, expected in ((second[:20], 1.0), (first[:20], 0.0)):
        monkeypatch.setattr("benchmarks.digits.restore", lambda *a, again=again, **k: (again, None, 0.0))
        assert calibration(cell, {}, truth, first) == pytest.approx(expected, abs=0.02)


def test_a_picture_survives_the_document() -> None:
    image = torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert np.abs(decoded(encoded(image)) - image[0].numpy()).max() < 1 / 255
