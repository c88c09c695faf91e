"""Statistics against closed forms, words against the data, pictures by reading them back."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from rtc.errors import InvalidArgument
from rtc.report.film import Film, first_difference
from rtc.report.plot import plot_success
from rtc.report.statistics import paired_difference, success_rate, summarise
from rtc.report.table import closing_line, refusals, result_table
from rtc.report.video import CAPTION, FOOT, page, panel, write_strip, write_video
from rtc.runtime.latency import ConstantDelay


def record(seed: int = 0, success: bool = True, **changes: object) -> dict:
    return {
        "seed": seed,
        "success": success,
        "failure": None if success else "collision",
        "ticks": 50,
        "time_to_success": 1.0 if success else None,
        "total_reward": 0.0,
        "starved_ticks": 0,
        "boundary_jumps": [0.1, 0.3],
        "prefix_errors": [0.2],
        "rms_jerk": 100.0,
        "delays": [2, 2],
        "network_calls": 15,
        "vjps": 10,
    } | changes


def solved_by_hand(successes: int, episodes: int) -> tuple[float, float]:
    """Wilson's interval: the p at which |successes/episodes - p| is z standard deviations."""
    z, share = 1.959963984540054, successes / episodes
    middle = (share + z**2 / (2 * episodes)) / (1 + z**2 / episodes)
    half = z / (1 + z**2 / episodes) * np.sqrt(share * (1 - share) / episodes + z**2 / (4 * episodes**2))
    return middle - half, middle + half


@pytest.mark.parametrize(("successes", "episodes"), [(0, 8), (8, 10), (32, 32), (301, 512)])
def test_success_rates_carry_wilsons_interval(successes: int, episodes: int) -> None:
    rate = success_rate(successes, episodes)
    assert rate.value == successes / episodes
    assert (rate.low, rate.high) == pytest.approx(solved_by_hand(successes, episodes), abs=1e-9)


def test_the_paired_interval_is_the_normal_one_for_many_pairs() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.random((2, 2000)) < np.array([[0.8], [0.5]])
    difference = first.astype(float) - second
    estimate = paired_difference(first.tolist(), second.tolist())
    half = 1.96 * difference.std() / np.sqrt(2000)
    assert estimate.value == pytest.approx(difference.mean())
    assert (estimate.low, estimate.high) == pytest.approx(
        (difference.mean() - half, difference.mean() + half), abs=0.1 * half
    )


def test_pairs_that_agree_leave_no_doubt() -> None:
    outcomes = [True, False] * 20
    assert paired_difference(outcomes, outcomes) == (0, 0, 0)
    shuffled = outcomes[1:] + outcomes[:1]  # the same rates, other pairs
    assert paired_difference(outcomes, shuffled).high > 0.2


def test_the_paired_interval_is_reproducible() -> None:
    first, second = (np.random.default_rng(1).random((2, 40)) < 0.5).tolist()
    assert paired_difference(first, second) == paired_difference(first, second)


def test_a_summary_averages_over_what_has_a_value() -> None:
    episodes = [
        record(),
        record(1, time_to_success=2.0, boundary_jumps=[0.2], starved_ticks=4),
        record(2, success=False, boundary_jumps=[], rms_jerk=None),
    ]
    summary = summarise("naive", 2, 4, episodes)
    assert (summary.episodes, summary.successes, summary.failures) == (3, 2, {"collision": 1})
    assert summary.time_to_success == 1.5
    assert summary.prefix_error == pytest.approx(0.2)
    assert summary.boundary_jump == pytest.approx(0.2)  # the median of 0.1, 0.2, 0.3
    assert summary.rms_jerk == 100.0
    assert summary.starved_ticks == pytest.approx(4 / 3)
    with pytest.raises(InvalidArgument, match="at least 1"):
        summarise("naive", 2, 4, [])


def test_a_cell_without_success_has_a_dash_for_its_time() -> None:
    summary = summarise("naive", 2, 4, [record(success=False)])
    console = Console(width=80, record=True)
    console.print(result_table([summary], 20.0))
    row = next(line for line in console.export_text().splitlines() if line.startswith(" naive"))
    assert row.split() == ["naive", "2", "(40)", "4", "0", "[0,", "79]", "-", "0.20", "100", "0.0", "15+10"]


def outcomes(**successes: tuple[int, int]) -> dict[tuple[str, int], list[bool]]:
    """Of 100 episodes, how many succeed at a delay of 0 and of 4."""
    return {
        (strategy, delay): [index < count for index in range(100)]
        for strategy, counts in successes.items()
        for delay, count in zip((0, 4), counts, strict=True)
    }


def test_the_closing_line_says_what_was_lost_and_won_back() -> None:
    line = closing_line(outcomes(synchronous=(90, 10), naive=(90, 50), realtime=(90, 80)), 16, 20.0)
    assert line.startswith("At d = 4 ticks (80 ms) naive loses 40 points [")
    assert "realtime wins back 30 points [" in line
    assert "75 % of that" in line
    assert "synchronous is worse by 40 points [" in line


def test_the_closing_line_claims_nothing_that_the_data_do_not_show() -> None:
    line = closing_line(outcomes(naive=(90, 89), realtime=(90, 70)), 16, 20.0)
    assert "naive loses nothing that shows" in line
    assert "realtime is worse by 19 points" in line
    assert "wins" not in line
    assert "naive gains 20 points" in closing_line(outcomes(naive=(60, 80)), 16, 20.0)


def test_the_closing_line_looks_nearest_a_quarter_of_the_chunk() -> None:
    three = outcomes(naive=(90, 50)) | {("naive", 12): [False] * 100}
    assert closing_line(three, 16, 20.0).startswith("At d = 4")
    assert closing_line(three, 48, 20.0).startswith("At d = 12")
    assert "naive succeeds in 90 %" in closing_line({("naive", 0): three["naive", 0]}, 16, 20.0)


def test_refused_chunks_are_counted_by_strategy_with_their_step() -> None:
    reason = "realtime: chunk requested at tick 3 is not finite from flow step 2 on"
    records = {("naive", 2): [record()], ("realtime", 2): [record(), record(7, False, failure=reason)]}
    [line] = refusals(records)
    assert "1 of 2 episodes of realtime at d = 2" in line
    assert "seed 7" in line
    assert "flow step 2" in line


def test_the_plot_is_written_whole(tmp_path: Path) -> None:
    summaries = [
        summarise(strategy, delay, 4, [record(success=seed > delay) for seed in range(9)])
        for strategy in ("naive", "realtime", "another")
        for delay in (0, 4)
    ]
    plot_success(summaries, tmp_path / "plot.png", tick_milliseconds=20.0, horizon=16, title="Task-v0")
    assert Image.open(tmp_path / "plot.png").size == (1440, 880)
    assert [path.name for path in tmp_path.iterdir()] == ["plot.png"]


def grey_film(strategy: str, count: int, success: bool, width: int = 96) -> Film:
    """Frame k is a flat grey of 10 k."""
    frames = [np.full((64, width, 3), 10 * index, np.uint8) for index in range(count)]
    return Film(strategy, ConstantDelay(4), 0.02, record(success=success), frames)


def test_a_finished_episode_freezes_and_says_how_it_ended() -> None:
    film = grey_film("naive", 4, success=False, width=240)
    assert panel(film, 2)[CAPTION:].max() == 20
    assert np.array_equal(panel(film, 3), panel(film, 9))
    assert film.outcome == "collision"
    early, late = panel(film, 2)[36:CAPTION, 120:], panel(film, 3)[36:CAPTION, 120:]
    assert early.min() == 255  # nothing there yet
    assert late.min() < 255


def test_the_video_shows_all_side_by_side_at_half_speed(tmp_path: Path) -> None:
    films = [grey_film("naive", 4, success=False), grey_film("realtime", 10, success=True)]
    write_video(films, tmp_path / "video.mp4")
    reader: Any = imageio.get_reader(tmp_path / "video.mp4")
    with closing(reader):
        assert reader.get_meta_data()["fps"] == 25  # 50 Hz control
        frames = [np.asarray(frame) for frame in reader]
    assert frames[0].shape == (64 + CAPTION, 2 * 96, 3)
    assert len(frames) == 10 + round(1.5 * 25)
    left, right = frames[8][CAPTION + 32, 48, 0], frames[8][CAPTION + 32, 144, 0]
    assert (left, right) == (pytest.approx(30, abs=6), pytest.approx(80, abs=6))


@pytest.mark.parametrize("success", [True, False])
def test_the_strip_reaches_to_the_first_success_or_the_longest_failure(tmp_path: Path, success: bool) -> None:
    films = [grey_film("naive", 4, success=False), grey_film("realtime", 11, success=success)]
    if success:  # a slower one does not stretch the strip
        films.append(grey_film("synchronous", 20, success=False))
    write_strip(films, tmp_path / "frames.png", moments=5, width=96)
    strip = np.asarray(Image.open(tmp_path / "frames.png"))
    columns = [132 + 100 * moment + 48 for moment in range(5)]
    row = 28 + 68 + 10  # near the top of the second film
    assert [int(strip[row, column, 0]) for column in columns[:4]] == [20, 40, 60, 80]
    assert strip[row, columns[4], 0] > 100  # over: paler than its 100


def test_more_films_than_columns_go_on_below_over_a_legend_and_a_note() -> None:
    films = [grey_film(name, 3, success=True) for name in ("naive", "realtime", "oracle")]
    picture = page(films, 2, 2, "")
    assert picture.shape == (2 * (64 + CAPTION), 2 * 96, 3)
    assert (picture[64 + CAPTION :, 96:] == 255).all()  # no fourth film
    assert picture[2 * 64 + CAPTION, 48, 0] == 20
    films[0] = replace(films[0], legend={"frozen": "#FF8C0D"})
    foot = page(films, 2, 2, "seed 3")[2 * (64 + CAPTION) :]
    assert foot.shape == (FOOT, 2 * 96, 3)
    assert (foot == (255, 140, 13)).all(-1).sum() > 50
    assert not np.array_equal(foot, page(films, 2, 2, "seed 4")[2 * (64 + CAPTION) :])


def test_a_long_label_leaves_room_for_the_time() -> None:
    short, long = (grey_film(name, 3, False, 320) for name in ("naive", "realtime:schedule=exp:max_weight=5"))
    assert np.array_equal(panel(short, 0)[:36, -80:], panel(long, 0)[:36, -80:])


def test_a_video_is_as_coarse_as_its_limit_asks(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    noise = [random.integers(0, 256, (64, 96, 3), np.uint8) for _ in range(8)]
    film = replace(grey_film("naive", 8, success=False), frames=noise)
    write_video([film], tmp_path / "fine.mp4")
    fine = (tmp_path / "fine.mp4").stat().st_size
    write_video([film], tmp_path / "coarse.mp4", limit=fine // 2)
    assert (tmp_path / "coarse.mp4").stat().st_size <= fine // 2
    write_video([film], tmp_path / "same.mp4", limit=fine)
    assert (tmp_path / "same.mp4").stat().st_size == fine
    write_video([film], tmp_path / "coarsest.mp4", limit=1)  # there is one all the same
    assert (tmp_path / "coarsest.mp4").stat().st_size < fine


def test_the_first_difference_is_the_first_seed_on_which_not_all_end_alike() -> None:
    marks = ([True, False, True, False], [True, False, False, True], [True, False, True, True])
    assert first_difference(marks) == 2
    assert first_difference([marks[0], marks[0]]) is None
    assert first_difference([marks[0]]) is None


def test_a_video_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="at least 1"):
        write_video([], tmp_path / "none.mp4")
