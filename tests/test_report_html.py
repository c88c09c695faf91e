"""What the page of `rtc report` says, without a browser: geometry, words, commands, films."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweep_folder import DELAYS, STRATEGIES, make_cell, make_summary

from rtc.cli.rollout import rollout
from rtc.report.html.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Reading, chart, round_values
from rtc.report.html.command import best_command
from rtc.report.html.delays import explained, in_order, named, short_lines
from rtc.report.html.films import find_films, of_task
from rtc.report.html.histograms import histograms
from rtc.report.html.looks import CONTRAST, DARK_PAGE, contrast, lightened, looks
from rtc.report.html.verdict import answer, make_verdict
from rtc.report.html.words import percent, points
from rtc.report.html.write import render
from rtc.report.statistics import Estimate
from rtc.report.winners import winner_table

ROLLOUT = {parameter.name for parameter in rollout.params if parameter.name}
shares = st.floats(0, 1)


def cell(strategy: str, delay: str, rows: int, success: float = 0.5, **changes: Any) -> dict[str, Any]:
    made = make_cell("Catch-v0", strategy, delay, np.random.default_rng(0), rows=rows)
    wins = round(success * 64)
    rate = {"value": wins / 64, "low": 0.0, "high": 1.0}
    outcomes = "1" * wins + "0" * (64 - wins)
    return made | {"successes": wins, "success": rate, "outcomes": outcomes} | changes


@given(st.dictionaries(st.sampled_from(DELAYS), st.tuples(shares, shares, shares).map(sorted), min_size=1))
def test_a_chart_keeps_values_on_their_scale_and_delays_in_their_columns(
    values: dict[str, list[float]],
) -> None:
    readings = {"naive": {delay: Reading(v, low, high, ()) for delay, (low, v, high) in values.items()}}
    drawn = chart("success", "", "", (), readings, in_order(DELAYS), percent=True)
    assert [column.delay for column in drawn.columns] == list(DELAYS)
    assert drawn.columns[0].left == LEFT
    assert drawn.columns[-1].right == WIDTH - RIGHT
    assert all(one.right == other.left for one, other in pairwise(drawn.columns))
    for mark in drawn.lines[0].marks:
        column = drawn.columns[mark.column]
        assert column.left < mark.x < column.right
        value = (HEIGHT - BOTTOM - mark.y) / (HEIGHT - BOTTOM - TOP)
        assert value == pytest.approx(values[column.delay][1], abs=1e-3)
    assert len(drawn.lines[0].marks) == len(values)


def test_constant_delays_are_a_scale_and_random_ones_are_not() -> None:
    readings = {name: {delay: Reading(0.5, 0.4, 0.6, ()) for delay in DELAYS} for name in ("naive", "oracle")}
    drawn = chart("success", "", "", (), readings, list(DELAYS), percent=True)
    zero, two, four, eight, spiky = drawn.columns
    assert four.x - two.x == pytest.approx(two.x - zero.x, abs=0.2)
    assert eight.x - four.x == pytest.approx(2 * (four.x - two.x), abs=0.2)
    assert drawn.split == spiky.left
    first, second = (line.marks[-1] for line in drawn.lines)
    assert first.x < spiky.x < second.x  # side by side
    assert first.whisker == pytest.approx(second.whisker)
    assert drawn.lines[0].path.count("L") == 3  # the line stops before the random delay


def test_a_missing_value_breaks_the_line() -> None:
    readings = {"naive": {delay: Reading(0.5, 0.4, 0.6, ()) for delay in ("0", "2", "6", "8")}}
    line = chart("jump", "", "", (), readings, ["0", "2", "4", "6", "8"]).lines[0]
    assert (line.path.count("M"), line.path.count("L")) == (2, 2)
    alone = {"naive": {delay: Reading(0.5, 0.4, 0.6, ()) for delay in ("0", "4", "6")}}
    assert chart("jump", "", "", (), alone, ["0", "2", "4", "6"]).lines[0].band.count("M") == 2  # not lost


@given(st.floats(1e-6, 1e6))
def test_axes_end_soon_after_the_largest_value(top: float) -> None:
    values = round_values(top)
    assert values[0] == 0
    assert 3 <= len(values) <= 7
    assert top <= values[-1] * (1 + 1e-6)
    assert values[-2] < top or len(values) == 3
    steps = np.diff(values)
    assert steps == pytest.approx(np.full(len(steps), steps[0]))


def test_strategies_look_different_even_without_colour() -> None:
    found = looks([f"realtime:mask_end={end}" for end in range(6)] + ["naive", "oracle", "auto"])
    assert len({(look.marker, look.dash) for look in found.values()}) == len(found)
    family = [look for label, look in found.items() if label.startswith("realtime")]
    assert len({look.light for look in family}) == 1
    assert len({look.dash for look in family}) == 6
    assert len({look.marker for look in looks([f"s{index}" for index in range(16)]).values()}) == 16
    assert found["naive"].light != found["oracle"].light != family[0].light


def test_dark_colours_are_lightened_only_as_far_as_needed() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert lightened("#E69F00", DARK_PAGE) == "#E69F00"  # stands out as it is
    shade = lightened("#000000", DARK_PAGE)
    page = [int(DARK_PAGE[place : place + 2], 16) for place in (1, 3, 5)]
    grey = int(shade[1:3], 16)
    assert shade == f"#{grey:02X}{grey:02X}{grey:02X}"
    assert contrast([grey] * 3, page) > CONTRAST > contrast([grey - 14] * 3, page)


def test_delays_are_named_ordered_and_explained() -> None:
    assert in_order(["8", "spiky:2:8:0.1", "10", "fair", "8", "2"]) == [
        "2",
        "8",
        "10",
        "spiky:2:8:0.1",
        "fair",
    ]
    assert named("1", 0.02) == "d = 1 tick (20 ms)"
    assert named("4", 0.0125) == "d = 4 ticks (50 ms)"
    assert explained("spiky:2:8:0.1") == "2 ticks, but 8 with a chance of 0.1"
    assert explained("made-up:1") == explained("bursty:1") == ""
    assert short_lines("trace:some/long/recording.txt") == ("trace", "recording.…")


def test_a_share_that_is_not_all_or_nothing_does_not_look_like_it() -> None:
    assert [percent(share) for share in (0, 1 / 512, 0.5, 511 / 512, 1)] == [
        *("0 %", "0.2 %", "50 %", "99.8 %", "100 %")
    ]
    assert points(Estimate(-0.001, -0.12, 0.034)) == "+0 [-12, 3]"


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (
            [("naive", "0", 1), ("naive", "2", 2), ("naive", "8", 8)],
            "--strategies naive --delays 0,2,8 --execution-horizon 'max(d,1)'",
        ),
        ([("naive", "0", 4), ("naive", "2", 4)], "--strategies naive --delays 0,2 --execution-horizon 4"),
        (
            [("naive", "2", 4), ("naive", "8", 8), ("naive", "spiky:2:8:0.1", 3)],
            "--strategies naive --delays 2,8 --execution-horizon 'max(d,4)'",
        ),
        (
            [("realtime:mask_end=3:schedule=exp", "4", 4), ("realtime:mask_end=3:schedule=exp", "0", 8)],
            "--strategies realtime --mask-end 3 --schedule exp --delays 0 --execution-horizon 8",
        ),
    ],
)
def test_the_command_to_copy_is_one_that_rollout_takes(cells: list[tuple], words: str) -> None:
    command = best_command([cell(*one) for one in cells], ROLLOUT)
    assert command == f"rtc rollout --task Catch-v0 {words} --out out/best"
    context = rollout.make_context("rollout", command.replace("'", "").split()[2:])
    assert context.params["delays"] == [int(d) for d in re.findall(r"--delays (\S+)", command)[0].split(",")]


def test_what_rollout_does_not_take_is_a_sweep_to_copy() -> None:
    spiky = [cell("naive", "spiky:2:8:0.1", 3)]
    unknown = [cell("bid:samples=8", "2", 2), cell("bid:samples=8", "4", 4)]
    assert best_command(spiky, ROLLOUT) == (
        "rtc sweep --tasks Catch-v0 --strategies naive --delays spiky:2:8:0.1 --horizons 3 --out out/best"
    )
    assert best_command(unknown, ROLLOUT) == (
        "rtc sweep --tasks Catch-v0 --strategies bid:samples=8 --delays 2,4 --horizons 2,4 --out out/best"
    )


def test_histograms_are_drawn_of_delays_that_vary() -> None:
    fair = [cell("naive", "fair", 2, delays={"2": 3, "4": 1}), cell("realtime", "fair", 4, delays={"5": 9})]
    late = cell("naive", "4", 4, delays={"4": 9, "5": 1})
    drawn, exact = histograms([cell("naive", "2", 2), late, *fair], ["2", "4", "fair"])
    assert exact == ["2"]
    assert [one.title for one in drawn] == ["4", "fair: naive", "fair: realtime"]
    assert drawn[1].bars == [(2, 0.75), (3, 0.0), (4, 0.25)]
    assert "mean 2.5 ticks; 4 inferences" in drawn[1].note


def test_the_verdict_is_that_of_the_winner_table() -> None:
    cells = [
        cell(strategy, delay, 4, success)
        for delay in ("2", "4")
        for strategy, success in (
            ("naive", 0.25),
            ("realtime", 0.75),
            ("conditioned", 0.78125),
            ("oracle", 1.0),
        )
    ]
    verdict = make_verdict(make_summary() | {"cells": cells}, ROLLOUT)
    won = verdict.winners["Catch-v0", "2"]
    assert (won.strategy, won.success, won.tied) == ("conditioned", "78 %", ["realtime"])
    assert won.notes[0].startswith("+53 [")
    assert won.notes[1].startswith("78 % [")
    assert verdict.advices[0].strategy == "conditioned"
    assert [row.strategy for row in verdict.overall] == ["conditioned", "realtime", "naive", "oracle"]
    assert verdict.answer == answer(winner_table(cells), cells)
    assert "conditioned is best or ties with the best in 2 of 2" in verdict.answer
    assert "in 0 of them alone. Over all it succeeds in 78 %, the oracle in 100 %." in verdict.answer


def test_who_left_the_hard_delays_out_is_not_advised() -> None:
    cells = [cell("naive", "0", 1, 0.9), cell("realtime", "0", 1, 0.8), cell("realtime", "8", 8, 0.5)]
    verdict = make_verdict(make_summary() | {"cells": cells}, ROLLOUT)
    assert verdict.advices[0].strategy == "realtime"


def test_the_pictures_show_the_best_horizon_and_the_table_every_one() -> None:
    cells = [cell("naive", "2", rows, success) for rows, success in ((2, 0.5), (4, 0.75), (8, 0.25))]
    page = render(make_summary() | {"cells": cells})
    readout = re.findall(r"<td>(\d+)/64</td><td>(\d+)</td>", page)
    assert readout == [("48", "4")]
    assert sum(f"<td>{rows}</td><td>" in page for rows in (2, 4, 8)) == 3
    assert "which flatters a little" in page


def test_an_oracle_alone_is_nobody_to_compare() -> None:
    page = render(make_summary(strategies=["oracle"]))
    assert "there is nobody to compare" in page


def test_cells_that_were_not_run_are_named_with_the_reason() -> None:
    left_out = [
        {"task": "Catch-v0", "strategy": "naive", "delay": d, "horizon": "4", "reason": "d > s"} for d in "68"
    ]
    page = render(make_summary() | {"left_out": left_out, "warnings": ["2 episodes <refused>"]})
    assert "2 &times; d &gt; s" in page
    assert "strategy naive, delay 8" in page
    assert "2 episodes &lt;refused&gt;" in page


def test_the_largest_study_is_a_small_page() -> None:
    tasks = [f"Task{index}-v0" for index in range(6)]
    options = [f"realtime:mask_end={end}:schedule=linear" for end in range(8)]
    delays = ["0", "2", "4", "6", "8", "bursty:2:8:0.05:0.3"]
    page = render(
        make_summary(tasks, [*options, *STRATEGIES[:2], "conditioned", "oracle"], delays, episodes=512)
    )
    assert len(page.encode()) < 2_000_000


@settings(max_examples=15)
@given(st.sets(st.sampled_from(range(12)), min_size=1))
def test_any_part_of_a_sweep_makes_a_page(kept: set[int]) -> None:
    summary = make_summary(["Catch-v0"], ["naive", "auto", "oracle"], ["fair", "4", "trace:a.txt", "0"])
    cells = [summary["cells"][index] for index in sorted(kept)]
    page = render(summary | {"cells": cells})
    for one in cells:
        assert f"<td>{one['successes']}/{one['episodes']}</td>" in page
    drawn = page.partition('data-chart="success"')[2].partition("</svg>")[0]
    assert len(re.findall(r"<use [^>]*data-column", drawn)) == len(cells)


def test_films_beyond_the_limit_are_linked(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "Peg-v0.json").write_text('{"caption": "Peg, seed 3"}')
    (tmp_path / "videos" / "Catch-v0-b.json").write_text("{")
    for name, size in (("Catch-v0-a.mp4", 60), ("Catch-v0-b.gif", 60), ("Peg-v0.gif", 40), ("notes.txt", 1)):
        (tmp_path / "videos" / name).write_bytes(b"\0" * size)
    films = find_films([tmp_path], tmp_path, limit=100)
    assert [film.name for film in films] == ["Catch-v0-a", "Catch-v0-b", "Peg-v0"]
    assert [film.source is not None for film in films] == [True, False, True]
    assert films[1].link == "videos/Catch-v0-b.gif"
    page = render(make_summary(), films)
    assert "<figcaption>Peg, seed 3</figcaption>" in page
    assert "<figcaption>Catch-v0-b</figcaption>" in page
    assert '<a href="videos/Catch-v0-b.gif">' in page
    assert "holds at most 12 MB of films" in page
    assert "data:video/mp4;base64,AAAA" in page


def test_a_film_belongs_to_the_task_whose_name_it_begins_with() -> None:
    films = [film_named(name) for name in ("Catch-v0-a", "CatchPosition-v0-a", "overview")]
    tasks = ["Catch-v0", "CatchPosition-v0"]
    assert [[film.name for film in of_task(films, task, tasks)] for task in tasks] == [
        ["Catch-v0-a"],
        ["CatchPosition-v0-a"],
    ]


def film_named(name: str) -> Any:
    from rtc.report.html.films import Film

    return Film(name, False, None, "", name)
