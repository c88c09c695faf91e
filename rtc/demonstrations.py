"""What is recorded of an expert, and what a policy learns from it.

```
ticks       0 1 2 3 4 5 6 7 8 9       state, action, images: what was seen, and what was executed then
replanned   x     x         x x       where a chunk was labelled
chunks      [ 16 ][ 16 ]    [ 16 ]    the labels
committed   0     3         2         their rows that were committed before
```
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8

Images = dict[str, UInt8[np.ndarray, "_ _ _ 3"]]
"""Pictures [n, height, width, 3] by the camera's name."""
Part = TypeVar("Part")


@dataclass
class Demonstrations:
    """One row per labelled instant: what was seen, the chunk that belongs to it, the episode it came from.

    obs: float32 [n, obs_dim], or the last `history` of them [n, history, obs_dim], oldest first.
    chunks: action units. success: one number per episode, 1 or 0, in the order of their appearance.
    images: what each camera saw at the same instants. valid: which rows of a chunk were recorded; the others
    repeat the last one. None: all were. committed: how many rows each chunk begins with that were committed
    before the expert had a say. None: none were.
    """

    obs: Float[np.ndarray, "n *history obs_dim"]
    chunks: Float[np.ndarray, "n horizon action_dim"]
    episode: Int[np.ndarray, " n"]
    success: Float[np.ndarray, " episodes"]
    images: Images = field(default_factory=dict)
    valid: Bool[np.ndarray, "n horizon"] | None = None
    committed: Int[np.ndarray, " n"] | None = None

    @staticmethod
    def concatenate(parts: list[Demonstrations]) -> Demonstrations:
        """All rows of `parts`, in order."""
        return _concatenate(parts)


@dataclass
class Recording:
    """Episodes as they were executed, one frame a tick, and the chunks that the expert gave on the way.

    episode: which one each frame belongs to (its seed). replanned: the frames that have a chunk, in the order
    of `chunks`. committed: the rows that each chunk begins with before the expert has a say.
    success, mode: one per episode, in order; mode is what the expert calls what it chose.
    """

    state: Float[np.ndarray, "frames obs_dim"]
    action: Float[np.ndarray, "frames action_dim"]
    episode: Int[np.ndarray, " frames"]
    replanned: Bool[np.ndarray, " frames"]
    chunks: Float[np.ndarray, "n horizon action_dim"]
    committed: Int[np.ndarray, " n"]
    success: Float[np.ndarray, " episodes"]
    mode: Shaped[np.ndarray, " episodes"]
    images: Images = field(default_factory=dict)

    @staticmethod
    def concatenate(parts: list[Recording]) -> Recording:
        """All episodes of `parts`, in order."""
        return _concatenate(parts)

    def demonstrations(self, history: int = 1) -> Demonstrations:
        """The labelled frames alone; see `observe` for `history`."""
        rows = np.flatnonzero(self.replanned)
        return Demonstrations(
            obs=observe(self.state, self.episode, rows, history),
            chunks=self.chunks,
            episode=self.episode[rows],
            success=self.success,
            images={camera: images[rows] for camera, images in self.images.items()},
            committed=self.committed,
        )


@dataclass
class Frames:
    """Episodes as they were executed, one row a tick: what was observed, and the action that ran then.

    episode: which one each frame belongs to; the frames of an episode lie together.
    """

    state: Float[np.ndarray, "frames obs_dim"]
    action: Float[np.ndarray, "frames action_dim"]
    episode: Int[np.ndarray, " frames"]

    @staticmethod
    def concatenate(parts: list[Frames]) -> Frames:
        """All episodes of `parts`, in order."""
        return _concatenate(parts)

    def windows(self, length: int) -> Int[np.ndarray, " n"]:
        """The first rows of all windows of `length` frames in a row of one episode; they overlap."""
        rows = np.arange(len(self.episode))
        return rows[rows + length - 1 <= _last(self.episode)]


def expert_actions(
    recording: Recording,
) -> tuple[Float[np.ndarray, "frames action_dim"], Bool[np.ndarray, " frames"]]:
    """What the expert does at every frame according to the last label, and where it is known.

    ```
    label       c c c X X X X X       c: committed before the expert had a say
    frames      - - - x x x ~ ~       -: not the expert's; ~: something else ran than what was labelled
    ```
    """
    frames, labelled = np.arange(len(recording.episode)), np.flatnonzero(recording.replanned)
    label = np.searchsorted(labelled, frames, side="right") - 1
    since = frames - labelled[np.maximum(label, 0)]
    known = (label >= 0) & (since >= recording.committed[label]) & (since < recording.chunks.shape[1])
    known &= recording.episode[labelled[np.maximum(label, 0)]] == recording.episode
    actions = recording.chunks[label, np.minimum(since, recording.chunks.shape[1] - 1)]
    followed = (actions == recording.action).all(1)
    return actions, known & (followed | (since == 0))


def starts(episode: Int[np.ndarray, " frames"]) -> Int[np.ndarray, " episodes"]:
    """The first frame of each episode; the frames of an episode lie together."""
    return np.flatnonzero(np.concatenate([[True], episode[1:] != episode[:-1]])[: len(episode)])


def observe(
    state: Float[np.ndarray, "frames obs_dim"],
    episode: Int[np.ndarray, " frames"],
    rows: Int[np.ndarray, " n"],
    history: int,
) -> Float[np.ndarray, "n *history obs_dim"]:
    """The observations at `rows`; with `history` > 1 the last so many, oldest first.

    What would lie before an episode repeats its first observation.
    """
    if history == 1:
        return state[rows]
    beginning = starts(episode)
    first = beginning[np.searchsorted(beginning, rows, side="right") - 1]
    return state[np.maximum(rows[:, None] + np.arange(1 - history, 1), first[:, None])]


def chunks_ahead(
    action: Float[np.ndarray, "frames action_dim"], episode: Int[np.ndarray, " frames"], horizon: int
) -> tuple[Float[np.ndarray, "frames horizon action_dim"], Bool[np.ndarray, "frames horizon"]]:
    """The next `horizon` actions from every frame on, and which of them lie within its episode.

    What would lie after the episode repeats its last action.
    """
    last = _last(episode)[:, None]
    ahead = np.arange(len(episode))[:, None] + np.arange(horizon)
    return action[np.minimum(ahead, last)], ahead <= last


def _last(episode: Int[np.ndarray, " frames"]) -> Int[np.ndarray, " frames"]:
    """For each frame the last one of its episode."""
    beginning = starts(episode)
    end = np.append(beginning[1:], len(episode))
    return np.repeat(end - 1, end - beginning)


def _concatenate(parts: list[Part]) -> Part:
    kind: Any = type(parts[0])
    return kind(**{item.name: _join([getattr(part, item.name) for part in parts]) for item in fields(kind)})


def _join(values: list[Any]) -> Any:
    if isinstance(values[0], dict):
        return {name: np.concatenate([value[name] for value in values]) for name in values[0]}
    return None if values[0] is None else np.concatenate(values)
