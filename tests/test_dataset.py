"""Demonstrations on disk: what is written is read, and what is not whole is refused by name."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from rtc.dataset import MANIFEST, Demonstrations, read_demonstrations, shard_path, write_shard
from rtc.errors import DatasetError

TASK = "ReachPastPost-v0"


def some(seed: int, rows: int = 5, episodes: int = 2) -> Demonstrations:
    random = np.random.default_rng(seed)
    return Demonstrations(
        obs=random.normal(size=(rows, 4)).astype(np.float32),
        chunks=random.normal(size=(rows, 6, 3)).astype(np.float32),
        episode=np.sort(random.integers(0, episodes, rows)) + 10 * seed,
        success=random.integers(0, 2, episodes).astype(np.float32),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / MANIFEST).write_text(json.dumps({"task": TASK, "shards": 2, "seed": 3}))
    for index in range(2):
        write_shard(tmp_path, index, some(index))
    return tmp_path


def test_what_is_written_is_read_in_order(folder: Path) -> None:
    demonstrations, manifest = read_demonstrations(folder, TASK)
    expected = Demonstrations.concatenate([some(0), some(1)])
    for field in fields(Demonstrations):
        given, wanted = getattr(demonstrations, field.name), getattr(expected, field.name)
        assert given.dtype == wanted.dtype
        assert np.array_equal(given, wanted)
    assert manifest == {"task": TASK, "shards": 2, "seed": 3}


def test_no_task_means_any_task(folder: Path) -> None:
    assert len(read_demonstrations(folder)[0].obs) == 10


def test_a_shard_is_there_whole_or_not_at_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = shard_path(folder, 0).read_bytes()

    def breaks_off(arrays: dict, path: Path) -> None:
        save_file(arrays, path)
        raise KeyboardInterrupt

    monkeypatch.setattr("rtc.dataset.save_file", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        write_shard(folder, 0, some(7))
    assert shard_path(folder, 0).read_bytes() == before
    assert len(list(folder.iterdir())) == 3


def test_another_task_is_refused_by_both_names(folder: Path) -> None:
    with pytest.raises(DatasetError, match=rf"of {TASK}, not of Catch-v0; pass --task or --data"):
        read_demonstrations(folder, "Catch-v0")


def test_a_missing_shard_says_how_to_finish(folder: Path) -> None:
    shard_path(folder, 1).unlink()
    with pytest.raises(DatasetError, match=r"lacks 1 of 2 shards; give the same `rtc demos` command again"):
        read_demonstrations(folder, TASK)


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_truncated_shard_is_named(folder: Path, kept: int) -> None:
    path = shard_path(folder, 1)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DatasetError, match=r"shard-00001.safetensors is damaged .*delete it"):
        read_demonstrations(folder, TASK)


def test_a_shard_of_something_else_is_named(folder: Path) -> None:
    save_file({"weights": np.zeros(3)}, shard_path(folder, 0))
    with pytest.raises(DatasetError, match=r"shard-00000.safetensors is damaged"):
        read_demonstrations(folder, TASK)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "missing or damaged"),
        ("{", "missing or damaged"),
        ("[]", "does not say its task and shards"),
        ('"shards"', "does not say its task and shards"),
        ('{"shards": 2}', "does not say its task and shards"),
        ('{"task": "ReachPastPost-v0"}', "does not say its task and shards"),
        ('{"task": "ReachPastPost-v0", "shards": 0}', "does not say its task and shards"),
        ('{"task": "ReachPastPost-v0", "shards": "two"}', "does not say its task and shards"),
    ],
)
def test_a_bad_manifest_is_refused(folder: Path, text: str | None, message: str) -> None:
    (folder / MANIFEST).unlink()
    if text is not None:
        (folder / MANIFEST).write_text(text)
    with pytest.raises(DatasetError, match=f"{MANIFEST} .*{message}|{MANIFEST} {message}") as refused:
        read_demonstrations(folder, TASK)
    assert "rtc demos" in str(refused.value)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="missing"):
        read_demonstrations(tmp_path / "nowhere", TASK)
