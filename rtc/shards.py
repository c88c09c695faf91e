"""A recording on disk as shards, one safetensors file each.

```
DIR/shard-00000.safetensors    state, action, episode, replanned, chunks, committed, success,
                               images.<camera>; the modes in the file's header
```
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from rtc.demonstrations import Recording
from rtc.errors import DatasetError
from rtc.serialise import whole_file

ARRAYS = tuple(field.name for field in fields(Recording) if field.name not in ("mode", "images"))
IMAGES = "images."


def shard_path(folder: Path, index: int) -> Path:
    """The file of shard `index`."""
    return folder / f"shard-{index:05d}.safetensors"


def missing_shards(folder: Path, count: int) -> list[int]:
    """Which of `count` shards are not there yet."""
    return [index for index in range(count) if not shard_path(folder, index).exists()]


def write_shard(folder: Path, index: int, recording: Recording) -> None:
    """Write one shard; it is there whole or not at all. Raises DatasetError if the disk does not take it."""
    arrays = {name: getattr(recording, name) for name in ARRAYS}
    arrays |= {IMAGES + camera: images for camera, images in recording.images.items()}
    path = shard_path(folder, index)
    try:
        with whole_file(path) as temporary:
            save_file(arrays, temporary, {"mode": json.dumps(recording.mode.tolist())})
    except (OSError, SafetensorError) as error:
        raise not_written(path, error) from error


def not_written(path: Path, error: Exception) -> DatasetError:
    """What to say when the disk did not take `path`: what is full, and how to go on."""
    return DatasetError(
        f"{path} could not be written ({error}); what is finished is kept: make room in "
        f"{path.parent}, or copy it to a larger disk, and give the same `rtc demos` command again"
    )


def read_shard(folder: Path, index: int) -> Recording:
    """One shard. Raises DatasetError, with its name, when it is damaged."""
    path = shard_path(folder, index)
    try:
        with safe_open(path, "numpy") as file:
            images = {
                name.removeprefix(IMAGES): file.get_tensor(name)
                for name in file.keys()  # noqa: SIM118 (it is no dictionary)
                if name.startswith(IMAGES)
            }
            arrays = {name: file.get_tensor(name) for name in ARRAYS}
            mode = np.array(json.loads(file.metadata()["mode"]), dtype=str)
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise DatasetError(
            f"{path} is damaged ({error}); delete it and give the same `rtc demos` command again"
        ) from error
    return Recording(**arrays, mode=mode, images=images)
