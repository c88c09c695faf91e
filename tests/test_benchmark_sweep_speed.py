"""The speed of sweeps: what is measured on a small sweep, and what docs/sweep.md says of it."""

from __future__ import annotations

from functools import partial

import pytest
from point_mass import GaussianPolicy, PointMass

from benchmarks.study import DOCS
from benchmarks.sweep_speed import BATCH, NAME, measure_overhead, measure_workers, tables
from rtc.runtime.latency import ConstantDelay
from rtc.runtime.strategies import make_strategy
from rtc.sweep import Cell


def test_both_measurements_are_of_whole_sweeps_and_the_page_quotes_them() -> None:
    make = partial(make_strategy, "naive", GaussianPolicy())
    cells = [Cell("naive", partial(PointMass, time_limit=12), make, ConstantDelay(2), 3)]
    [overhead] = measure_overhead(cells, rounds=2)
    assert 0 < overhead["best_share"] <= overhead["share"] <= overhead["worst_share"] < 1
    workers = measure_workers(cells, episodes=2 * BATCH, pairs=1)
    assert workers["ratios"] == [workers["ratio"]]
    one, two = (workers[f"steps_per_second_of_{name}"] for name in ("one", "two"))
    assert workers["ratio"] == pytest.approx(two / one)
    page = tables(
        {
            **{"task": "PointMass", "batch": BATCH, "delay": 2, "rows": 3, "rounds": 2},
            **{"overhead": [overhead], "overhead_bar": 0.02, "workers": workers, "workers_bar": 1.8},
            "machine": {"cores": 2},
        }
    )
    assert f"| naive | {overhead['share']:.1%} |" in page
    assert f"make {workers['ratio']:.2f} times" in page
    assert "cores 2" in page


def test_the_page_has_room_for_the_table() -> None:
    text = (DOCS / "sweep.md").read_text()
    assert text.index(f"<!-- {NAME} -->") < text.index(f"<!-- /{NAME} -->")
