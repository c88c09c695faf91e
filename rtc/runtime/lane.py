"""One episode in progress: its env, its controller, its randomness, and what it will report."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter
from typing import NamedTuple

import gymnasium
import numpy as np
import torch

from rtc.errors import InvalidArgument
from rtc.runtime.controller import ChunkController, Request, Starvation
from rtc.runtime.episode import ChunkRecord, Episode, rms_jerk
from rtc.runtime.observation import History, Observation
from rtc.runtime.planning import DelayEstimator
from rtc.runtime.strategies import Strategy

ExecutionHorizon = int | Callable[[int], int]
"""Rows that pass before the next chunk is asked for: s, or a function of the planned delay (`at_least`)."""


class Answer(NamedTuple):
    """One episode's share of a batched inference.

    fault: why the chunk [H, D] is refused, or None. replaced: whether it is an unguided one in the place of
    a guided one that was unfit.
    """

    chunk: np.ndarray
    fault: str | None
    network_calls: int
    vjps: int
    replaced: bool = False


class Planner:
    """What an episode plans for: its delay, fixed or estimated, and the execution horizon that follows."""

    def __init__(
        self, execution_horizon: ExecutionHorizon, fixed_delay: int | None, estimator: DelayEstimator
    ) -> None:
        self._rule, self._fixed_delay, self._estimator = execution_horizon, fixed_delay, estimator
        self._update()

    def observe(self, delay: int) -> None:
        """Take a counted delay into account."""
        self._estimator.observe(delay)
        self._update()

    def _update(self) -> None:
        self.delay = self._estimator.delay if self._fixed_delay is None else self._fixed_delay
        self.execution_horizon = self._rule if isinstance(self._rule, int) else self._rule(self.delay)


class Lane:
    """An env and the chunks that drive it; `begin` with a first chunk, then `receive`, `ask` and `step`."""

    controller: ChunkController

    def __init__(self, env: gymnasium.Env, seed: int, planner: Planner, strategy: Strategy) -> None:
        self.env = env
        self.done = False
        self._seed, self._planner, self._strategy = seed, planner, strategy
        self._control_hz, self._action_dim = _control_hz(env), _action_dim(env)
        # Streams of a seed: the env has [seed], delays have [seed, 1], noise has [seed, 2].
        words = np.random.SeedSequence([seed, 2]).generate_state(1, np.uint64)
        self._generator = torch.Generator().manual_seed(int(words[0]))
        self._history = History(strategy.history)
        obs, info = env.reset(seed=seed)
        self._history.see(obs)
        self._positions = [np.array(info["position"])] if "position" in info else None
        self._request: Request | None = None
        self._corrected: np.ndarray | None = None
        self._actions: list[np.ndarray] = []
        self._chunks: list[ChunkRecord] = []
        self._boundary_jumps: list[float] = []
        self._prefix_errors: list[float] = []
        self._total_reward = 0.0
        self._network_calls = self._vjps = self._replaced = 0
        self._success = False
        self._failure: str | None = None

    @property
    def obs(self) -> Observation:
        """What the policy sees now."""
        return self._history.obs

    def draw_noise(self) -> torch.Tensor:
        """Standard normal [H, D] from the episode's own stream."""
        return torch.randn(self._strategy.horizon, self._action_dim, generator=self._generator)

    def begin(self, answer: Answer, starvation: Starvation) -> None:
        """Take the first chunk, which is free, and start its controller."""
        if not self._accept(answer, tick=0):
            return
        self.controller = ChunkController(answer.chunk, starvation=starvation, waits=self._strategy.waits)
        chunk = self.controller.chunk
        self._chunks.append(ChunkRecord(0, 0, 0, 0, 0, 0, chunk[:0], chunk))

    def asks(self) -> bool:
        """Whether it is time to infer; never after a refusal, which leaves its request in flight."""
        return self.controller.should_infer(self._planner.execution_horizon)

    def ask(self) -> Request:
        """Begin to infer."""
        self._request = self.controller.request(self._planner.delay)
        return self._request

    def receive(self, answer: Answer) -> None:
        """Hand the answer to the last request to the controller; an unfit chunk ends the episode."""
        request, controller = self._request, self.controller
        assert request is not None, "an answer without a request"
        if not self._accept(answer, request.tick):
            return
        frozen = request.previous[:0] if self._strategy.waits else request.frozen
        delay = controller.deliver(answer.chunk)
        self._planner.observe(delay)
        row = controller.row
        if row < request.remaining:
            jump = controller.chunk[row] - request.previous[row]
            self._boundary_jumps.append(math.sqrt(float(jump @ jump)))
        if len(frozen):
            error = (controller.chunk[: len(frozen)] - frozen).ravel()
            self._prefix_errors.append(math.sqrt(float(error @ error) / error.size))
        record = ChunkRecord(
            request_tick=request.tick,
            delivery_tick=controller.tick,
            delay=delay,
            inference_delay=request.inference_delay,
            executed=request.executed,
            first_row=row,
            frozen=frozen,
            chunk=controller.chunk,
        )
        self._chunks.append(record)

    def correct(self, action: np.ndarray) -> None:
        """Execute this [D] at this tick in the place of the plan's row; unless finite it ends the episode."""
        self._corrected = action
        if not np.isfinite(action).all():
            self._refuse(f"correction at tick {self.controller.tick} is not finite")

    def step(self) -> float:
        """Run one control tick; returns the seconds spent in the env."""
        action = self.controller.next_action(self._corrected)
        self._corrected = None
        start = perf_counter()
        obs, reward, terminated, truncated, info = self.env.step(action)
        seconds = perf_counter() - start
        self._history.see(obs)
        self._actions.append(action)
        self._total_reward += float(reward)
        if self._positions is not None:
            self._positions.append(np.array(info["position"]))
        if terminated or truncated:
            self.done, self._success = True, bool(info.get("is_success", False))
            if not self._success:
                self._failure = info.get("failure") or ("timeout" if truncated else "terminated")
        return seconds

    def episode(self) -> Episode:
        """The report, once `done`."""
        ticks = len(self._actions)
        positions = None if self._positions is None else np.array(self._positions)
        return Episode(
            seed=self._seed,
            success=self._success,
            failure=self._failure,
            ticks=ticks,
            total_reward=self._total_reward,
            actions=np.array(self._actions, np.float32).reshape(ticks, self._action_dim),
            chunks=self._chunks,
            delays=[record.delay for record in self._chunks[1:]],
            starved_ticks=self.controller.starved_ticks if self._chunks else 0,
            boundary_jumps=self._boundary_jumps,
            prefix_errors=self._prefix_errors,
            positions=positions,
            rms_jerk=None if positions is None else rms_jerk(positions, self._control_hz),
            network_calls=self._network_calls,
            vjps=self._vjps,
            replaced_chunks=self._replaced,
            time_to_success=ticks / self._control_hz if self._success else None,
        )

    def _accept(self, answer: Answer, tick: int) -> bool:
        self._network_calls += answer.network_calls
        self._vjps += answer.vjps
        self._replaced += answer.replaced
        if answer.fault is not None:
            self._refuse(f"chunk requested at tick {tick} {answer.fault}")
        return answer.fault is None

    def _refuse(self, reason: str) -> None:
        self.done, self._failure = True, f"{self._strategy.name}: {reason}"


def _control_hz(env: gymnasium.Env) -> float:
    control_hz = env.metadata.get("control_hz")
    if control_hz is None:
        raise InvalidArgument(
            f"{env} does not say how fast it runs; set its metadata['control_hz'], e.g. to 50"
        )
    return float(control_hz)


def _action_dim(env: gymnasium.Env) -> int:
    shape = env.action_space.shape
    if shape is None or len(shape) != 1:
        raise InvalidArgument(f"{env} has the action space {env.action_space}; a Box of one axis is needed")
    return shape[0]
