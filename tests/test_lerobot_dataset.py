"""LeRobotDataset v3 folders: what we write LeRobot reads, and what LeRobot writes we read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from test_dataset import same, some

from rtc.cli import main
from rtc.dataset import MANIFEST, read_demonstrations, read_frames
from rtc.demonstrations import Recording, starts
from rtc.errors import DatasetError
from rtc.lerobot_dataset import CHUNK, STATE, is_lerobot
from rtc.lerobot_writer import write_lerobot
from rtc.shards import shard_path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when LeRobot is imported: all data sets here are local
lerobot = pytest.importorskip("lerobot.datasets.lerobot_dataset")
arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

TASK = "ReachPastPost-v0"
FPS = 50


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where LeRobot's reader keeps its copies."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def write(folder: Path, *recordings: Recording) -> None:
    write_lerobot(
        folder,
        recordings,
        task="Go there.",
        fps=FPS,
        state_names=[f"sensor.{number}" for number in range(4)],
        action_names=["x", "y", "z"],
    )


def opened(folder: Path, **settings: Any) -> Any:
    return lerobot.LeRobotDataset("local/test", root=folder, **settings)


RECORDINGS = [some(0, cameras=("front",)), some(1, frames=30, cameras=("front",))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    write(folder, *RECORDINGS)
    return folder


def test_what_we_write_we_read_to_the_bit(folder: Path) -> None:
    whole = Recording.concatenate(RECORDINGS)
    demonstrations, info = read_demonstrations(folder, TASK)
    same(demonstrations, whole.demonstrations())
    assert info == {"task": TASK, "episodes": 4, "fps": FPS, "chunks": len(whole.chunks)}
    part, _ = read_demonstrations(folder, horizon=2, history=3, cameras=())
    assert np.array_equal(part.obs, whole.demonstrations(history=3).obs)
    assert np.array_equal(part.chunks, whole.chunks[:, :2])
    assert part.images == {}


def test_every_tick_of_it_is_read_as_it_was_written(folder: Path) -> None:
    whole, (frames, manifest) = Recording.concatenate(RECORDINGS), read_frames(folder, TASK)
    assert manifest["task"] == TASK
    for name in ("state", "action", "episode"):
        assert np.array_equal(getattr(frames, name), getattr(whole, name)), name


def test_lerobot_reads_what_we_write(folder: Path) -> None:
    """Frame by frame, with its own delta_timestamps, as its users train."""
    whole = Recording.concatenate(RECORDINGS)
    dataset = opened(folder, delta_timestamps={"action": [row / FPS for row in range(5)]})
    assert (dataset.num_episodes, dataset.num_frames) == (4, len(whole.state))
    begin = starts(whole.episode)
    end = np.append(begin[1:], len(whole.episode))
    label = np.cumsum(whole.replanned) - 1
    for frame in range(len(dataset)):
        item = dataset[frame]
        episode = int(item["episode_index"])
        ahead = frame + np.arange(5)
        assert np.array_equal(item[STATE], whole.state[frame])
        assert np.array_equal(item["action"], whole.action[np.minimum(ahead, end[episode] - 1)])
        assert np.array_equal(item["action_is_pad"], ahead >= end[episode])
        assert item["timestamp"] == pytest.approx((frame - begin[episode]) / FPS)
        assert item["task"] == "Go there."
        picture = np.moveaxis(255 * item["observation.images.front"].numpy(), 0, -1).round()
        assert np.array_equal(picture, whole.images["front"][frame])
        assert bool(item["replanned"]) == whole.replanned[frame]
        wanted = whole.chunks[label[frame]] if whole.replanned[frame] else np.zeros((6, 3))
        assert np.array_equal(item[CHUNK], wanted)
        assert bool(item["success"]) == (whole.success[episode] > 0)


def test_lerobot_normalises_with_the_statistics_of_the_frames(folder: Path) -> None:
    whole, found = Recording.concatenate(RECORDINGS), opened(folder).meta.stats
    for name, values in ((STATE, whole.state), ("action", whole.action)):
        assert found[name]["mean"] == pytest.approx(values.mean(0), abs=1e-5)
        assert found[name]["std"] == pytest.approx(values.std(0), abs=1e-5)
        assert found[name]["max"] == pytest.approx(values.max(0))
    pixels = found["observation.images.front"]
    assert pixels["mean"].shape == (3, 1, 1)
    assert pixels["mean"].ravel() == pytest.approx([0.5] * 3, abs=0.1)


def test_lerobots_policies_would_predict_the_action_alone(folder: Path) -> None:
    meta = opened(folder).meta
    convert = next(
        module.dataset_to_policy_features
        for name in (
            "lerobot.datasets.utils",
            "lerobot.datasets.feature_utils",
            "lerobot.utils.feature_utils",
        )
        if (module := pytest.importorskip(name)) and hasattr(module, "dataset_to_policy_features")
    )
    assert set(convert(meta.features)) == {STATE, "action", "observation.images.front"}
    assert meta.features["action"]["names"] == ["x", "y", "z"]
    assert meta.features[STATE]["names"][2] == "sensor.2"


def test_episodes_keep_their_seed_and_mode(folder: Path) -> None:
    episodes = opened(folder).meta.episodes
    assert episodes["seed"] == [0, 1, 10, 11]
    assert episodes["mode"] == ["left", "quite right"] * 2


def test_data_files_are_begun_anew_when_they_are_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtc.lerobot_writer.FILE_SIZE", 100)
    write(tmp_path, *RECORDINGS)
    assert len(list(tmp_path.glob("data/*/*.parquet"))) == 2
    whole = Recording.concatenate(RECORDINGS)
    same(read_demonstrations(tmp_path)[0], whole.demonstrations())
    assert np.array_equal(opened(tmp_path)[20][STATE], whole.state[20])


Create = Callable[..., Path]


@pytest.fixture
def create(tmp_path: Path) -> Create:
    """A data set as LeRobot records one: three episodes of 4, 1 and 6 frames, state (5), action (2)."""

    def build(features: dict[str, Any] | None = None, videos: bool = False, **columns: np.ndarray) -> Path:
        vectors = {STATE: (5,), "action": (2,)} if features is None else {}
        described = {
            name: {"dtype": "float32", "shape": shape, "names": [f"n{i}" for i in range(*shape)]}
            for name, shape in vectors.items()
        } | (features or {})
        root = tmp_path / "foreign"
        dataset = lerobot.LeRobotDataset.create(
            "local/foreign", 30, described, root=root, robot_type="two-armed", use_videos=videos
        )
        frame = 0
        for length in (4, 1, 6):
            for _ in range(length):
                row = {name: columns[name][frame] for name in described}
                dataset.add_frame(row | {"task": "pick up the cube"})
                frame += 1
            dataset.save_episode()
        dataset.finalize()
        return root

    return build


random = np.random.default_rng(0)
STATES, ACTIONS = (random.normal(size=(11, size)).astype(np.float32) for size in (5, 2))
FOREIGN = {STATE: STATES, "action": ACTIONS}
EPISODE = np.repeat([0, 1, 2], [4, 1, 6])


def test_a_data_set_of_somebody_else_loads_unchanged(create: Create) -> None:
    folder = create(**FOREIGN)
    demonstrations, manifest = read_demonstrations(folder, TASK, horizon=3)
    assert np.array_equal(demonstrations.obs, STATES)
    assert np.array_equal(demonstrations.episode, EPISODE)
    assert demonstrations.success.tolist() == [1, 1, 1]
    assert demonstrations.chunks.shape == (11, 3, 2)
    assert np.array_equal(demonstrations.chunks[1], ACTIONS[[1, 2, 3]])
    assert np.array_equal(demonstrations.chunks[3], ACTIONS[[3, 3, 3]])  # never zeros, never the next episode
    assert np.array_equal(demonstrations.chunks[9], ACTIONS[[9, 10, 10]])
    assert demonstrations.valid is not None
    assert demonstrations.valid[[1, 3, 9]].tolist() == [[True] * 3, [True, False, False], [True, True, False]]
    assert manifest == {"task": TASK, "episodes": 3, "fps": 30, "chunks": 11}
    assert read_demonstrations(folder)[0].chunks.shape == (11, 16, 2)
    dataset = opened(folder, delta_timestamps={"action": [row / 30 for row in range(3)]})
    for frame in range(11):  # and as LeRobot itself cuts them
        assert np.array_equal(dataset[frame]["action"], demonstrations.chunks[frame])
        assert np.array_equal(~dataset[frame]["action_is_pad"].numpy(), demonstrations.valid[frame])


def vector(size: int, dtype: str = "float32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": (size,), "names": None}


def test_one_number_double_precision_and_success_flags_are_fine(create: Create) -> None:
    done = np.zeros((11, 1), bool)
    done[3] = True
    features = {STATE: vector(1, "float64"), "action": vector(1), "next.success": vector(1, "bool")}
    columns = {STATE: STATES[:, :1].astype(np.float64), "action": ACTIONS[:, :1], "next.success": done}
    demonstrations, _ = read_demonstrations(create(features, **columns), horizon=2)
    assert np.array_equal(demonstrations.obs, STATES[:, :1])
    assert demonstrations.chunks.shape == (11, 2, 1)
    assert demonstrations.success.tolist() == [1, 0, 0]


SMOOTH = np.linspace(0, 255, 11 * 64 * 96 * 3).reshape(11, 64, 96, 3).astype(np.uint8)


@pytest.mark.parametrize(("kind", "error"), [("image", 0), ("video", 12)])
def test_images_and_videos_are_decoded(create: Create, kind: str, error: float) -> None:
    camera = {"dtype": kind, "shape": (64, 96, 3), "names": ["height", "width", "channels"]}
    features = {STATE: vector(5), "action": vector(2), "observation.images.wrist": camera}
    folder = create(features, videos=kind == "video", **FOREIGN, **{"observation.images.wrist": SMOOTH})
    demonstrations, _ = read_demonstrations(folder)
    images = demonstrations.images["wrist"]
    assert images.dtype == np.uint8
    assert images.shape == SMOOTH.shape
    assert np.abs(images.astype(float) - SMOOTH).max() <= error
    assert read_demonstrations(folder, cameras=())[0].images == {}


@pytest.mark.parametrize("missing", [STATE, "action"])
def test_a_missing_key_is_named(create: Create, missing: str) -> None:
    features = {STATE: vector(5), "action": vector(2), "other": vector(5)}
    del features[missing]
    folder = create(features, **FOREIGN, other=STATES)
    with pytest.raises(DatasetError, match=rf"has no '{missing}'; its features are .*other"):
        read_demonstrations(folder)


def test_numbers_that_are_none_are_refused(create: Create) -> None:
    states = STATES.copy()
    states[7, 2] = np.nan
    with pytest.raises(DatasetError, match=r"observation.state is not finite in row 7"):
        read_demonstrations(create(**FOREIGN | {STATE: states}))


def test_another_version_and_damage_are_named(create: Create) -> None:
    folder = create(**FOREIGN)
    info = json.loads((folder / "meta" / "info.json").read_text())
    (data,) = folder.glob("data/*/*.parquet")
    content = data.read_bytes()
    data.write_bytes(content[:-20])
    with pytest.raises(DatasetError, match=r"data is damaged"):
        read_demonstrations(folder)
    parquet.write_table(parquet.read_table(arrow.BufferReader(content)).drop([STATE]), data)
    with pytest.raises(DatasetError, match=r"data lacks 'observation.state'"):
        read_demonstrations(folder)
    data.unlink()
    with pytest.raises(DatasetError, match=r"data holds no parquet files"):
        read_demonstrations(folder)
    (folder / "meta" / "info.json").write_text(json.dumps(info | {"codebase_version": "v2.1"}))
    with pytest.raises(DatasetError, match=r"is a LeRobotDataset v2.1; v3 is read: convert it"):
        read_demonstrations(folder)
    (folder / "meta" / "info.json").write_text("{")
    with pytest.raises(DatasetError, match=r"info.json is damaged"):
        read_demonstrations(folder)


DEMOS = import_module("rtc.cli.demos")
EPISODES = 4


def demos(out: Path, *more: object) -> Any:
    fixed = ["demos", "--episodes", EPISODES, "--workers", 1, "--out", out]
    return CliRunner().invoke(main, [str(part) for part in [*fixed, *more]], catch_exceptions=False)


@pytest.fixture(scope="module", autouse=True)
def small() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DEMOS, "SHARD", 2)
        patch.setattr("rtc.cli.demos_source.SPREAD_EPISODES", 1)
        yield


def test_rtc_demos_writes_both_forms_with_the_same_demonstrations(tmp_path: Path) -> None:
    assert demos(tmp_path / "lerobot").exit_code == 0  # the form where LeRobot is installed
    assert demos(tmp_path / "plain", "--format", "plain").exit_code == 0
    (ours, manifest), (plain, other) = (read_demonstrations(tmp_path / n, TASK) for n in ("lerobot", "plain"))
    same(ours, plain)
    assert {key for key in manifest if manifest[key] != other.get(key)} == {"format", "fps"}
    assert is_lerobot(tmp_path / "lerobot")
    assert sorted(path.name for path in (tmp_path / "lerobot").iterdir()) == ["data", MANIFEST, "meta"]
    meta = opened(tmp_path / "lerobot").meta
    assert meta.features["action"]["names"] == ["x", "y", "z"]
    assert meta.features[STATE]["names"][:4] == [*(f"load position.{i}" for i in range(3)), "load velocity.0"]
    assert list(meta.tasks.index) == [import_module("envs.reach_past_post").ReachPastPost.card.summary]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert demos(tmp_path / "lerobot").exit_code == 0  # nothing left to do
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(DatasetError, match="not of Other-v0"):
        read_demonstrations(tmp_path / "lerobot", "Other-v0")


def test_a_disk_that_is_full_when_the_data_set_is_put_together_costs_no_recording(tmp_path: Path) -> None:
    """The shards fit below the kernel's limit on a file's size, the data file made of them does not."""
    assert demos(tmp_path / "all", "--format", "plain").exit_code == 0
    limit = max(shard_path(tmp_path / "all", index).stat().st_size for index in range(2)) + 500
    program = (
        "import rtc.cli.demos, rtc.cli.demos_source, resource, sys;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE, SIZE));"
        "sys.modules['rtc.cli.demos'].SHARD = 2; sys.modules['rtc.cli.demos_source'].SPREAD_EPISODES = 1;"
        "from rtc.cli import main; main(sys.argv[1:])"
    ).replace("(SIZE, SIZE)", f"({limit}, {limit})")
    command = ["demos", "--episodes", str(EPISODES), "--workers", "1", "--out", str(tmp_path / "data")]
    done = subprocess.run(
        [sys.executable, "-c", program, *command],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 2, done.stderr
    assert "could not be written" in done.stderr.splitlines()[-1]
    assert "give the same `rtc demos` command again" in done.stderr.splitlines()[-1]
    shards = [shard_path(tmp_path / "data", index) for index in range(2)]
    assert sorted((tmp_path / "data").iterdir()) == [tmp_path / "data" / MANIFEST, *shards]
    stamps = [shard.stat().st_mtime_ns for shard in shards]
    same(read_demonstrations(tmp_path / "data", TASK)[0], read_demonstrations(tmp_path / "all")[0])
    assert stamps == [shard.stat().st_mtime_ns for shard in shards]
    assert demos(tmp_path / "data").exit_code == 0
    same(read_demonstrations(tmp_path / "data", TASK)[0], read_demonstrations(tmp_path / "all")[0])
    assert is_lerobot(tmp_path / "data")
    assert not shards[0].exists()
