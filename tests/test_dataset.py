"""Demonstrations on disk: what is written is read, and what is not whole is refused by name."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from rtc.dataset import MANIFEST, read_demonstrations, read_frames
from rtc.demonstrations import Demonstrations, Frames, Recording, chunks_ahead, observe, starts
from rtc.errors import DatasetError, InvalidArgument, Unsupported
from rtc.shards import read_shard, shard_path, write_shard

TASK = "ReachPastPost-v0"


def some(seed: int, frames: int = 12, episodes: int = 2, cameras: tuple[str, ...] = ()) -> Recording:
    """Episodes of random numbers, labelled at every third frame and at the first of each."""
    random = np.random.default_rng(seed)
    episode = np.sort(np.append(np.arange(episodes), random.integers(0, episodes, frames - episodes)))
    replanned = random.random(frames) < 1 / 3
    replanned[starts(episode)] = True
    return Recording(
        state=random.normal(size=(frames, 4)).astype(np.float32),
        action=random.normal(size=(frames, 3)).astype(np.float32),
        episode=episode + 10 * seed,
        replanned=replanned,
        chunks=random.normal(size=(replanned.sum(), 6, 3)).astype(np.float32),
        committed=random.integers(0, 5, replanned.sum()),
        success=random.integers(0, 2, episodes).astype(np.float32),
        mode=np.array(["left", "quite right"][:episodes]),
        images={name: random.integers(0, 256, (frames, 5, 7, 3), np.uint8) for name in cameras},
    )


def same(given: Demonstrations | Recording, wanted: Demonstrations | Recording) -> None:
    for field in fields(wanted):
        one, other = getattr(given, field.name), getattr(wanted, field.name)
        if isinstance(other, dict):
            assert one.keys() == other.keys()
            assert all(np.array_equal(one[name], other[name]) for name in other)
        elif other is None:
            assert one is None
        else:
            assert one.dtype == other.dtype
            assert np.array_equal(one, other), field.name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / MANIFEST).write_text(json.dumps({"task": TASK, "shards": 2, "seed": 3}))
    for index in range(2):
        write_shard(tmp_path, index, some(index, cameras=("front", "top")))
    return tmp_path


@pytest.mark.parametrize("cameras", [(), ("front",)])
def test_a_shard_holds_a_recording(tmp_path: Path, cameras: tuple[str, ...]) -> None:
    write_shard(tmp_path, 3, some(1, cameras=cameras))
    same(read_shard(tmp_path, 3), some(1, cameras=cameras))


def test_what_is_written_is_read_in_order(folder: Path) -> None:
    demonstrations, manifest = read_demonstrations(folder, TASK)
    both = [some(index, cameras=("front", "top")) for index in range(2)]
    same(demonstrations, Recording.concatenate(both).demonstrations())
    assert manifest == {"task": TASK, "shards": 2, "seed": 3}


def test_demonstrations_are_the_labelled_frames() -> None:
    recording = some(2, frames=40, cameras=("front",))
    demonstrations = recording.demonstrations()
    for row, frame in enumerate(np.flatnonzero(recording.replanned)):
        assert np.array_equal(demonstrations.obs[row], recording.state[frame])
        assert np.array_equal(demonstrations.images["front"][row], recording.images["front"][frame])
        assert demonstrations.episode[row] == recording.episode[frame]
    assert len(demonstrations.obs) == len(demonstrations.chunks) == recording.replanned.sum()


episodes = st.lists(st.integers(1, 7), min_size=1, max_size=5).map(
    lambda lengths: np.repeat(np.arange(len(lengths)), lengths)
)


@given(episodes, st.integers(1, 9))
def test_chunks_look_ahead_within_the_episode_and_repeat_its_last_action(
    episode: np.ndarray, horizon: int
) -> None:
    action = np.arange(2.0 * len(episode)).reshape(-1, 2)
    chunks, valid = chunks_ahead(action, episode, horizon)
    for frame in range(len(episode)):
        left = action[frame:][episode[frame:] == episode[frame]]
        for row in range(horizon):
            assert np.array_equal(chunks[frame, row], left[min(row, len(left) - 1)])
            assert valid[frame, row] == (row < len(left))


@given(episodes, st.integers(2, 5))
def test_a_history_looks_back_within_the_episode_and_repeats_its_first_observation(
    episode: np.ndarray, history: int
) -> None:
    state = np.arange(float(len(episode)))[:, None]
    rows = np.arange(len(episode))[::2]
    seen = observe(state, episode, rows, history)
    for row, frame in enumerate(rows):
        before = state[: frame + 1][episode[: frame + 1] == episode[frame]]
        wanted = [before[max(0, len(before) - 1 - back)] for back in reversed(range(history))]
        assert np.array_equal(seen[row], np.array(wanted))


def test_options_choose_what_is_read(folder: Path) -> None:
    everything, _ = read_demonstrations(folder)
    part, _ = read_demonstrations(folder, horizon=4, history=3, cameras=("top",))
    assert np.array_equal(part.chunks, everything.chunks[:, :4])
    assert part.obs.shape == (len(everything.obs), 3, 4)
    assert np.array_equal(part.obs[:, -1], everything.obs)
    assert list(part.images) == ["top"]
    assert read_demonstrations(folder, cameras=())[0].images == {}
    with pytest.raises(DatasetError, match=r"chunks of 6 actions, not of 7; ask for fewer"):
        read_demonstrations(folder, horizon=7)
    with pytest.raises(DatasetError, match=r"no camera 'wrist'; it has front, top"):
        read_demonstrations(folder, cameras=("wrist",))
    with pytest.raises(InvalidArgument, match="horizon is 0; it is 1 or more"):
        read_demonstrations(folder, horizon=0)
    with pytest.raises(InvalidArgument, match="history is 0; it is 1 or more"):
        read_demonstrations(folder, history=0)


def test_a_shard_is_there_whole_or_not_at_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = shard_path(folder, 0).read_bytes()

    def breaks_off(arrays: dict, path: Path, metadata: dict) -> None:
        save_file(arrays, path, metadata)
        raise KeyboardInterrupt

    monkeypatch.setattr("rtc.shards.save_file", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        write_shard(folder, 0, some(7))
    assert shard_path(folder, 0).read_bytes() == before
    assert len(list(folder.iterdir())) == 3


def test_a_disk_that_takes_no_more_is_named_and_what_is_finished_stays(folder: Path) -> None:
    """The limit on a file's size is the kernel's, as a full disk would be."""
    before = shard_path(folder, 0).read_bytes()
    program = (
        "import sys; from pathlib import Path; from test_dataset import some; "
        "from rtc.shards import write_shard; write_shard(Path(sys.argv[1]), 0, some(7, frames=500))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048)),
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("rtc.errors.DatasetError: ")
    assert "File too large" in last
    assert f"make room in {folder}" in last
    assert "give the same `rtc demos` command again" in last
    assert shard_path(folder, 0).read_bytes() == before
    assert len(list(folder.iterdir())) == 3
    assert len(read_demonstrations(folder, TASK)[0].obs) > 0


def test_another_task_is_refused_by_both_names(folder: Path) -> None:
    with pytest.raises(DatasetError, match=rf"of {TASK}, not of Catch-v0; pass --task or --data"):
        read_demonstrations(folder, "Catch-v0")


def test_no_task_means_any_task(folder: Path) -> None:
    assert read_demonstrations(folder)[1]["task"] == TASK


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


@pytest.mark.skipif(find_spec("pyarrow") is not None, reason="it is installed")
def test_a_lerobot_data_set_without_the_extra_names_it(tmp_path: Path) -> None:
    features = {name: {"dtype": "float32", "shape": [2]} for name in ("observation.state", "action")}
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text(
        json.dumps({"codebase_version": "v3.0", "features": features})
    )
    (tmp_path / "data" / "chunk-000").mkdir(parents=True)
    (tmp_path / "data" / "chunk-000" / "file-000.parquet").touch()
    with pytest.raises(
        Unsupported, match=r"need pyarrow, which is not installed: pip install 'rtc\[lerobot\]'"
    ):
        read_demonstrations(tmp_path)


@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5), length=st.integers(1, 4))
def test_windows_are_all_runs_of_frames_of_one_episode(lengths: list[int], length: int) -> None:
    episode = np.repeat(np.arange(len(lengths)) * 7, lengths)
    frames = Frames(np.zeros((len(episode), 1), np.float32), np.zeros((len(episode), 1), np.float32), episode)
    expected = [
        row
        for row in range(len(episode))
        if row + length <= len(episode) and len(set(episode[row : row + length])) == 1
    ]
    assert frames.windows(length).tolist() == expected


def test_every_tick_is_read_with_the_action_that_ran_then(tmp_path: Path) -> None:
    parts = [some(0), some(1, frames=9)]
    for index, part in enumerate(parts):
        write_shard(tmp_path, index, part)
    (tmp_path / MANIFEST).write_text(json.dumps({"task": TASK, "shards": 2}))
    frames, manifest = read_frames(tmp_path, TASK)
    whole = Recording.concatenate(parts)
    assert manifest == {"task": TASK, "shards": 2}
    for name in ("state", "action", "episode"):
        assert np.array_equal(getattr(frames, name), getattr(whole, name)), name
    with pytest.raises(DatasetError, match="not of Catch-v0"):
        read_frames(tmp_path, "Catch-v0")
    shard_path(tmp_path, 1).unlink()
    with pytest.raises(DatasetError, match="lacks 1 of 2 shards"):
        read_frames(tmp_path)
