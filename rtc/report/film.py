"""Films: one episode seen by the camera, with what the robot plans drawn into the scene."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import UInt8

from rtc.runtime.controller import ChunkController
from rtc.runtime.latency import DelayModel
from rtc.sweep import Record, Shard, run_shard


@dataclass(frozen=True, eq=False)
class Film:
    """The pictures of one episode, one before every tick and one after the last, and how it went.

    record: the episode's numbers (`rtc.sweep.episode_record`).
    """

    strategy: str
    delay: DelayModel
    tick_seconds: float
    record: Record
    frames: list[UInt8[np.ndarray, "height width 3"]] = field(repr=False)

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
    """Run `shard` again, all of it, and film one seed of it: to the bit the episode that was measured.

    make_env: as the cell's, but with render_mode "rgb_array". An env with draw_plan and predict_positions is
    shown with its plan.
    Raises RenderUnavailable.
    """
    filmed = shard.seeds.index(seed)
    frames: list[np.ndarray] = []

    def on_tick(index: int, env: gymnasium.Env, controller: ChunkController) -> None:
        if index == filmed:
            frames.append(_picture(env.unwrapped, controller))

    result = run_shard(
        shard, lambda other: make_env() if other == seed else shard.cell.make_env(), on_tick=on_tick
    )
    with closing(make_env()) as env:
        if not frames:  # the first chunk was refused: there is the start to show
            env.reset(seed=seed)
            frames.append(_render(env))
        tick_seconds = 1 / float(env.metadata["control_hz"])
    return Film(strategy, shard.cell.delay, tick_seconds, result.episodes[filmed], frames)


def _picture(env: Any, controller: ChunkController) -> np.ndarray:
    if hasattr(env, "draw_plan"):
        plan, frozen = controller.plan, len(controller.frozen)
        positions = env.predict_positions(plan)
        env.draw_plan(positions[frozen:], positions[:frozen])
    return _render(env)


def _render(env: Any) -> np.ndarray:
    return np.asarray(env.render())
