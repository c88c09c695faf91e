"""The one control loop: episodes of a chunk-executing policy in an environment, one or many in lockstep.

```
one tick   deliver what is due -> infer, if it is time, with the current obs -> next_action -> env.step
           (a delay of 0 is delivered at once)                     a strategy that corrects: ^ from this obs
```

Simulated and real time differ in the clock and the executor that are passed in, in nothing else.
Source: Black, Galliker & Levine 2025 (arXiv 2506.07339), Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

import gymnasium
import numpy as np
import torch

from rtc.errors import InvalidArgument
from rtc.runtime.clock import Clock, SimClock
from rtc.runtime.controller import ChunkController, Request, Starvation
from rtc.runtime.episode import Episode, Timing
from rtc.runtime.executor import Executor, SimulatedExecutor
from rtc.runtime.lane import Answer, ExecutionHorizon, Lane, Planner
from rtc.runtime.latency import DelayModel
from rtc.runtime.observation import Scene, stack
from rtc.runtime.planning import DelayEstimator
from rtc.runtime.strategies import Strategy
from rtc.runtime.strategies.base import Correcting

OnTick = Callable[[int, gymnasium.Env, ChunkController], None]
"""on_tick(index, env, controller): when a tick's plan is settled, before it acts, and after the last."""


def rollout(
    env: gymnasium.Env,
    infer: Strategy,
    *,
    execution_horizon: ExecutionHorizon,
    delay: DelayModel,
    seed: int = 0,
    inference_delay: int | None = None,
    delay_window: int = 10,
    starvation: Starvation = "hold",
    clock: Clock | None = None,
    executor: Executor[Answer] | None = None,
    on_tick: OnTick | None = None,
) -> Episode:
    """One episode: `rollout_batch` of one."""
    episodes, _ = rollout_batch(
        [env],
        infer,
        execution_horizon=execution_horizon,
        delay=delay,
        seeds=[seed],
        inference_delay=inference_delay,
        delay_window=delay_window,
        starvation=starvation,
        clock=clock,
        executor=executor,
        on_tick=on_tick,
    )
    return episodes[0]


def rollout_batch(
    envs: Sequence[gymnasium.Env],
    infer: Strategy,
    *,
    execution_horizon: ExecutionHorizon,
    delay: DelayModel,
    seeds: Sequence[int],
    inference_delay: int | None = None,
    delay_window: int = 10,
    starvation: Starvation = "hold",
    clock: Clock | None = None,
    executor: Executor[Answer] | None = None,
    on_tick: OnTick | None = None,
) -> tuple[list[Episode], Timing]:
    """One episode an env, in lockstep: all that ask at a tick share one batched inference.

    envs: observations as in `rtc.runtime.observation`, actions in a Box of one axis, metadata["control_hz"],
        info["is_success"] and, where known, info["failure"] and info["position"] (metres). Each must end by
        itself (a time limit). `envs.outside.AnyTask` makes any Gymnasium environment one of these.
    execution_horizon: s, 1..H rows. delay: of every chunk but the first, which is free.
    seeds: one an env; an episode is a function of its seed alone, not of its neighbours.
    inference_delay: the delay to plan for, in ticks; by default what the strategy expects of the last
        `delay_window` counted ones, beginning with `delay.initial` (`rtc.runtime.planning`).
    clock, executor: simulated by default.

    A chunk or a correction that is not finite ends its episode as a failure, the others go on. Raises
    InvalidArgument.
    """
    if len(envs) != len(seeds):
        raise InvalidArgument(f"{len(envs)} envs but {len(seeds)} seeds; give one seed an env")
    timing, start = Timing(), perf_counter()
    clock = SimClock() if clock is None else clock
    executor = SimulatedExecutor(delay, clock, seeds) if executor is None else executor
    lanes = []
    for env, seed in zip(envs, seeds, strict=True):
        estimator = DelayEstimator(delay_window, delay.initial, infer.expected)
        planner = Planner(execution_horizon, inference_delay, estimator)
        lanes.append(Lane(env, seed, planner, infer))
    timing.env += perf_counter() - start
    for lane, answer in zip(lanes, _inference(infer, lanes, [None] * len(lanes), timing)(), strict=True):
        lane.begin(answer, starvation)
    alive = [index for index, lane in enumerate(lanes) if not lane.done]
    while alive:
        _deliver(lanes, executor)
        asking = [index for index in alive if lanes[index].asks()]
        if asking:
            requests = [lanes[index].ask() for index in asking]
            executor.submit(asking, _inference(infer, [lanes[index] for index in asking], requests, timing))
            _deliver(lanes, executor)
        if isinstance(infer, Correcting):
            _correct(infer, [lanes[index] for index in alive], timing)
        _act(lanes, alive, timing, on_tick)
        clock.advance()
        alive = [index for index in alive if not lanes[index].done]
    timing.total = perf_counter() - start
    return [lane.episode() for lane in lanes], timing


def _correct(infer: Correcting, lanes: Sequence[Lane], timing: Timing) -> None:
    """Correct the rows that run at this tick, all at once; a robot that has none left is not corrected."""
    running = [lane for lane in lanes if not lane.done and len(lane.controller.plan)]
    if not running:
        return
    start = perf_counter()
    actions = np.stack([lane.controller.plan[0] for lane in running])
    rows = np.array([lane.controller.row for lane in running])
    corrected = infer.correct(stack([lane.obs for lane in running]), actions, rows)
    timing.policy += perf_counter() - start
    for lane, action in zip(running, corrected, strict=True):
        lane.correct(action)


def _act(lanes: Sequence[Lane], alive: Sequence[int], timing: Timing, on_tick: OnTick | None) -> None:
    for index in alive:
        lane = lanes[index]
        if lane.done:  # its chunk or its correction was refused at this very tick
            continue
        if on_tick is not None:
            on_tick(index, lane.env, lane.controller)
        timing.env += lane.step()
        timing.control_steps += 1
        if on_tick is not None and lane.done:
            on_tick(index, lane.env, lane.controller)


def _inference(
    infer: Strategy, lanes: Sequence[Lane], requests: Sequence[Request | None], timing: Timing
) -> Callable[[], list[Answer]]:
    """The batched inference of `lanes` at this tick, to be run whenever and wherever the executor likes."""
    seen = [lane.obs for lane in lanes]
    # who is privileged may look into the simulator; everybody else sees what a robot would
    obs = (
        [Scene(lane.env, own) for lane, own in zip(lanes, seen, strict=True)]
        if infer.privileged
        else stack(seen)
    )
    noise = torch.stack([lane.draw_noise() for lane in lanes])

    def compute() -> list[Answer]:
        start = perf_counter()
        chunks, info = infer(obs, requests, noise)
        timing.policy += perf_counter() - start
        finite = np.all(np.isfinite(chunks), axis=(1, 2)).tolist()
        faults = [_fault(*pair) for pair in zip(finite, info.nonfinite_step.tolist(), strict=True)]
        nothing = np.zeros(len(faults), bool)
        redrawn, replaced = (nothing if rows is None else rows for rows in (info.redrawn, info.replaced))
        return [
            Answer(chunk, fault, info.network_calls * (1 + again), info.vjps if guided else 0, bool(instead))
            for chunk, fault, guided, again, instead in zip(
                chunks, faults, info.guided, redrawn.tolist(), replaced.tolist(), strict=True
            )
        ]

    return compute


def _fault(finite: bool, nonfinite_step: int) -> str | None:
    if nonfinite_step >= 0:
        return f"is not finite from flow step {nonfinite_step} on"
    return None if finite else "is not finite"


def _deliver(lanes: Sequence[Lane], executor: Executor[Answer]) -> None:
    for index, answer in executor.poll():
        if not lanes[index].done:
            lanes[index].receive(answer)
