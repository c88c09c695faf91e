"""Films: one episode seen by the camera, with what the robot plans drawn into the scene."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import UInt8

from rtc.runtime.controller import ChunkController
from rtc.runtime.episode import Episode
from rtc.runtime.latency import DelayModel
from rtc.sweep import Record, Shard, episode_record, run_episodes


@dataclass(frozen=True, eq=False)
class Film:
    """The pictures of one episode, one before every tick and one after the last, and how it went.

    record: the episode's numbers (`rtc.sweep.episode_record`). legend: what the dots in the pictures are,
    with their colours as #RRGGBB; {} if there are none.
    """

    strategy: str
    delay: DelayModel
    tick_seconds: float
    record: Record
    frames: list[UInt8[np.ndarray, "height width 3"]] = field(repr=False)
    legend: Mapping[str, str] = field(default_factory=dict)

    @property
    def outcome(self) -> str:
        """How the episode ended, in a word or two."""
        if self.record["success"]:
            return "success"
        return "chunk not finite" if "not finite" in self.record["failure"] else self.record["failure"]

    def ended(self, index: int) -> bool:
        """Whether the episode is over at picture `index`, which may lie beyond the last."""
        return index >= len(self.frames) - 1

    def frame(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """Picture `index` >= 0; after the end the last one stays."""
        return self.frames[min(index, len(self.frames) - 1)]


def film(strategy: str, shard: Shard, seed: int, make_env: Callable[[], gymnasium.Env]) -> Film:
    """Film one seed of `shard`: to the bit the episode that was measured.

    make_env: as the cell's, but with render_mode "rgb_array". An env with draw_plan, predict_positions and
    plan_colours is shown with its plan.
    Raises RenderUnavailable.
    """
    frames: list[np.ndarray] = []
    episode = watch(
        shard, seed, make_env, lambda env, controller: frames.append(_picture(env.unwrapped, controller))
    )
    with closing(make_env()) as env:
        if not frames:  # the first chunk was refused: there is the start to show
            env.reset(seed=seed)
            frames.append(_render(env))
        tick_seconds = 1 / float(env.metadata["control_hz"])
        colours = getattr(env.unwrapped, "plan_colours", {})
    legend = {name: _hexadecimal(colour) for name, colour in colours.items()}
    return Film(strategy, shard.cell.delay, tick_seconds, episode_record(episode), frames, legend)


def watch(
    shard: Shard,
    seed: int,
    make_env: Callable[[], gymnasium.Env],
    on_tick: Callable[[gymnasium.Env, ChunkController], None],
) -> Episode:
    """Run `shard` again, all of it, and look at one seed of it, whose env `make_env` makes.

    on_tick(env, controller): as `rtc.runtime.rollout.OnTick`, of this episode alone.
    """
    watched = shard.seeds.index(seed)
    episodes, _ = run_episodes(
        shard,
        lambda other: make_env() if other == seed else shard.cell.make_env(),
        lambda index, env, controller: on_tick(env, controller) if index == watched else None,
    )
    return episodes[watched]


def first_difference(outcomes: Sequence[Sequence[bool]]) -> int | None:
    """The first place at which some of `outcomes` (a sequence a cell) succeed and some fail, or None."""
    pairs = enumerate(zip(*outcomes, strict=True))
    return next((place for place, same_seed in pairs if len(set(same_seed)) == 2), None)


def _picture(env: Any, controller: ChunkController) -> np.ndarray:
    if hasattr(env, "draw_plan"):
        plan, frozen = controller.plan, len(controller.frozen)
        positions = env.predict_positions(plan)
        env.draw_plan(positions[frozen:], positions[:frozen])
    return _render(env)


def _render(env: Any) -> np.ndarray:
    return np.asarray(env.render())


def _hexadecimal(colour: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * part):02X}" for part in colour[:3])
