"""Demonstrations on disk: a folder of shards, and a manifest that says how they were made.

```
DIR/manifest.json              task, recipe, seeds, versions; written first: a resumed run compares
DIR/shard-00000.safetensors    obs [n, obs_dim], chunks [n, horizon, action_dim], episode [n],
                               success [episodes]
```
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from rtc.errors import DatasetError
from rtc.serialise import read_json, whole_file

MANIFEST = "manifest.json"


@dataclass
class Demonstrations:
    """One row per replanning instant: what was seen, the chunk that belongs to it, the episode it came from.

    `success` has one number per episode, 1 or 0.
    """

    obs: Float[np.ndarray, "n obs_dim"]
    chunks: Float[np.ndarray, "n horizon action_dim"]
    episode: Int[np.ndarray, " n"]
    success: Float[np.ndarray, " episodes"]

    @staticmethod
    def concatenate(parts: list[Demonstrations]) -> Demonstrations:
        """All rows of `parts`, in order."""
        names = [field.name for field in fields(Demonstrations)]
        return Demonstrations(
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        )


def shard_path(folder: Path, index: int) -> Path:
    """The file of shard `index`."""
    return folder / f"shard-{index:05d}.safetensors"


def write_shard(folder: Path, index: int, demonstrations: Demonstrations) -> None:
    """Write one shard; it is there whole or not at all."""
    arrays = {field.name: getattr(demonstrations, field.name) for field in fields(demonstrations)}
    with whole_file(shard_path(folder, index)) as temporary:
        save_file(arrays, temporary)


def read_demonstrations(folder: Path, task: str | None = None) -> tuple[Demonstrations, dict[str, Any]]:
    """All shards of a data set and its manifest.

    Raises DatasetError when the folder is not a finished data set, is damaged, or was made for another task.
    """
    manifest = _read_manifest(folder / MANIFEST)
    if task is not None and manifest["task"] != task:
        raise DatasetError(
            f"{folder} holds demonstrations of {manifest['task']}, not of {task}; pass --task or --data"
        )
    count = manifest["shards"]
    missing = [index for index in range(count) if not shard_path(folder, index).exists()]
    if missing:
        raise DatasetError(
            f"{folder} lacks {len(missing)} of {count} shards; "
            "give the same `rtc demos` command again to finish it"
        )
    parts = []
    for index in range(count):
        try:
            parts.append(Demonstrations(**load_file(shard_path(folder, index))))
        except (SafetensorError, TypeError) as error:
            raise DatasetError(
                f"{shard_path(folder, index)} is damaged ({error}); "
                "delete it and give the same `rtc demos` command again"
            ) from error
    return Demonstrations.concatenate(parts), manifest


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = read_json(path)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} is missing or damaged ({error}); record it with `rtc demos`") from error
    shards = manifest.get("shards") if isinstance(manifest, dict) and "task" in manifest else None
    if not isinstance(shards, int) or shards < 1:
        raise DatasetError(f"{path} does not say its task and shards; record it with `rtc demos`")
    return manifest
