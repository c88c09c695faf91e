"""The delay `fair`: every strategy's own inference time decides how late it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import gymnasium
import torch

from rtc.errors import InvalidArgument
from rtc.process_pool import one_thread
from rtc.runtime.controller import ChunkController
from rtc.runtime.latency import ConstantDelay
from rtc.runtime.observation import History, Scene, stack
from rtc.runtime.strategies import Strategy
from rtc.serialise import read_json

FAIR = "fair"
WARM_UP, TIMES = 5, 31
"""Inferences before the clock counts, and inferences that it counts."""


def fair_delay(milliseconds: float, tick_seconds: float) -> ConstantDelay:
    """The first tick at which an inference of this many milliseconds is done."""
    return ConstantDelay(math.ceil(round(milliseconds / (1000 * tick_seconds), 9)))


def read_latencies(path: Path) -> dict[str, float]:
    """`{"strategy": milliseconds, ...}` from a JSON file; raises InvalidArgument for anything else."""
    try:
        table = read_json(path)
    except OSError as error:
        raise InvalidArgument(f"--latencies {path} cannot be read: {error.strerror}") from None
    except ValueError:
        table = None
    if not isinstance(table, dict) or not all(_is_latency(value) for value in table.values()):
        raise InvalidArgument(
            f'--latencies {path} is no table of latencies; write {{"naive": 3.2, ...}}, milliseconds'
        )
    return {label: float(value) for label, value in table.items()}


def _is_latency(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def measure_latency(
    strategy: Strategy, make_env: Callable[[], gymnasium.Env], robots: int = 1, times: int = TIMES
) -> float:
    """Milliseconds of one inference for so many robots at once: a median, on one thread, after warm-up."""
    with one_thread():
        return 1000 * median(try_out(strategy, make_env, WARM_UP + times, robots)[WARM_UP:])


def try_out(
    strategy: Strategy, make_env: Callable[[], gymnasium.Env], times: int, robots: int = 1
) -> list[float]:
    """Infer so often for robots in the middle of the same first chunk; the seconds that each took.

    What is guided has a plan to agree with; what cannot run here raises what it would in an episode.
    """
    generator, seconds = torch.Generator().manual_seed(0), []
    with closing(make_env()) as env:
        history = History(strategy.history)
        history.see(env.reset(seed=0)[0])
        seen = [history.obs] * robots
        obs: Any = [Scene(env, each) for each in seen] if strategy.privileged else stack(seen)
        shape = (robots, strategy.horizon, *(env.action_space.shape or ()))
        chunks, _ = strategy(obs, [None] * robots, torch.randn(shape, generator=generator))
        controller = ChunkController(chunks[0])
        for _ in range(strategy.horizon // 4):
            controller.next_action()
        longest = strategy.horizon if strategy.max_delay is None else strategy.max_delay
        request = controller.request(min(strategy.horizon // 4, longest))
        for _ in range(times):
            noise, start = torch.randn(shape, generator=generator), perf_counter()
            strategy(obs, [request] * robots, noise)
            seconds.append(perf_counter() - start)
    return seconds
