"""LeRobotDataset v3 folders, ours or anybody's, as demonstrations.

```
DIR/data/chunk-000/file-000.parquet    a row a tick: observation.state, action, observation.images.<camera>
DIR/videos/<camera>/chunk-000/...      or the pictures as videos
DIR/meta/info.json                     features with their shapes, rates, totals
DIR/meta/episodes/chunk-000/...        where each episode lies; in ours also its seed and mode
```

Ours have four more columns: `replanned` says whether a tick has a label, `expert.chunk`
[horizon, action_dim] holds it (zeros elsewhere), `expert.committed` how many of its rows were committed
before the expert had a say, and `success` repeats how the episode ends. (A name that
begins with "action" would have LeRobot's policies predict the label.)
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8

from rtc.demonstrations import Demonstrations, Frames, chunks_ahead, observe, starts
from rtc.errors import DatasetError, Unsupported
from rtc.serialise import read_json

INFO = Path("meta", "info.json")
STATE, ACTION, IMAGES = "observation.state", "action", "observation.images."
MOTION = (STATE, ACTION, "episode_index")
REPLANNED, CHUNK, COMMITTED = "replanned", "expert.chunk", "expert.committed"
SUCCESS = ("success", "next.success")  # ours, LeRobot's
DEFAULT_HORIZON = 16  # of data sets without labels


def is_lerobot(folder: Path) -> bool:
    """Whether `folder` holds a LeRobotDataset."""
    return (folder / INFO).exists()


def need(module: str) -> Any:
    """The module, which comes with the extra; raises Unsupported where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Unsupported(
            f"LeRobot data sets need {error.name}, which is not installed: pip install 'rtc[lerobot]'"
        ) from error


class LeRobotFolder:
    """What a LeRobotDataset folder holds, column by column; nothing is walked through row by row.

    Raises DatasetError when it is of another version, damaged, or lacks `observation.state` or `action`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.info = dict(read_json(folder / INFO))
            version, self.features = self.info["codebase_version"], dict(self.info["features"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DatasetError(f"{folder / INFO} is damaged ({error!r})") from error
        if not version.startswith("v3."):
            raise DatasetError(
                f"{folder} is a LeRobotDataset {version}; v3 is read: "
                "convert it with lerobot.datasets.v30.convert_dataset_v21_to_v30"
            )
        for name in (STATE, ACTION):
            if name not in self.features:
                raise DatasetError(f"{folder} has no {name!r}; its features are {', '.join(self.features)}")
        self.cameras = [
            name.removeprefix(IMAGES)
            for name, feature in self.features.items()
            if feature["dtype"] in ("image", "video")
        ]

    def table(self, part: str, columns: Sequence[str], **scan: Any) -> Any:
        """These columns of all files of "data" or "meta/episodes", in order, as a pyarrow table."""
        files = sorted((self.folder / part).glob("*/*.parquet"))
        if not files:
            raise DatasetError(f"{self.folder / part} holds no parquet files; copy or record it again")
        arrow = need("pyarrow")
        try:
            found = need("pyarrow.dataset").dataset([str(file) for file in files], format="parquet")
            known = [name for name in columns if name in found.schema.names]
            return found.to_table(columns=known, **scan)
        except (OSError, arrow.ArrowException) as error:
            raise DatasetError(
                f"{self.folder / part} is damaged ({error}); copy or record it again"
            ) from error

    def numbers(self, table: Any, name: str) -> Shaped[np.ndarray, "rows ..."]:
        """A column with the shape that info.json gives it; DatasetError if that is not so, or not finite."""
        if name not in table.column_names:
            raise DatasetError(f"{self.folder}/data lacks {name!r}, which its info.json promises")
        shape = tuple(self.features[name]["shape"])
        flat = [_flat(piece) for piece in table[name].chunks]
        values = np.concatenate(flat) if flat else np.zeros(0)
        if values.size != table.num_rows * int(np.prod(shape)):
            raise DatasetError(
                f"{self.folder}: {name} has rows of another shape than {shape}, or missing ones"
            )
        values = values.reshape(table.num_rows, *(() if shape == (1,) else shape))
        if not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0][0])
            raise DatasetError(f"{self.folder}: {name} is not finite in row {row}; repair or leave it out")
        return values

    def images(self, camera: str, rows: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, "n height width 3"]:
        """What `camera` saw at these rows."""
        name = IMAGES + camera if IMAGES + camera in self.features else camera
        if self.features[name]["dtype"] == "video":
            return self._frames(name, rows)
        stored = self.table("data", [name])[name].combine_chunks().take(need("pyarrow").array(rows))
        with ThreadPoolExecutor() as pool:  # decoding lets other threads run
            return np.stack(list(pool.map(_decode, stored.field("bytes").to_pylist())))

    def _frames(self, name: str, rows: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, "n height width 3"]:
        place = [f"videos/{name}/{what}" for what in ("chunk_index", "file_index", "from_timestamp")]
        places = self.table("meta/episodes", ["episode_index", *place]).to_pandas().set_index("episode_index")
        frames = self.table("data", ["episode_index", "timestamp"])
        episode, timestamp = (frames[column].to_numpy()[rows] for column in ("episode_index", "timestamp"))
        chunk, file, begin = (places.loc[episode, column].to_numpy() for column in place)
        pictures: list[Any] = [None] * len(rows)
        for number in sorted(set(zip(chunk.tolist(), file.tolist(), strict=True))):
            path = self.info["video_path"].format(video_key=name, chunk_index=number[0], file_index=number[1])
            here = np.flatnonzero((chunk == number[0]) & (file == number[1]))
            self._decode_video(self.folder / path, begin[here] + timestamp[here], here, pictures)
        return np.stack(pictures)

    def _decode_video(
        self,
        path: Path,
        times: Float[np.ndarray, " n"],
        rows: Int[np.ndarray, " n"],
        pictures: list[Any],
    ) -> None:
        """Write the frames at `times` (seconds, ascending) to these places in `pictures`."""
        early, done = 0.5 / self.info["fps"], 0
        try:
            with need("av").open(str(path)) as video:
                for frame in video.decode(video=0):
                    while done < len(times) and frame.time > times[done] - early:
                        pictures[rows[done]] = frame.to_ndarray(format="rgb24")
                        done += 1
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path} is damaged ({error}); copy or record it again") from error
        if done < len(times):
            raise DatasetError(f"{path} ends {len(times) - done} frames too early; copy or record it again")


def _flat(piece: Any) -> np.ndarray:
    piece = getattr(piece, "storage", piece)  # of LeRobot's multi-dimensional columns, when they are known
    while hasattr(piece, "flatten") and "list" in str(piece.type):
        piece = piece.flatten()
    return piece.to_numpy(zero_copy_only=False)


def _decode(png: bytes) -> np.ndarray:
    return np.asarray(need("PIL.Image").open(io.BytesIO(png)).convert("RGB"))


def read_lerobot(
    folder: Path, horizon: int | None, history: int, cameras: Sequence[str] | None
) -> tuple[Demonstrations, dict[str, Any]]:
    """Demonstrations, and what the folder says of itself; see `read_demonstrations`.

    Where there are labels, they and their frames; else the next `horizon` actions of every frame, with
    `valid`. An episode that does not say whether it succeeded counts as a success. Raises DatasetError.
    """
    source = LeRobotFolder(folder)
    success = next((name for name in SUCCESS if name in source.features), None)
    labelled = {REPLANNED, CHUNK, COMMITTED} <= source.features.keys()
    frames = source.table("data", [*MOTION, REPLANNED, *([success] if success else [])])
    state, action, index = _motion(source, frames)
    valid = committed = None
    if labelled:
        rows = np.flatnonzero(source.numbers(frames, REPLANNED))
        wanted = need("pyarrow.dataset").field(REPLANNED)
        labels = source.table("data", [CHUNK, COMMITTED], filter=wanted)
        chunks = source.numbers(labels, CHUNK).astype(np.float32)
        committed = source.numbers(labels, COMMITTED)
    else:
        rows = np.arange(len(index))
        chunks, valid = chunks_ahead(action, index, horizon or DEFAULT_HORIZON)
    first = starts(index)
    succeeded = np.logical_or.reduceat(source.numbers(frames, success) > 0, first) if success else first >= 0
    demonstrations = Demonstrations(
        obs=observe(state, index, rows, history),
        chunks=chunks,
        episode=_seeds(source, index[first])[np.searchsorted(index[first], index[rows])],
        success=succeeded.astype(np.float32),
        images={camera: source.images(camera, rows) for camera in chosen(cameras, source.cameras, folder)},
        valid=valid,
        committed=committed,
    )
    return demonstrations, {"episodes": len(first), "fps": source.info["fps"], "chunks": len(rows)}


def read_lerobot_frames(folder: Path) -> Frames:
    """Every tick, without images; an episode is called by its seed where that is known."""
    source = LeRobotFolder(folder)
    state, action, index = _motion(source, source.table("data", MOTION))
    first = index[starts(index)]
    return Frames(state, action, _seeds(source, first)[np.searchsorted(first, index)])


def _motion(source: LeRobotFolder, frames: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """State [frames, obs_dim], action [frames, action_dim] and episode [frames] of a table with MOTION."""
    state, action = (source.numbers(frames, name).astype(np.float32) for name in (STATE, ACTION))
    index = frames["episode_index"].to_numpy()
    if not len(index) or (np.diff(index) < 0).any():
        raise DatasetError(f"{source.folder}/data holds no frames, or episodes that are not in order")
    return state.reshape(len(state), -1), action.reshape(len(action), -1), index


def chosen(cameras: Sequence[str] | None, known: Sequence[str], folder: Path) -> Sequence[str]:
    """The cameras to read, all for None; DatasetError for one that was not recorded."""
    for camera in cameras or ():
        if camera not in known:
            raise DatasetError(f"{folder} has no camera {camera!r}; it has {', '.join(known) or 'none'}")
    return known if cameras is None else cameras


def _seeds(source: LeRobotFolder, episodes: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """What each episode was drawn from where it is known, else its number."""
    table = source.table("meta/episodes", ["seed"])
    return table["seed"].to_numpy() if table.num_columns else episodes
