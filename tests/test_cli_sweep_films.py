"""`rtc sweep --videos` on the real task with an untrained policy, and the rule of what is filmed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import pyarrow.parquet
import pytest
from click.testing import Result
from test_cli import ROOT, TASK, call, one_line, save_policy
from test_render import need_backend

from rtc.cli.sweep_films import BY_RULE, LIMIT, choose, choose_seed
from rtc.report.html.films import caption_of
from rtc.serialise import read_json, write_json

FILMED = [("seed", "=", 1), ("delay", "=", "2")]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_policy(tmp_path_factory.mktemp("policy"))


def arguments(checkpoint: Path, out: Path, *more: str) -> list[str]:
    return [
        *("sweep", "--tasks", TASK, "--policy", f"{TASK}={checkpoint}", "--out", str(out), "--seed", "1"),
        *("--strategies", "synchronous,naive,warm", "--delays", "0,2", "--episodes", "2", "--batch", "1"),
        *("--workers", "1", *more),
    ]


@pytest.fixture(scope="module")
def filmed(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    need_backend()
    out = tmp_path_factory.mktemp("run") / "out"
    return out, call(*arguments(checkpoint, out, "--videos"))


def test_a_sweep_films_every_task_with_what_is_in_it(filmed: tuple[Path, Result]) -> None:
    out, result = filmed
    assert result.exit_code == 0, result.output
    film = out / "videos" / f"{TASK}.mp4"
    assert sorted((out / "videos").iterdir()) == [film.with_suffix(".json"), film]
    assert 10_000 < film.stat().st_size < LIMIT
    frames = [np.asarray(frame) for frame in imageio.get_reader(film)]  # type: ignore[arg-type]
    height, width, _ = frames[0].shape
    assert width == 2 * 320
    assert height > 2 * 256  # three films in two rows
    ticks = max(pyarrow.parquet.read_table(out / "episodes.parquet", filters=FILMED)["ticks"].to_pylist())
    assert len(frames) == ticks + 1 + round(1.5 * 25)  # all of the longest, and its end held
    assert caption_of(film) in result.stderr
    assert caption_of(film).startswith(
        f"{TASK} at d = 2: naive (s = 2), synchronous (s = 2), warm (s = 2); seed 1, "
    )


def test_only_a_film_that_is_missing_is_made(
    filmed: tuple[Path, Result], checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(filmed[0], out)
    film = out / "videos" / f"{TASK}.mp4"
    before = film.stat().st_mtime_ns
    run = read_json(out / "run.json")
    write_json(out / "run.json", run | {"finished": False})  # killed after its film, before its end
    assert call(*arguments(checkpoint, out, "--videos")).exit_code == 0
    assert film.stat().st_mtime_ns == before
    assert call(*arguments(checkpoint, out, "--videos")).exit_code == 0  # finished: there is nothing to do
    assert film.stat().st_mtime_ns == before
    summary = (out / "summary.json").read_bytes()
    other = call(*arguments(checkpoint, out, "--videos", "naive"))
    assert other.exit_code == 0, other.output
    assert film.stat().st_mtime_ns != before
    assert [cell["strategy"] for cell in read_json(film.with_suffix(".json"))["cells"]] == ["naive"]
    assert (out / "summary.json").read_bytes() == summary
    assert "--force" in one_line(call(*arguments(checkpoint, out)))


def test_without_a_rendering_backend_there_is_a_warning_and_no_film(checkpoint: Path, tmp_path: Path) -> None:
    words = arguments(checkpoint, tmp_path / "out", "--strategies", "naive", "--videos")
    result = subprocess.run(
        [sys.executable, "-m", "rtc.cli", *words, "--json"],
        cwd=ROOT,
        env=os.environ | {"MUJOCO_GL": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith(f"rtc: no film of {TASK}: RenderUnavailable: ")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out" / "videos").exists()
    assert read_json(tmp_path / "out" / "run.json")["finished"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("naive,auto", ["--videos auto", "synchronous, naive, warm"]),
        ("naive,", ["empty entry"]),
    ],
)
def test_films_of_what_is_not_there_are_refused(
    checkpoint: Path, tmp_path: Path, asked: str, expected: list[str]
) -> None:
    line = one_line(call(*arguments(checkpoint, tmp_path / "out", "--videos", asked)))
    for text in expected:
        assert text in line
    assert not (tmp_path / "out").exists()


def test_a_film_has_room_for_four(checkpoint: Path, tmp_path: Path) -> None:
    five = "synchronous,naive,warm,blend,seam"
    words = ("--strategies", five, "--videos", five)
    assert "5 strategies" in one_line(call(*arguments(checkpoint, tmp_path / "out", *words)))


def cell(strategy: str, delay: str, mean: float, outcomes: str, rows: int = 4) -> dict[str, Any]:
    return {
        **{"task": TASK, "strategy": strategy, "delay": delay, "mean_delay": mean},
        **{"execution_horizon": rows, "outcomes": outcomes, "successes": outcomes.count("1")},
    }


CELLS = [
    *(cell(name, "0", 0.0, "1111") for name in ("auto", "naive", "warm", "blend", "oracle")),
    *(cell(name, "spiky:2:8:0.1", 2.6, "1111") for name in ("auto", "naive", "warm", "blend", "oracle")),
    cell("auto", "4", 4.0, "0010"),
    cell("naive", "4", 4.0, "0010"),
    cell("naive", "4", 4.0, "0011", 8),
    cell("warm", "4", 4.0, "0111"),
    cell("blend", "4", 4.0, "0110"),
    cell("oracle:expected=median", "4", 4.0, "0111"),
]


def test_the_rule_takes_naive_the_two_best_others_and_the_oracle_near_a_quarter_of_a_chunk() -> None:
    chosen = choose(CELLS, [BY_RULE], 16)
    assert [each["strategy"] for each in chosen] == ["naive", "warm", "blend", "oracle:expected=median"]
    assert {each["delay"] for each in chosen} == {"4"}
    assert chosen[0]["execution_horizon"] == 8
    assert choose_seed(chosen, range(10, 14)) == (
        11,
        "seed 11, the first of 4 on which they end differently",
    )


def test_what_was_asked_for_comes_in_the_order_of_the_asking() -> None:
    chosen = choose(CELLS, ["oracle:expected=median", "warm", "realtime"], 16)
    assert [each["strategy"] for each in chosen] == ["oracle:expected=median", "warm"]
    assert choose_seed(chosen, range(10, 14)) == (10, "seed 10, the first: all end alike on all 4")
    assert choose(CELLS, ["realtime"], 16) == []


def test_of_equally_good_ones_the_first_is_taken_and_who_is_missing_is_left_out() -> None:
    few = [cell("auto", "4", 4.0, "01"), cell("warm", "4", 4.0, "10"), cell("blend", "4", 4.0, "11")]
    assert [each["strategy"] for each in choose(few, [BY_RULE], 16)] == ["blend", "auto"]
