"""A Rerun recording (.rrd) of an episode: what was seen, planned, frozen and done, tick by tick.

```
STRATEGY/observation      scalars: what the policy saw
STRATEGY/action           scalars: what was executed at this tick
STRATEGY/plan             tensor [rows, D]: what will run if nothing arrives
STRATEGY/frozen           tensor [rows, D]: the first rows of it, promised to the inference in flight
STRATEGY/position/...     points, metres: now, planned, frozen
STRATEGY/events/...       text: request, delivery
STRATEGY/delay            scalar, at a delivery: the counted ticks
STRATEGY/camera/...       pictures
```

Time lines: `tick`, and `time` in seconds. Actions are in the units of the environment.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from jaxtyping import Float, UInt8

from rtc.report.film import watch
from rtc.runtime.controller import ChunkController
from rtc.runtime.episode import Episode
from rtc.runtime.observation import STATE, Observation
from rtc.serialise import whole_file
from rtc.sweep import Shard

if TYPE_CHECKING:
    from rerun import RecordingStream

APPLICATION = "rtc"
JPEG_QUALITY = 80
RADIUS = 0.006  # metres, of a point
HERE = {"now": (0.35, 0.35, 0.35)}


@dataclass(frozen=True, eq=False)
class Moment:
    """One tick when its plan was settled, before it acted; actions in env units, places in metres.

    plan: what would run if nothing arrived; its first `frozen` rows are promised to the inference in flight.
    places: of the hand after each row of the plan, or None; picture: or None.
    """

    obs: Observation
    plan: Float[np.ndarray, "rows action_dim"]
    frozen: int
    places: Float[np.ndarray, "rows 3"] | None
    picture: UInt8[np.ndarray, "height width 3"] | None


@dataclass(frozen=True, eq=False)
class Recording:
    """An episode and all its moments, one before every tick and one after the last.

    observed, commanded: the names of the numbers of an observation and of an action, [] if unknown.
    colours: of the places, red, green and blue from 0 to 1.
    """

    strategy: str
    tick_seconds: float
    observed: list[str]
    commanded: list[str]
    colours: Mapping[str, Sequence[float]]
    episode: Episode
    moments: list[Moment] = field(repr=False)


class _Remembering(gymnasium.Wrapper):
    """An env that remembers what it showed last."""

    obs: Any = None

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        self.obs, info = super().reset(**arguments)
        return self.obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        step = super().step(action)
        self.obs = step[0]
        return step


def record(strategy: str, shard: Shard, seed: int, make_env: Callable[[], gymnasium.Env]) -> Recording:
    """Record one seed of `shard`: to the bit the episode that was measured.

    make_env: as the cell's, with render_mode "rgb_array" if there shall be pictures.
    """
    moments: list[Moment] = []

    def on_tick(env: gymnasium.Env, controller: ChunkController) -> None:
        assert isinstance(env, _Remembering)
        moments.append(_moment(env, controller))

    episode = watch(shard, seed, lambda: _Remembering(make_env()), on_tick)
    env = make_env()
    card, tick_seconds = env.metadata.get("card"), 1 / float(env.metadata["control_hz"])
    colours = HERE | getattr(env.unwrapped, "plan_colours", {})
    env.close()
    observed = [
        f"{sensor['name']} {part}".strip() if sensor["size"] > 1 else sensor["name"]
        for sensor in (card["sensors"] if card else [])
        for part in range(sensor["size"])
    ]
    commanded = list(card["action"]["actuators"]) if card else []
    return Recording(strategy, tick_seconds, observed, commanded, colours, episode, moments)


def _moment(env: _Remembering, controller: ChunkController) -> Moment:
    task: Any = env.unwrapped
    places = task.predict_positions(controller.plan) if hasattr(task, "predict_positions") else None
    picture = np.asarray(env.render()) if env.render_mode == "rgb_array" else None
    return Moment(env.obs, controller.plan.copy(), len(controller.frozen), places, picture)


def write_recordings(recordings: Sequence[Recording], path: Path) -> None:
    """Write them side by side into one .rrd file, whole or not at all. Wants the extra [rerun]."""
    import rerun

    with whole_file(path) as temporary:
        stream = rerun.RecordingStream(APPLICATION)
        stream.save(temporary)
        for recording in recordings:
            _write(stream, recording)
        stream.flush()
        stream.disconnect()


def _write(stream: RecordingStream, recording: Recording) -> None:
    import rerun

    root, episode = recording.strategy, recording.episode
    for name, names in (("observation", recording.observed), ("action", recording.commanded)):
        if names:
            stream.log([root, name], rerun.SeriesLines(names=names), static=True)
    for tick, moment in enumerate(recording.moments):
        _at(stream, recording, tick)
        _write_seen(stream, root, moment)
        for name, rows in (("plan", moment.plan), ("frozen", moment.plan[: moment.frozen])):
            stream.log([root, name], rerun.Tensor(rows, dim_names=("row", "action")))
        if moment.places is not None:
            _write_places(stream, recording, "planned", moment.places[moment.frozen :])
            _write_places(stream, recording, "frozen", moment.places[: moment.frozen])
        if tick < episode.ticks:
            stream.log([root, "action"], rerun.Scalars(episode.actions[tick]))
        if episode.positions is not None and tick < len(episode.positions):
            _write_places(stream, recording, "now", episode.positions[tick : tick + 1])
    for chunk in episode.chunks[1:]:  # the first was free, and nobody asked for it
        frozen = f"planned delay {chunk.inference_delay}, {len(chunk.frozen)} rows frozen"
        _at(stream, recording, chunk.request_tick)
        stream.log([root, "events", "request"], rerun.TextLog(frozen))
        _at(stream, recording, chunk.delivery_tick)
        joined = f"delay {chunk.delay}, from row {chunk.first_row} on"
        stream.log([root, "events", "delivery"], rerun.TextLog(joined))
        stream.log([root, "delay"], rerun.Scalars(chunk.delay))


def _at(stream: RecordingStream, recording: Recording, tick: int) -> None:
    stream.set_time("tick", sequence=tick)
    stream.set_time("time", duration=tick * recording.tick_seconds)


def _write_seen(stream: RecordingStream, root: str, moment: Moment) -> None:
    import rerun

    images = dict(moment.obs) if isinstance(moment.obs, dict) else {STATE: moment.obs}
    stream.log([root, "observation"], rerun.Scalars(images.pop(STATE)))
    if moment.picture is not None:
        images["film"] = moment.picture
    for name, image in images.items():
        jpeg = rerun.EncodedImage(contents=_jpeg(image), media_type="image/jpeg")
        stream.log([root, "camera", name], jpeg)


def _write_places(stream: RecordingStream, recording: Recording, name: str, places: np.ndarray) -> None:
    import rerun

    points = rerun.Points3D(places, colors=[recording.colours[name]], radii=RADIUS)
    stream.log([recording.strategy, "position", name], points)


def _jpeg(picture: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()
