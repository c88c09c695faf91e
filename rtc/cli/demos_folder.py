"""The folder that `rtc demos` records into: begun, gone on with, counted, finished.

```
manifest.json, shards          while it is recorded, by any number of processes
manifest.json with its counts  finished: with the shards (plain), or data/ and meta/ made of them (LeRobot)
```
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rtc.cli.provenance import commit
from rtc.dataset import MANIFEST
from rtc.demonstrations import Recording
from rtc.errors import OutputExists
from rtc.lerobot_dataset import is_lerobot
from rtc.serialise import read_json, write_json
from rtc.shards import missing_shards, not_written, read_shard, shard_path


@dataclass
class Tally:
    """What the chunks and episodes of a data set come to, counted recording by recording."""

    chunks: int = 0
    successes: list[float] = field(default_factory=list)
    modes: Counter = field(default_factory=Counter)
    rows: int = 0
    total: Any = 0.0
    squares: Any = 0.0

    def add(self, recording: Recording) -> None:
        """Count these too."""
        self.chunks += len(recording.chunks)
        self.successes += recording.success.tolist()
        self.modes.update(recording.mode.tolist())
        rows = recording.chunks.reshape(-1, recording.chunks.shape[-1]).astype(np.float64)
        self.rows += len(rows)
        self.total += rows.sum(0)
        self.squares += np.square(rows).sum(0)

    def document(self) -> dict[str, Any]:
        """For the manifest: chunks, the share of episodes that succeeded, and episodes by what was chosen."""
        success = round(float(np.mean(self.successes)), 4)
        return {"chunks": self.chunks, "success": success, "modes": dict(sorted(self.modes.items()))}

    @property
    def variance(self) -> np.ndarray:
        """Of each number of an action over all rows of all chunks, action units squared."""
        return self.squares / self.rows - np.square(self.total / self.rows)


class DataFolder:
    """Where a data set is recorded. Raises OutputExists for a folder that is not ours, or of another recipe.

    manifest: all that decides what is recorded, as JSON can hold it. force: replace what has another one.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], force: bool) -> None:
        self.path, self.shards, self.lerobot = path, manifest["shards"], manifest["format"] == "lerobot"
        if not self._begun(manifest, force):
            for part in ("data", "meta"):
                shutil.rmtree(path / part, ignore_errors=True)
            self._remove_shards()
            self._save(manifest | {"commit": commit()})

    def _begun(self, manifest: dict[str, Any], force: bool) -> bool:
        """Whether the folder holds what this `manifest` describes, or the beginning of it."""
        if not self.path.exists() or not any(self.path.iterdir()):
            return False
        try:
            before = dict(read_json(self.path / MANIFEST))
        except (OSError, ValueError, TypeError):
            raise OutputExists(
                f"{self.path} holds something else, or a damaged {MANIFEST}; "
                "it is left alone: choose another --out"
            ) from None
        differing = [key for key, value in manifest.items() if before.get(key) != value]
        if differing and not force:
            raise OutputExists(
                f"{self.path} was recorded with another {', '.join(differing)}; "
                "choose another --out, or use --force"
            )
        return not (differing or force)  # and the manifest keeps the commit that it was begun with

    @property
    def manifest(self) -> dict[str, Any]:
        """What the folder says of itself now."""
        return read_json(self.path / MANIFEST)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return "chunks" in self.manifest and (is_lerobot(self.path) if self.lerobot else not self.missing)

    @property
    def missing(self) -> list[int]:
        """The shards that are not recorded yet."""
        return missing_shards(self.path, self.shards)

    def recordings(self) -> Iterator[Recording]:
        """All shards, one after another."""
        return (read_shard(self.path, index) for index in range(self.shards))

    def finish(self, counts: dict[str, Any]) -> None:
        """Add what was counted to the manifest; shards that a LeRobot data set was made of go."""
        self._save(self.manifest | counts)
        if self.lerobot:
            self._remove_shards()

    def _remove_shards(self) -> None:
        for shard in self.path.glob(shard_path(self.path, 0).name.replace("00000", "*")):
            shard.unlink()

    def _save(self, manifest: dict[str, Any]) -> None:
        try:
            write_json(self.path / MANIFEST, manifest)
        except OSError as error:
            raise not_written(self.path / MANIFEST, error) from error
