"""Demonstrations on disk: a folder, a manifest that says how they were made, and one reader for both forms.

```
DIR/manifest.json       task, expert, recipe, seeds, versions; written first: a resumed recording compares
DIR/shard-*.safetensors the plain form (rtc/shards.py), or
DIR/data, DIR/meta      a LeRobotDataset v3 (rtc/lerobot_dataset.py), ours or anybody's
```
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rtc.demonstrations import Demonstrations, Frames, Recording
from rtc.errors import DatasetError, InvalidArgument, Unsupported
from rtc.lerobot_dataset import chosen, is_lerobot, read_lerobot, read_lerobot_frames
from rtc.serialise import read_json
from rtc.shards import missing_shards, read_shard

MANIFEST = "manifest.json"


def read_demonstrations(
    folder: Path,
    task: str | None = None,
    *,
    horizon: int | None = None,
    history: int = 1,
    cameras: Sequence[str] | None = None,
) -> tuple[Demonstrations, dict[str, Any]]:
    """A data set and its manifest, from a plain folder or a LeRobotDataset v3.

    horizon: actions in a chunk. Recorded chunks have a length, and can be cut; where a LeRobot data set has
    none they are the next `horizon` (default 16) actions of every frame. history: observations in a row, see
    `Demonstrations`. cameras: whose images are read, all by default; `()` where none are looked at saves
    time and memory. A LeRobot data set without our manifest is taken to be of `task`.
    Raises DatasetError when the folder is not a finished data set, is damaged, lacks what is asked for, or
    was made for another task; InvalidArgument for a horizon or a history below 1.
    """
    for name, value in (("horizon", horizon), ("history", history)):
        if value is not None and value < 1:
            raise InvalidArgument(f"{name} is {value}; it is 1 or more")
    manifest = _manifest_of(folder, task)
    if is_lerobot(folder):
        demonstrations, info = read_lerobot(folder, horizon, history, cameras)
    else:
        demonstrations, info = _read_shards(folder, manifest["shards"], history, cameras), {}
    return _cut(demonstrations, horizon, folder), info | manifest


def read_frames(folder: Path, task: str | None = None) -> tuple[Frames, dict[str, Any]]:
    """Every tick of a data set, without images, and its manifest, from either form.

    task: as `read_demonstrations` takes it. Raises DatasetError as that does.
    """
    manifest = _manifest_of(folder, task)
    if is_lerobot(folder):
        return read_lerobot_frames(folder), manifest
    _check_shards(folder, manifest["shards"])
    shards = (read_shard(folder, index) for index in range(manifest["shards"]))
    return Frames.concatenate([Frames(each.state, each.action, each.episode) for each in shards]), manifest


def _manifest_of(folder: Path, task: str | None) -> dict[str, Any]:
    foreign = is_lerobot(folder) and not (folder / MANIFEST).exists()
    manifest: dict[str, Any] = {"task": task} if foreign else _read_manifest(folder / MANIFEST)
    if task is not None and manifest["task"] != task:
        raise DatasetError(
            f"{folder} holds demonstrations of {manifest['task']}, not of {task}; pass --task or --data"
        )
    return manifest


def read_recording(folder: Path, task: str) -> tuple[Recording, dict[str, Any]]:
    """Every tick of the plain form with the labels, without images, and its manifest.

    Raises DatasetError as `read_demonstrations`, Unsupported for a LeRobotDataset.
    """
    if is_lerobot(folder):
        raise Unsupported(
            f"{folder} is a LeRobotDataset, of which only the labelled ticks are read; "
            "record the plain form: rtc demos --format plain"
        )
    manifest = _read_manifest(folder / MANIFEST)
    if manifest["task"] != task:
        raise DatasetError(f"{folder} holds demonstrations of {manifest['task']}, not of {task}; pass --data")
    _check_shards(folder, manifest["shards"])
    parts = [read_shard(folder, index) for index in range(manifest["shards"])]
    for part in parts:
        part.images = {}
    return Recording.concatenate(parts), manifest


def _check_shards(folder: Path, count: int) -> None:
    missing = missing_shards(folder, count)
    if missing:
        raise DatasetError(
            f"{folder} lacks {len(missing)} of {count} shards; "
            "give the same `rtc demos` command again to finish it"
        )


def _read_shards(folder: Path, count: int, history: int, cameras: Sequence[str] | None) -> Demonstrations:
    _check_shards(folder, count)
    parts = []
    for index in range(count):
        shard = read_shard(folder, index)
        names = chosen(cameras, list(shard.images), folder)
        shard.images = {camera: shard.images[camera] for camera in names}
        parts.append(shard.demonstrations(history))
    return Demonstrations.concatenate(parts)


def _cut(demonstrations: Demonstrations, horizon: int | None, folder: Path) -> Demonstrations:
    recorded = demonstrations.chunks.shape[1]
    if horizon is None or horizon == recorded:
        return demonstrations
    if horizon > recorded:
        raise DatasetError(
            f"{folder} holds chunks of {recorded} actions, not of {horizon}; ask for fewer or record it again"
        )
    demonstrations.chunks = demonstrations.chunks[:, :horizon].copy()
    return demonstrations


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = read_json(path)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} is missing or damaged ({error}); record it with `rtc demos`") from error
    shards = manifest.get("shards") if isinstance(manifest, dict) and "task" in manifest else None
    if not isinstance(shards, int) or shards < 1:
        raise DatasetError(f"{path} does not say its task and shards; record it with `rtc demos`")
    return manifest
