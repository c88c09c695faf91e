"""`rtc report` from outside: the page and the table, and every folder that it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sweep_folder import DELAYS, TASKS, make_summary, write_sweep

from rtc.cli import main
from rtc.report.winners import winner_table


def call(*words: str) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(main, words, prog_name="rtc")


def refusal(folder: Path) -> str:
    """The one line on stderr; nothing is written."""
    before = sorted(folder.rglob("*"))
    result = call("report", str(folder))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("rtc: error: ")
    assert result.stderr.count("\n") == 1
    assert sorted(folder.rglob("*")) == before
    return result.stderr


def test_the_terminal_shows_the_winners_of_the_page(tmp_path: Path) -> None:
    summary = make_summary()
    result = call("report", str(write_sweep(tmp_path, summary)))
    assert result.exit_code == 0, result.stderr
    page = (tmp_path / "report.html").read_text()
    rows = [line.split() for line in result.stdout.splitlines() if "-v0" in line and "=" in line]
    assert [(row[0], row[1]) for row in rows] == [(task, delay) for task in TASKS for delay in DELAYS]
    for row, contest in zip(rows, winner_table(summary["cells"]).contests, strict=True):
        assert row[2:5] == [
            contest.best.strategy,
            f"s={contest.best.execution_horizon}",
            f"{100 * contest.best.success.value:.0f}",
        ]
        assert ", ".join(contest.tied) in " ".join(row)
        share = contest.oracle_share
        assert share is not None
        assert f"{100 * share.value:.0f}" in row
        assert f"{100 * share.value:.0f} % [" in page
    assert "report.html: " in result.stdout


def test_the_page_does_not_depend_on_when_it_is_written(tmp_path: Path) -> None:
    write_sweep(tmp_path, make_summary())
    call("report", str(tmp_path))
    first = (tmp_path / "report.html").read_bytes()
    call("report", str(tmp_path))
    assert (tmp_path / "report.html").read_bytes() == first


def test_a_summary_that_was_passed_on_alone_is_enough(tmp_path: Path) -> None:
    write_sweep(tmp_path, make_summary())
    (tmp_path / "run.json").unlink()
    assert call("report", str(tmp_path)).exit_code == 0


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    assert "`rtc sweep --out` wrote" in refusal(tmp_path / "nowhere")


def test_a_folder_without_a_sweep_is_refused(tmp_path: Path) -> None:
    assert "has no summary.json; give the folder" in refusal(tmp_path)
    (tmp_path / "results.json").write_text("{}")
    assert "results.json is a run of `rtc rollout`" in refusal(tmp_path)


def test_an_unfinished_sweep_says_which_command_finishes_it(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"settings": {}, "finished": False}))
    words = refusal(tmp_path)
    assert "unfinished sweep; give the `rtc sweep` command that began it once more" in words
    assert f"--out {tmp_path}" in words


def test_a_summary_of_another_format_says_how_to_run_again(tmp_path: Path) -> None:
    words = refusal(write_sweep(tmp_path, make_summary() | {"format": 1}))
    assert "has format 1 and this rtc reads format 2: run the sweep again" in words
    assert "or report it with rtc 0.1.0, which wrote it" in words


def test_a_sweep_without_cells_is_refused(tmp_path: Path) -> None:
    assert "has no cell: no strategy could run" in refusal(
        write_sweep(tmp_path, make_summary() | {"cells": []})
    )


def test_a_summary_cut_short_is_refused(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, make_summary()) / "summary.json"
    path.write_text(path.read_text()[:1000])
    assert "summary.json is no JSON; run the sweep again" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"tasks": None}, "has no 'tasks'"),
        ({"settings": 3}, "has no 'settings'"),
        ({"tasks": {}}, "which 'tasks' does not describe"),
        ({"cells": [{"task": "Catch-v0"}]}, "cell 0 has no valid 'strategy'"),
        ({"cells": [3]}, "cell 0 has no valid 'task'"),
    ],
)
def test_a_summary_that_lacks_something_says_what(tmp_path: Path, broken: dict[str, Any], words: str) -> None:
    assert words in refusal(write_sweep(tmp_path, make_summary() | broken))


def test_cells_that_cannot_be_paired_are_refused(tmp_path: Path) -> None:
    summary = make_summary()
    summary["cells"][3]["outcomes"] = "0110"
    assert "can be paired" in refusal(write_sweep(tmp_path, summary))
