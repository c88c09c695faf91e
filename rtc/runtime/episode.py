"""What a rollout leaves behind: the episode, its chunks, its metrics, and where the time went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class ChunkRecord:
    """One chunk as it was asked for and as it joined.

    ```
    request_tick          delivery_tick
    | row 0 .. delay - 1  | first_row = delay ..        (first_row = 0 for a strategy that waits)
    | frozen: inference_delay rows of the old chunk |
    ```

    delay: counted ticks between request and delivery; inference_delay: the planned ones.
    executed: rows of the old chunk that had passed at the request, the realised execution horizon s.
    first_row: the first row that could still run; H or more: none, the chunk was outlived.
    frozen: [min(inference_delay, remaining), D], what inference was told would run meanwhile.
    chunk: [H, D] in env units.
    """

    request_tick: int
    delivery_tick: int
    delay: int
    inference_delay: int
    executed: int
    first_row: int
    frozen: Float[np.ndarray, "frozen action_dim"]
    chunk: Float[np.ndarray, "horizon action_dim"]


@dataclass(frozen=True, eq=False)
class Episode:
    """One episode.

    failure: None exactly when `success`; else the env's info["failure"], "timeout", "terminated", or why a
        chunk was refused. ticks: control ticks run, T.
    actions: [T, D], what the env was given, env units. chunks: the first (free) one and all delivered ones.
    delays: counted, one per delivered chunk but the first. starved_ticks: ticks without a row to run.
    boundary_jumps: where a chunk joins, the distance (env units) from the row that it replaces to its own.
    prefix_errors: for each delivered chunk with frozen rows, the root mean square of what it has there minus
        what was committed (env units).
    positions: [T + 1, 3] metres, or None if the env's info has no "position". rms_jerk: m/s^3, or None.
    network_calls, vjps: forward passes and vector-Jacobian products behind this episode's chunks.
    replaced_chunks: guided ones that were unfit, and gave way to unguided ones.
    time_to_success: seconds, or None.
    """

    seed: int
    success: bool
    failure: str | None
    ticks: int
    total_reward: float
    actions: Float[np.ndarray, "ticks action_dim"]
    chunks: list[ChunkRecord]
    delays: list[int]
    starved_ticks: int
    boundary_jumps: list[float]
    prefix_errors: list[float]
    positions: Float[np.ndarray, "positions 3"] | None
    rms_jerk: float | None
    network_calls: int
    vjps: int
    replaced_chunks: int
    time_to_success: float | None


@dataclass
class Timing:
    """Wall-clock seconds of a rollout, split by who spent them, and the control steps they bought."""

    total: float = 0.0
    env: float = 0.0
    policy: float = 0.0
    control_steps: int = 0

    @property
    def other(self) -> float:
        """Seconds in neither the env nor the policy: the runtime's own cost."""
        return self.total - self.env - self.policy

    @property
    def steps_per_second(self) -> float:
        """Control steps of all episodes together per second."""
        return self.control_steps / self.total if self.total > 0 else 0.0


def rms_jerk(positions: Sequence[np.ndarray] | np.ndarray, control_hz: float) -> float | None:
    """Root mean square of the norm of the third difference of positions [T + 1, 3] (m), in m/s^3.

    None for fewer than four positions.
    """
    if len(positions) < 4:
        return None
    jerk = np.diff(np.asarray(positions, np.float64), n=3, axis=0) * control_hz**3
    return float(np.sqrt((jerk**2).sum(axis=1).mean()))
