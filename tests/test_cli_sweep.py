"""`rtc sweep` from outside, on the real task with an untrained policy: results, refusals, interruption."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow.parquet
import pytest
from click.testing import Result
from test_cli import ROOT, TASK, call, one_line, save_policy, wait_for

from rtc.cli.sweep_output import COLUMNS
from rtc.report.sweep_summary import FORMAT
from rtc.serialise import read_json, write_json

STRATEGIES = "synchronous,naive,realtime:schedule=exp:max_weight=steps,conditioned,oracle"
DELAYS = "0,3,9,spiky:1:6:0.5"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Told of at most 2 committed actions."""
    return save_policy(tmp_path_factory.mktemp("policy"), max_delay=2)


def arguments(checkpoint: Path, out: Path, *more: str) -> list[str]:
    return [
        *("sweep", "--tasks", f"rtc/{TASK}", "--policy", f"{TASK}={checkpoint}", "--out", str(out)),
        *("--strategies", STRATEGIES, "--delays", DELAYS, "--horizons", "max(d,1),H/4", "--seed", "1"),
        *("--episodes", "3", "--batch", "2", "--workers", "1", *more),
    ]


def timeless(out: Path) -> dict[str, Any]:
    """summary.json without what may differ between two runs that agree."""
    document = read_json(out / "summary.json")
    asked = {name: document["settings"].pop(name) for name in ("batch", "workers", "ray")}
    assert all(name in document for name in ("seconds", "timing", "commit"))
    assert asked["batch"] >= 1
    return {name: value for name, value in document.items() if name not in ("seconds", "timing", "commit")}


def rows(out: Path) -> list[dict[str, Any]]:
    return pyarrow.parquet.read_table(out / "episodes.parquet").to_pylist()


@pytest.fixture(scope="module")
def finished(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The run that the tests below look at."""
    out = tmp_path_factory.mktemp("run") / "out"
    return out, call(*arguments(checkpoint, out))


def test_a_sweep_writes_its_results_and_prints_a_table_a_task(finished: tuple[Path, Result]) -> None:
    out, result = finished
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == {"run.json", "summary.json", "episodes.parquet"}
    assert f"{TASK}, 3 episodes a cell" in result.stdout
    assert "spiky:1:6:0.5 (" in result.stdout
    assert " realtime:schedule=exp:max_weight=steps " in result.stdout  # not cut off


def test_the_summary_says_what_was_asked_and_what_made_it(finished: tuple[Path, Result]) -> None:
    document = read_json(finished[0] / "summary.json")
    assert document["format"] == FORMAT
    assert document["seeds"] == [1, 3]
    assert document["settings"]["strategies"] == STRATEGIES.split(",")
    assert document["settings"]["delays"] == DELAYS.split(",")
    assert {"torch", "mujoco"} <= document["versions"].keys()
    task = document["tasks"][TASK]
    assert (task["horizon"], task["tick_seconds"]) == (16, 0.02)
    assert all(task[name] for name in ("title", "summary", "why"))


def test_the_cells_are_all_legal_ones_in_order_and_each_once(finished: tuple[Path, Result]) -> None:
    document = read_json(finished[0] / "summary.json")
    found = [(cell["strategy"], cell["delay"], cell["execution_horizon"]) for cell in document["cells"]]
    both = {"0": [1, 4], "3": [3, 4], "spiky:1:6:0.5": [1, 4]}
    expected = []
    for strategy in STRATEGIES.split(","):
        for delay in DELAYS.split(","):
            legal = both.get(delay, [9, 4] if strategy == "synchronous" else [])
            legal = [] if (strategy, delay) == ("conditioned", "3") else legal
            expected += [(strategy, delay, rows) for rows in legal]
    assert found == expected


def test_what_is_left_out_is_said_with_the_reason(finished: tuple[Path, Result]) -> None:
    out, result = finished
    reasons = {
        (each["strategy"], each["delay"], each["horizon"]): each["reason"]
        for each in read_json(out / "summary.json")["left_out"]
    }
    assert "trained on at most 2" in reasons["conditioned", "3", "H/4"]
    assert "s = 4 is below d = 9" in reasons["naive", "9", "H/4"]
    assert "d <= s <= H - d" in reasons["oracle", "9", "max(d,1)"]
    assert not any(strategy == "synchronous" for strategy, _, _ in reasons)
    lines = [line for line in result.stderr.splitlines() if line.startswith("rtc: left out: ")]
    assert len(lines) == len(set(reasons.values()))


def test_the_episodes_say_the_same_as_the_summary(finished: tuple[Path, Result]) -> None:
    episodes = rows(finished[0])
    assert list(episodes[0]) == list(COLUMNS)
    for cell in read_json(finished[0] / "summary.json")["cells"]:
        key = ("task", "strategy", "delay", "execution_horizon")
        mine = [row for row in episodes if all(row[name] == cell[name] for name in key)]
        assert [row["seed"] for row in mine] == [1, 2, 3]
        assert [row["success"] for row in mine] == [mark == "1" for mark in cell["outcomes"]]
        assert Counter(row["failure"] for row in mine if row["failure"]) == cell["failures"]
        assert fmean(row["network_calls"] for row in mine) == cell["network_calls"]
        counted = {int(delay): count for delay, count in cell["delays"].items()}
        assert set(counted) <= ({1, 6} if cell["delay"].startswith("spiky") else {int(cell["delay"])})
        if not counted:  # the episodes end before a second chunk arrives
            continue
        mean = sum(delay * count for delay, count in counted.items()) / sum(counted.values())
        assert cell["mean_delay"] == pytest.approx(mean)


def test_numbers_depend_on_neither_workers_nor_batch(
    finished: tuple[Path, Result], checkpoint: Path, tmp_path: Path
) -> None:
    again = call(*arguments(checkpoint, tmp_path / "out", "--workers", "2", "--batch", "3"))
    assert again.exit_code == 0, again.output
    assert timeless(tmp_path / "out") == timeless(finished[0])
    assert rows(tmp_path / "out") == rows(finished[0])


def test_a_sweep_that_was_killed_goes_on_where_it_was(
    finished: tuple[Path, Result], checkpoint: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "rtc.cli", *arguments(checkpoint, tmp_path / "out", "--workers", "2")]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ, start_new_session=True)
    wait_for(tmp_path / "out" / "cells", 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = len(list((tmp_path / "out" / "cells").glob("[!.]*.json")))
    assert kept >= 2
    assert not (tmp_path / "out" / "summary.json").exists()
    before = {path: path.read_bytes() for path in tmp_path.rglob("[!.]*.json")}
    other = call(*arguments(checkpoint, tmp_path / "out", "--seed", "2"))
    assert "seed: 1 then, 2 now" in one_line(other)
    other = call(*arguments(save_policy(tmp_path / "new", max_delay=2, history=2), tmp_path / "out"))
    assert "policy_sha256" in one_line(other)
    assert "--force" in other.stderr
    assert all(path.read_bytes() == data for path, data in before.items())
    again = call(*arguments(checkpoint, tmp_path / "out"))
    assert again.exit_code == 0, again.output
    assert read_json(tmp_path / "out" / "summary.json")["timing"]["shards_resumed"] == kept
    assert timeless(tmp_path / "out") == timeless(finished[0])


def test_results_of_another_format_are_not_mixed(
    finished: tuple[Path, Result], checkpoint: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished[0], tmp_path / "out")
    assert "--force" in one_line(call(*arguments(checkpoint, tmp_path / "out")))
    run = read_json(tmp_path / "out" / "run.json")
    run["settings"]["format"], run["finished"] = FORMAT - 1, False
    write_json(tmp_path / "out" / "run.json", run)
    line = one_line(call(*arguments(checkpoint, tmp_path / "out")))
    assert f"format: {FORMAT - 1} then, {FORMAT} now" in line
    assert "--force" in line


FEW = ("--strategies", "naive,oracle", "--delays", "fair", "--episodes", "1")


def test_a_fair_delay_is_the_first_tick_at_which_inference_is_done(checkpoint: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "ms.json", {"naive": 20.1, "realtime": 20})
    table = ("--latencies", str(tmp_path / "ms.json"))
    words = (*FEW, "--strategies", "naive,realtime,oracle", *table, "--json")
    result = call(*arguments(checkpoint, tmp_path / "out", *words))
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document == read_json(tmp_path / "out" / "summary.json")
    assert {(cell["strategy"], cell["delay"], *cell["delays"]) for cell in document["cells"]} == {
        ("naive", "fair", "2"),
        ("realtime", "fair", "1"),
    }
    assert {each["strategy"] for each in document["left_out"]} == {"oracle"}
    line = one_line(
        call(*arguments(checkpoint, tmp_path / "other", *FEW, *table, "--strategies", "ensemble"))
    )
    assert "no latency of ensemble" in line


def test_a_measured_latency_is_reported_and_kept_when_the_sweep_goes_on(
    checkpoint: Path, tmp_path: Path
) -> None:
    result = call(*arguments(checkpoint, tmp_path / "out", *FEW))
    assert result.exit_code == 0, result.output
    [[label, milliseconds]] = read_json(tmp_path / "out" / "summary.json")["settings"]["latencies"][
        TASK
    ].items()
    assert label == "naive"
    assert 0 < milliseconds < 10_000
    assert f"{TASK}: milliseconds of an inference: naive {milliseconds:.1f}" in result.stderr
    run = read_json(tmp_path / "out" / "run.json")
    run["settings"]["latencies"][TASK]["naive"], run["finished"] = 50.0, False
    write_json(tmp_path / "out" / "run.json", run)
    assert call(*arguments(checkpoint, tmp_path / "out", *FEW)).exit_code == 0
    [cell, *_] = read_json(tmp_path / "out" / "summary.json")["cells"]
    assert list(cell["delays"]) == ["3"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--tasks", "Reach-v7"], [TASK]),
        (["--tasks", f"{TASK},"], ["empty entry"]),
        (["--tasks", "Conveyor-v0"], ["--policy for ReachPastPost-v0", "Conveyor-v0"]),
        (["--policy", "somewhere"], ["TASK=FOLDER"]),
        (["--policy", f"{TASK}=/nowhere"], ["/nowhere", "rtc train"]),
        (["--strategies", "naive,psychic"], ["psychic", "synchronous, naive", "oracle"]),
        (["--strategies", "naive:schedule=exp"], ["'schedule=exp' is no option", "num_steps"]),
        (["--strategies", "realtime:schedule"], ["'schedule' is no option", "max_weight=..."]),
        (["--strategies", "realtime:schedule=steep"], ["steep", "exp, linear"]),
        (["--strategies", "realtime:num_steps=few"], ["num_steps=few", "a whole number"]),
        (["--strategies", "realtime:num_steps=2:num_steps=3"], ["num_steps twice"]),
        (["--strategies", "realtime:mask_end=17"], ["0..16"]),
        (["--strategies", "oracle:num_steps=3"], ["no option of strategy oracle", "expected=..."]),
        (["--delays", "0,often"], ["often", "uniform:2:6"]),
        (["--delays", "-1"], ["-1"]),
        (["--delays", "trace:/nowhere"], ["/nowhere"]),
        (["--horizons", "soon"], ["H/4", "max(d,1)"]),
        (["--delays", "9", "--strategies", "naive"], ["nothing is left", "d <= 8"]),
        (["--delays", "fair", "--latencies", "/nowhere"], ["/nowhere"]),
        (["--episodes", "0"], ["--episodes", "x>=1"]),
        (["--ray", "nowhere"], ["HOST:PORT"]),
        (["--ray", "127.0.0.1:1"], ["no Ray cluster answers at 127.0.0.1:1", "--ray local"]),
        (["--nonsense"], ["--nonsense"]),
    ],
)
def test_bad_input_gets_one_line_and_writes_nothing(
    checkpoint: Path, tmp_path: Path, words: list[str], expected: list[str]
) -> None:
    line = one_line(call(*arguments(checkpoint, tmp_path / "out", *words)))
    for text in expected:
        assert text in line
    assert not (tmp_path / "out").exists()


def test_latencies_that_are_no_table_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    for text in ("{", "[3]", '{"naive": "fast"}', '{"naive": -1}', '{"naive": true}', '{"naive": NaN}'):
        (tmp_path / "ms.json").write_text(text)
        words = (*FEW, "--latencies", str(tmp_path / "ms.json"))
        assert "no table of latencies" in one_line(call(*arguments(checkpoint, tmp_path / "out", *words)))


def spec(path: Path, checkpoint: Path, **changes: str) -> str:
    """A sweep as a file; changes: keys with their values as TOML."""
    values = {
        "tasks": f'["{TASK}"]',
        "strategies": '["naive", "realtime:schedule=exp"]',
        "delays": '[0, "uniform:1:3"]',
        "horizons": '"max(d,1),H/4"',
        "episodes": "2",
        "policy": f'{{"{TASK}" = "{checkpoint}"}}',
        **changes,
    }
    path.write_text("".join(f"{key} = {value}\n" for key, value in values.items()))
    return str(path)


def test_a_sweep_from_a_file_is_the_sweep_from_the_command_line(checkpoint: Path, tmp_path: Path) -> None:
    file = spec(tmp_path / "sweep.toml", checkpoint, seed="7", workers="1")
    assert call("sweep", "--spec", file, "--seed", "1", "--out", str(tmp_path / "file")).exit_code == 0
    words = ("--strategies", "naive,realtime:schedule=exp", "--delays", "0,uniform:1:3", "--episodes", "2")
    assert call(*arguments(checkpoint, tmp_path / "line", *words)).exit_code == 0
    assert timeless(tmp_path / "file") == timeless(tmp_path / "line")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"strategy": '"naive"'}, ["no key strategy", "strategies"]),
        ({"spec": '"other.toml"'}, ["no key spec"]),
        ({"episodes": '"many"'}, ["--episodes", "many"]),
        ({"episodes": "1.5"}, ["episodes = 1.5"]),
        ({"delays": "[0, [1]]"}, ["delays = "]),
        ({"delays": '["soon"]'}, ["soon", "uniform:2:6"]),
        ({"policy": '"somewhere"'}, ["policy is a table"]),
        ({"force": '"yes"'}, ["force is true or false"]),
        ({"tasks": ""}, ["is no TOML"]),
    ],
)
def test_a_file_that_does_not_fit_says_which_key(
    checkpoint: Path, tmp_path: Path, changes: dict[str, str], expected: list[str]
) -> None:
    file = spec(tmp_path / "sweep.toml", checkpoint, **changes)
    line = one_line(call("sweep", "--spec", file, "--out", str(tmp_path / "out")))
    for text in expected:
        assert text in line
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in one_line(call("sweep", "--spec", str(tmp_path / "none.toml")))
