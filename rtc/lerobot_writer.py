"""Recordings as a LeRobotDataset v3 folder (see rtc/lerobot_dataset.py for what is in it).

LeRobot writes the metadata itself, statistics included; the frames are written here. Its own `save_episode`
walks through every frame to embed images in it: .6 ms a frame also where there are none, a quarter of an
hour for nine thousand episodes.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from rtc.demonstrations import Recording, starts
from rtc.errors import DatasetError
from rtc.lerobot_dataset import ACTION, CHUNK, COMMITTED, IMAGES, REPLANNED, STATE, SUCCESS, need
from rtc.shards import not_written

FILE_SIZE = 100 * 2**20  # bytes after which another data file is begun, LeRobot's own limit
BUILDING = ".building"
IMAGES_JUDGED = 20  # of an episode, every fourth pixel each way, for the statistics of its pixels


def write_lerobot(
    folder: Path,
    recordings: Iterable[Recording],
    *,
    task: str,
    fps: int,
    state_names: list[str],
    action_names: list[str],
    on_recording: Callable[[Recording], None] = lambda recording: None,
) -> None:
    """Write `recordings` to `folder`/data and `folder`/meta; they are there whole or not at all.

    task: what was asked for, in words. Raises Unsupported without LeRobot, DatasetError if the disk does not
    take it.
    """
    library = need("lerobot.datasets.lerobot_dataset")
    building = folder / BUILDING
    shutil.rmtree(building, ignore_errors=True)
    writer = None
    try:
        for recording in recordings:
            if writer is None:
                features = _features(recording, state_names, action_names)
                dataset = library.LeRobotDataset.create(
                    f"local/{folder.name}", fps, features, root=building, robot_type="arm", use_videos=False
                )
                writer = _Writer(dataset, task)
            writer.add(recording)
            on_recording(recording)
        if writer is None:
            raise DatasetError(f"there is nothing to write to {folder}")
        writer.close()
        for part in ("data", "meta"):  # the metadata, which say that it is there, come last
            shutil.rmtree(folder / part, ignore_errors=True)
            os.replace(building / part, folder / part)
    except OSError as error:
        raise not_written(folder, error) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _features(recording: Recording, state_names: list[str], action_names: list[str]) -> dict[str, Any]:
    def vector(names: list[str]) -> dict[str, Any]:
        return {"dtype": "float32", "shape": (len(names),), "names": names}

    def image(pictures: np.ndarray) -> dict[str, Any]:
        return {"dtype": "image", "shape": pictures.shape[1:], "names": ["height", "width", "channels"]}

    flag = {"dtype": "bool", "shape": (1,), "names": None}
    return {
        STATE: vector(state_names),
        ACTION: vector(action_names),
        **{IMAGES + camera: image(pictures) for camera, pictures in recording.images.items()},
        CHUNK: {"dtype": "float32", "shape": recording.chunks.shape[1:], "names": ["row", "action"]},
        COMMITTED: {"dtype": "int64", "shape": (1,), "names": None},
        REPLANNED: flag,
        SUCCESS[0]: flag,
    }


class _Writer:
    """Appends recordings to a new LeRobotDataset."""

    def __init__(self, dataset: Any, task: str) -> None:
        self.dataset, self.meta, self.task = dataset, dataset.meta, task
        self.meta.save_episode_tasks([task])
        self.statistics = need("lerobot.datasets.compute_stats")
        self.parquet = need("pyarrow.parquet")
        self.file, self.stream, self.frames = 0, None, 0

    def add(self, recording: Recording) -> None:
        """Write all frames of `recording`, then say where each episode lies."""
        numbers = self._numbers(recording)
        self._append(_table(numbers, recording))
        begin = starts(recording.episode)
        end = np.append(begin[1:], len(recording.episode))
        for position, (first, last) in enumerate(zip(begin.tolist(), end.tolist(), strict=True)):
            rows = slice(first, last)
            statistics = self.statistics.compute_episode_stats(
                {name: values[rows] for name, values in numbers.items()}, self.meta.features
            )
            for camera, images in recording.images.items():
                statistics[IMAGES + camera] = self._pixels(images[rows])
            place = {
                "data/chunk_index": 0,
                "data/file_index": self.file,
                "dataset_from_index": self.frames + first,
                "dataset_to_index": self.frames + last,
                "seed": int(recording.episode[first]),
                "mode": str(recording.mode[position]),
            }
            number = self.meta.total_episodes
            self.meta.save_episode(number, last - first, [self.task], statistics, place)
        self.frames += len(recording.episode)

    def _numbers(self, recording: Recording) -> dict[str, np.ndarray]:
        """The columns that LeRobot keeps statistics of; it does not mind that the others have none."""
        frames, begin = len(recording.episode), starts(recording.episode)
        tick = np.arange(frames) - np.repeat(begin, np.diff(np.append(begin, frames)))
        return {
            STATE: recording.state,
            ACTION: recording.action,
            "timestamp": (tick / self.meta.fps).astype(np.float32),
            "frame_index": tick,
            "episode_index": self.meta.total_episodes + np.cumsum(tick == 0) - 1,
            "index": self.frames + np.arange(frames),
            "task_index": np.zeros(frames, np.int64),
        }

    def _pixels(self, images: np.ndarray) -> dict[str, np.ndarray]:
        judged = images[np.linspace(0, len(images) - 1, IMAGES_JUDGED).astype(int), ::4, ::4]
        found = self.statistics.get_feature_stats(judged.transpose(0, 3, 1, 2), axis=(0, 2, 3), keepdims=True)
        return {name: v if name == "count" else np.squeeze(v / 255.0, 0) for name, v in found.items()}

    def _append(self, table: Any) -> None:
        path = self._path()
        if path.exists() and path.stat().st_size > FILE_SIZE:
            self._end_file()
            self.file += 1
            path = self._path()
        if self.stream is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.stream = self.parquet.ParquetWriter(path, table.schema)
        self.stream.write_table(table)

    def _path(self) -> Path:
        return self.dataset.root / "data" / "chunk-000" / f"file-{self.file:03d}.parquet"

    def _end_file(self) -> None:
        if self.stream is not None:
            self.stream.close()
            self.stream = None

    def close(self) -> None:
        """Write what is buffered."""
        self._end_file()
        self.dataset.finalize()


def _table(numbers: dict[str, np.ndarray], recording: Recording) -> Any:
    """All columns of a data file, as pyarrow holds them; a column of one number is no list."""
    arrow = need("pyarrow")

    def lists(values: np.ndarray) -> Any:
        column = arrow.array(values.ravel())
        for size in reversed(values.shape[1:]):
            column = arrow.FixedSizeListArray.from_arrays(column, size)
        return column

    chunks = np.zeros((len(recording.episode), *recording.chunks.shape[1:]), np.float32)
    chunks[recording.replanned] = recording.chunks
    committed = np.zeros(len(recording.episode), np.int64)
    committed[recording.replanned] = recording.committed
    begin = starts(recording.episode)
    lengths = np.diff(np.append(begin, len(recording.episode)))
    columns = {
        name: arrow.array(values.ravel()) if values[0].size == 1 else lists(values)
        for name, values in numbers.items()
    }
    columns[CHUNK] = lists(chunks)
    columns[COMMITTED] = arrow.array(committed)
    columns[REPLANNED] = arrow.array(recording.replanned)
    columns[SUCCESS[0]] = arrow.array(np.repeat(recording.success > 0, lengths))
    for camera, images in recording.images.items():
        with ThreadPoolExecutor() as pool:  # encoding lets other threads run
            pictures = [{"bytes": png, "path": None} for png in pool.map(_encode, images)]
        kind = arrow.struct({"bytes": arrow.binary(), "path": arrow.string()})
        columns[IMAGES + camera] = arrow.array(pictures, kind)
    return arrow.table(columns)


def _encode(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    need("PIL.Image").fromarray(image).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
