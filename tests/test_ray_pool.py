"""A real Ray cluster of two workers gives what processes give, and loses nothing when a worker is killed."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from point_mass import PointMass
from test_cli import call, save_policy
from test_cli_sweep import arguments, rows, timeless
from test_sweep import cell, episodes, refuse, run

from rtc.errors import InvalidArgument, RtcError, WorkerDied
from rtc.ray_pool import RETRIES, on_ray, ray_cluster
from rtc.sweep import split, sweep

ray = pytest.importorskip("ray", reason="the extra rtc[ray] is not installed")


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        # its workers import this file, and the sources that are tested
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        with ray_cluster("local", 2):
            yield


def count(folder: Path, name: str, deaths: int) -> int:
    """Note that it runs, and let the first `deaths` workers that do be killed in the middle."""
    runs = len(list(folder.glob(f"{name}.*"))) + 1
    (folder / f"{name}.{runs}").touch()
    if runs <= deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return runs


def fail() -> None:
    raise InvalidArgument("as planned")


def lack() -> None:
    raise MemoryError


def killed_once(marker: Path) -> PointMass:
    """The worker that is the first to simulate is killed in the middle of its episodes."""
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return PointMass()


def test_a_sweep_on_a_cluster_gives_what_processes_give_though_a_worker_is_killed(
    cluster: None, tmp_path: Path
) -> None:
    deadly = replace(cell("realtime"), make_env=partial(killed_once, tmp_path / "killed"))
    shards = split([cell("naive"), deadly], range(3), 2)
    found = {
        shard.name: result
        for shard, result, stored in sweep(shards, tmp_path / "ray", pool=on_ray, on_retry=refuse)
        if not stored
    }
    assert episodes({shard.name: found[shard.name] for shard in shards}) == episodes(run(tmp_path / "here"))
    assert len(list((tmp_path / "ray").iterdir())) == len(shards)
    assert (tmp_path / "killed").exists()


def test_a_job_whose_worker_is_killed_runs_again_and_counts_once(cluster: None, tmp_path: Path) -> None:
    jobs = [partial(count, tmp_path, str(number), deaths=number % 2) for number in range(4)]
    assert sorted(on_ray(jobs)) == [(0, 1), (1, 2), (2, 1), (3, 2)]


def test_a_job_that_kills_every_worker_is_told_and_the_others_end(cluster: None, tmp_path: Path) -> None:
    with pytest.raises(WorkerDied, match="finished shards are kept"):
        list(on_ray([partial(count, tmp_path, "deadly", deaths=99)]))
    assert len(list(tmp_path.iterdir())) == RETRIES + 1


@pytest.mark.parametrize(("job", "error"), [(fail, InvalidArgument), (lack, WorkerDied)])
def test_an_error_in_a_job_arrives_as_it_was_raised(cluster: None, job, error: type[Exception]) -> None:
    with pytest.raises(error):
        list(on_ray([job]))


def test_every_job_has_one_thread(cluster: None) -> None:
    assert [threads for _, threads in on_ray([torch.get_num_threads])] == [1]


def test_ray_starts_no_dashboard_and_tells_nobody(cluster: None) -> None:
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert not ray._private.worker.global_worker.node.webui_url


def test_a_cluster_that_is_not_there_is_one_line_that_says_what_to_do() -> None:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]  # free, for nobody listens
    with (
        pytest.raises(RtcError, match=f"127.0.0.1:{port}.*--ray local.*leave --ray out"),
        ray_cluster(f"127.0.0.1:{port}", 1),
    ):
        pass
    with pytest.raises(InvalidArgument, match="HOST:PORT"), ray_cluster("nowhere", 1):
        pass


def test_rtc_sweep_on_a_cluster_writes_what_it_writes_without(cluster: None, tmp_path: Path) -> None:
    checkpoint = save_policy(tmp_path / "policy", max_delay=2)
    few = ("--strategies", "naive,conditioned", "--delays", "0,spiky:1:6:0.5")
    for name, where in (("ray", ("--ray", "local")), ("here", ())):
        result = call(*arguments(checkpoint, tmp_path / name, *few, *where))
        assert result.exit_code == 0, result.output
    assert timeless(tmp_path / "ray") == timeless(tmp_path / "here")
    assert rows(tmp_path / "ray") == rows(tmp_path / "here")
