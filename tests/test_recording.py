"""Rerun recordings, read back with Rerun's own reader and held against the episode."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from point_mass import GaussianPolicy, PointMass
from test_cli import ROOT, call, one_line, save_policy
from test_render import need_backend

from envs.reach_past_post import ReachPastPost
from rtc.report.recording import record, write_recordings
from rtc.runtime.episode import Episode
from rtc.runtime.latency import UniformDelay
from rtc.runtime.strategies import make_strategy
from rtc.sweep import Cell, Shard, run_episodes

rerun: Any = pytest.importorskip("rerun", reason="no rerun-sdk here; pip install 'rtc[rerun]' brings it")
SEED = 3


def shard(strategy: str, make_env: Any = PointMass) -> Shard:
    """Of two episodes, whose delays vary."""
    make = partial(make_strategy, strategy, GaussianPolicy())
    return Shard(Cell(strategy, make_env, make, UniformDelay(0, 3), 3), (2, SEED))


def episode_of(strategy: str) -> Episode:
    episodes, _ = run_episodes(shard(strategy))
    return episodes[1]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "episode.rrd"
    write_recordings([record(name, shard(name), SEED, PointMass) for name in ("naive", "realtime")], path)
    return path


def column(file: Path, entity: str, component: str, index: str = "tick") -> dict[Any, Any]:
    """What stands at `entity`, by time."""
    view = rerun.dataframe.load_recording(str(file)).view(index=index, contents=f"/{entity}")
    table = view.select().read_all()
    [name] = [name for name in table.column_names if name.endswith(f":{component}")]
    times = table.column(index).cast("int64").to_pylist()
    values = table.column(name).to_pylist()
    return {time: value for time, value in zip(times, values, strict=True) if value is not None}


def tensor(value: Any) -> np.ndarray:
    [entry] = value
    return np.array(entry["buffer"], np.float32).reshape(entry["shape"])


@pytest.mark.parametrize("strategy", ["naive", "realtime"])
def test_the_recording_holds_what_was_executed(file: Path, strategy: str) -> None:
    episode = episode_of(strategy)
    executed = column(file, f"{strategy}/action", "scalars")
    assert list(executed) == list(range(episode.ticks))
    assert np.array_equal(np.array(list(executed.values()), np.float32), episode.actions)
    assert episode.positions is not None
    places = column(file, f"{strategy}/position/now", "positions")
    found = np.array([place for [place] in places.values()], np.float32)
    assert np.array_equal(found, episode.positions.astype(np.float32))


def test_the_recording_holds_what_was_seen(file: Path) -> None:
    episode = episode_of("naive")
    env = PointMass()
    obs, _ = env.reset(seed=SEED)
    expected = [obs, *(env.step(action)[0] for action in episode.actions)]
    seen = column(file, "naive/observation", "scalars")
    assert list(seen) == list(range(episode.ticks + 1))
    assert np.array_equal(np.array(list(seen.values()), np.float32), np.array(expected))


@pytest.mark.parametrize("strategy", ["naive", "realtime"])
def test_plans_and_frozen_rows_are_those_of_the_chunks(file: Path, strategy: str) -> None:
    """The plan is the current chunk from its row on, and what is frozen is what inference was told."""
    episode = episode_of(strategy)
    plans, frozen = (column(file, f"{strategy}/{name}", "data") for name in ("plan", "frozen"))
    chunks = episode.chunks
    assert len(chunks) > 3
    assert list(plans) == list(frozen) == list(range(episode.ticks + 1))
    for tick, chunk in {chunk.delivery_tick: chunk for chunk in chunks}.items():  # a tick may see two
        assert np.array_equal(tensor(plans[tick]), chunk.chunk[chunk.first_row :])
    for chunk in chunks:
        for wait in range(chunk.delay):
            promised = tensor(frozen[chunk.request_tick + wait])
            assert np.array_equal(promised, chunk.frozen[wait:])
            assert np.array_equal(promised, tensor(plans[chunk.request_tick + wait])[: len(promised)])
    for tick in range(episode.ticks):
        assert np.array_equal(tensor(plans[tick])[0], episode.actions[tick])


def test_requests_deliveries_and_delays_stand_at_their_ticks(file: Path) -> None:
    asked = episode_of("realtime").chunks[1:]
    delays = column(file, "realtime/delay", "scalars")
    assert delays == {chunk.delivery_tick: [chunk.delay] for chunk in asked}
    assert len({chunk.delay for chunk in asked}) > 1
    requests = column(file, "realtime/events/request", "text")
    assert requests == {
        chunk.request_tick: [f"planned delay {chunk.inference_delay}, {len(chunk.frozen)} rows frozen"]
        for chunk in asked
    }
    deliveries = column(file, "realtime/events/delivery", "text")
    assert deliveries == {
        chunk.delivery_tick: [f"delay {chunk.delay}, from row {chunk.first_row} on"] for chunk in asked
    }


def test_ticks_are_also_seconds(file: Path) -> None:
    ticks, nanoseconds = (list(column(file, "naive/action", "scalars", index)) for index in ("tick", "time"))
    assert nanoseconds == [20_000_000 * tick for tick in ticks]


def rolled_out(folder: Path, *more: str) -> Result:
    """Two strategies on the task; the first delay is the one that is shown."""
    checkpoint = save_policy(folder / "policy")
    words = ("--policy", str(checkpoint), "--strategies", "naive,synchronous", "--delays", "2", "--seed", "1")
    common = ("rollout", *words, "--episodes", "1", "--workers", "1", "--no-video")
    return call(*common, "--out", str(folder / "out"), *more)


def test_a_rollout_records_the_episode_with_names_places_and_pictures(tmp_path: Path) -> None:
    need_backend()
    file = tmp_path / "episode.rrd"
    result = rolled_out(tmp_path, "--rerun", str(file))
    assert result.exit_code == 0, result.output
    ticks = len(column(file, "naive/action", "scalars"))
    pictures = column(file, "naive/camera/film", "blob")
    assert len(pictures) == ticks + 1
    [[jpeg]] = [pictures[0]]
    assert bytes(jpeg[:2]) == b"\xff\xd8"
    names = next(iter(column(file, "naive/observation", "names").values()))
    assert len(names) == ReachPastPost.card.obs_dim
    assert names[0].startswith(ReachPastPost.card.sensors[0].name)
    env = ReachPastPost()
    env.reset(seed=1)
    plan = tensor(column(file, "naive/plan", "data")[0])
    places = np.array(column(file, "naive/position/planned", "positions")[0])
    assert places == pytest.approx(env.predict_positions(plan), abs=1e-6)
    synchronous = column(file, "synchronous/plan", "data")
    assert min(len(tensor(rows)) for rows in synchronous.values()) == 0  # it has none while it waits
    assert one_line(rolled_out(tmp_path, "--rerun", str(file))).count("--force") == 1


def test_a_recording_is_refused_before_anything_runs(tmp_path: Path) -> None:
    assert "NAME.rrd" in one_line(rolled_out(tmp_path, "--rerun", str(tmp_path / "episode.txt")))
    assert not (tmp_path / "out").exists()


def test_without_the_extra_one_line_says_what_to_install(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules.update(rerun=None)\n"
        "from rtc.cli import main; main(sys.argv[1:], prog_name='rtc')"
    )
    words = ("rollout", "--out", str(tmp_path / "out"), "--rerun", str(tmp_path / "episode.rrd"))
    result = subprocess.run(
        [sys.executable, "-c", script, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "pip install 'rtc[rerun]'" in result.stderr
    assert not (tmp_path / "out").exists()
