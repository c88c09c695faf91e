"""Sweeps: the same answer from any number of processes, and nothing lost when one dies."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Generator
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from point_mass import GaussianPolicy, PointMass
from torch import Tensor

from rtc.errors import InvalidArgument, OutputExists, WorkerDied
from rtc.process_pool import in_workers
from rtc.report.table import refusals
from rtc.run_folder import open_folder
from rtc.runtime.latency import ConstantDelay
from rtc.runtime.strategies import make_strategy
from rtc.serialise import read_json, whole_file, write_json
from rtc.sweep import Cell, Shard, ShardResult, run_shard, split, sweep, total


def cell(strategy: str = "realtime", policy: GaussianPolicy | None = None, delay: int = 2) -> Cell:
    factory = partial(make_strategy, strategy, policy or GaussianPolicy())
    return Cell(f"{strategy}-d{delay}", PointMass, factory, ConstantDelay(delay), execution_horizon=3)


def run(folder: Path, workers: int = 1, batch: int = 2) -> dict[str, ShardResult]:
    shards = split([cell("naive"), cell("realtime")], range(3), batch)
    found = {shard.name: result for shard, result, _ in start(shards, folder, workers)}
    return {shard.name: found[shard.name] for shard in shards}


def refuse(error: WorkerDied) -> None:
    raise error


def start(shards: list[Shard], folder: Path, workers: int = 1) -> Generator[tuple[Shard, ShardResult, bool]]:
    return sweep(shards, folder, pool=partial(in_workers, workers=workers), on_retry=refuse)


def episodes(results: dict[str, ShardResult]) -> dict[str, list]:
    return {name: result.episodes for name, result in results.items()}


def test_shards_cover_every_seed_of_every_cell_once() -> None:
    first, second = cell("naive"), cell("realtime")
    shards = split([first, second], range(5, 10), 2)
    assert [shard.seeds for shard in shards] == [(5, 6), (7, 8), (9,)] * 2
    assert [shard.cell for shard in shards] == [first] * 3 + [second] * 3
    assert len({shard.name for shard in shards}) == 6
    with pytest.raises(InvalidArgument, match="at least 1"):
        split([first], range(5), 0)


def test_results_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    alone, together = run(tmp_path / "1", workers=1), run(tmp_path / "2", workers=2)
    assert episodes(alone) == episodes(together)
    assert list(alone) == list(together)


def test_a_sweep_takes_up_what_is_stored_and_runs_the_rest(tmp_path: Path) -> None:
    whole = run(tmp_path)
    gone = tmp_path / "realtime-d2.0-1.json"
    gone.unlink()
    shards = split([cell("naive"), cell("realtime")], range(3), 2)
    seen = {shard.name: (result, stored) for shard, result, stored in start(shards, tmp_path)}
    assert {name: stored for name, (_, stored) in seen.items()} == {
        "naive-d2.0-1": True,
        "naive-d2.2-2": True,
        "realtime-d2.0-1": False,
        "realtime-d2.2-2": True,
    }
    assert {name: result.episodes for name, (result, _) in seen.items()} == episodes(whole)
    assert gone.exists()


def test_timings_add_up() -> None:
    timing = {"total": 2.0, "env": 1.0, "policy": 0.5, "control_steps": 100}
    added = total([timing, timing])
    assert asdict(added) == {"total": 4.0, "env": 2.0, "policy": 1.0, "control_steps": 200}
    assert added.other == 1.0


class BrokenBorder(GaussianPolicy):
    """Plans that it cannot read: everything that is guided by one is NaN."""

    def normalize(self, actions: Tensor) -> Tensor:
        return torch.full_like(actions, torch.nan)


def test_a_chunk_that_is_not_finite_fails_its_episode_and_no_other() -> None:
    results = {
        (name, 2): run_shard(Shard(cell(name, BrokenBorder()), (0, 1))).episodes
        for name in ("naive", "realtime", "overwrite")
    }
    for name in ("naive", "realtime"):  # which guards itself
        assert not any("finite" in (record["failure"] or "") for record in results[name, 2])
    assert all(record["replaced_chunks"] > 0 for record in results["realtime", 2])
    for record in results["overwrite", 2]:
        assert not record["success"]
        assert record["failure"] == "overwrite: chunk requested at tick 3 is not finite from flow step 0 on"
    json.dumps(results["overwrite", 2], allow_nan=False)
    [line] = refusals(results)
    assert "2 of 2 episodes of overwrite" in line


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.json"
    write_json(path, [1])
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, [float("nan")])
    with suppress(KeyboardInterrupt), whole_file(path) as temporary:
        temporary.write_text("[1, 2")
        raise KeyboardInterrupt
    assert read_json(path) == [1]
    assert [left.name for left in path.parent.iterdir()] == ["file.json"]


def test_a_run_folder_is_resumed_only_by_the_same_settings(tmp_path: Path) -> None:
    settings = {"seed": 0, "delays": [0, 2]}
    begun = open_folder(tmp_path / "run", settings, force=False)
    write_json(begun.cells / "a.json", {})
    assert not begun.resumed
    assert open_folder(tmp_path / "run", settings, force=False).resumed
    with pytest.raises(OutputExists, match="seed: 0 then, 1 now"):
        open_folder(tmp_path / "run", settings | {"seed": 1}, force=False)
    assert (begun.cells / "a.json").exists()
    assert not open_folder(tmp_path / "run", settings | {"seed": 1}, force=True).resumed
    assert not (begun.cells / "a.json").exists()


def test_a_finished_run_is_replaced_only_by_force(tmp_path: Path) -> None:
    open_folder(tmp_path / "run", {"seed": 0}, force=False).finish()
    (tmp_path / "run" / "results.json").write_text("{}")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    (tmp_path / "run" / "videos").mkdir()
    for name in ("Catch-v0.mp4", "Catch-v0.json", "mine.mp4"):
        (tmp_path / "run" / "videos" / name).touch()
    with pytest.raises(OutputExists, match="finished"):
        open_folder(tmp_path / "run", {"seed": 0}, force=False)
    assert (tmp_path / "run" / "results.json").exists()
    open_folder(tmp_path / "run", {"seed": 0}, force=True)
    assert sorted(path.name for path in (tmp_path / "run").rglob("*")) == [
        *("mine.mp4", "notes.txt", "run.json", "videos")
    ]


def test_what_no_run_has_written_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for path in (tmp_path, tmp_path / "thesis.txt"):
        for force in (False, True):
            with pytest.raises(OutputExists, match="left alone"):
                open_folder(path, {}, force)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    (tmp_path / "empty").mkdir()
    assert not open_folder(tmp_path / "empty", {}, force=False).resumed


class Heavy(PointMass):
    """More than `room` of these at a time in one process, and it is killed, as one without memory is."""

    alive = 0

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        Heavy.alive += 1
        if Heavy.alive > self.room:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().reset(seed=seed, options=options)

    def close(self) -> None:
        Heavy.alive -= 1


def heavy(folder: Path, room: int, said: list[str]) -> dict[str, list]:
    """Three cells of four episodes, one of them heavy, in one batch each."""
    cells = [cell("naive"), replace(cell("realtime"), make_env=partial(Heavy, room)), cell("synchronous")]
    found = sweep(
        split(cells, range(4), 4),
        folder,
        pool=partial(in_workers, workers=2),
        on_retry=lambda error: said.append(str(error)),
    )
    return episodes({shard.name: result for shard, result, _ in found})


def test_a_shard_that_lacks_memory_is_run_in_halves_to_the_same_results(tmp_path: Path) -> None:
    said: list[str] = []
    spared = heavy(tmp_path / "spared", room=2, said=said)
    assert len(said) == 1
    whole = heavy(tmp_path / "whole", room=4, said=said)
    assert len(said) == 1
    assert spared == whole
    assert sorted(path.name for path in (tmp_path / "spared").iterdir()) == sorted(
        path.name for path in (tmp_path / "whole").iterdir()
    )


def test_a_shard_that_dies_again_is_reported_and_what_is_finished_is_kept(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(WorkerDied, match="smaller --batch"):
        heavy(tmp_path, room=1, said=said)
    assert len(said) == 1
    assert not list(tmp_path.glob("realtime*"))


def lacks_memory(time_limit: int = 60) -> PointMass:
    raise MemoryError


@pytest.mark.parametrize("workers", [1, 2])
def test_a_lack_of_memory_that_python_sees_counts_as_a_death(tmp_path: Path, workers: int) -> None:
    with pytest.raises(WorkerDied):
        list(start(split([replace(cell("naive"), make_env=lacks_memory)], range(2), 1), tmp_path, workers))
