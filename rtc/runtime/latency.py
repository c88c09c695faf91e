"""How many ticks inference takes: models of it for simulation.

`initial` is what a test on the bench would show: the usual delay, and where several are usual the largest.
Spikes and bursts come as a surprise, and `rtc.runtime.planning` learns of them. `str(model)` is the text that
`rtc.runtime.delay_text` reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, repeat
from typing import Protocol, runtime_checkable

import numpy as np

from rtc.errors import InvalidArgument


@runtime_checkable
class DelayModel(Protocol):
    """A simulated inference delay in ticks; picklable."""

    @property
    def initial(self) -> int:
        """What a robot would assume before its first measurement (d_init of Algorithm 1)."""
        ...

    def draws(self, rng: np.random.Generator) -> Iterator[int]:
        """The delays of one episode's inferences, in order and without end; chance comes from `rng` alone."""
        ...


@dataclass(frozen=True)
class ConstantDelay:
    """Every inference takes `ticks` >= 0 ticks, and that is what is assumed."""

    ticks: int

    def __post_init__(self) -> None:
        check_ticks(self.ticks)

    def __str__(self) -> str:
        return str(self.ticks)

    @property
    def initial(self) -> int:
        """The constant."""
        return self.ticks

    def draws(self, rng: np.random.Generator) -> Iterator[int]:
        """The constant; draws nothing."""
        return repeat(self.ticks)


@dataclass(frozen=True)
class UniformDelay:
    """Each whole number of ticks in `low`..`high` is as likely as any other; the largest is assumed."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _check_order("low", self.low, "high", self.high)

    def __str__(self) -> str:
        return f"uniform:{self.low}:{self.high}"

    @property
    def initial(self) -> int:
        """The largest, since every one is usual."""
        return self.high

    def draws(self, rng: np.random.Generator) -> Iterator[int]:
        """Independent draws."""
        while True:
            yield self.low + int((self.high - self.low + 1) * rng.random())


@dataclass(frozen=True)
class LogNormalDelay:
    """Delays whose logarithm is normal, rounded to the nearest tick: never below 0, a long tail upwards.

    median: ticks, above 0 and at most a million. sigma: standard deviation of the natural logarithm, 0..5.
    """

    median: float
    sigma: float

    def __post_init__(self) -> None:
        if not 0 < self.median <= 1e6:
            raise InvalidArgument(f"a median of {self.median} ticks; it must be above 0, at most a million")
        if not 0 <= self.sigma <= 5:
            raise InvalidArgument(f"sigma={self.sigma} of a delay's logarithm; it must be 0..5")

    def __str__(self) -> str:
        return f"lognormal:{_short(self.median)}:{_short(self.sigma)}"

    @property
    def initial(self) -> int:
        """The median, since there is no largest; to the nearest tick."""
        return round(self.median)

    def draws(self, rng: np.random.Generator) -> Iterator[int]:
        """Independent draws."""
        while True:
            yield round(self.median * math.exp(self.sigma * rng.standard_normal()))


@dataclass(frozen=True)
class SpikyDelay:
    """`usual` ticks, but with `chance` in 0..1, and independently, `spike` >= `usual` ticks."""

    usual: int
    spike: int
    chance: float

    def __post_init__(self) -> None:
        _check_order("usual", self.usual, "spike", self.spike)
        _check_chance("chance", self.chance)

    def __str__(self) -> str:
        return f"spiky:{self.usual}:{self.spike}:{_short(self.chance)}"

    @property
    def initial(self) -> int:
        """The usual delay."""
        return self.usual

    def draws(self, rng: np.random.Generator) -> Iterator[int]:
        """Independent draws."""
        while True:
            yield self.spike if rng.random() < self.chance else self.usual


@dataclass(frozen=True)
class BurstyDelay:
    """A machine that is calm or busy, and may change its state after every inference.

    ```
             become_busy                 calm <= busy: ticks of an inference in that state
    CALM ──────────────────► BUSY        become_busy, become_calm: chances of a change, 0..1, not both 0
     ▲     become_calm        │          a burst lasts 1 / become_calm inferences on average
     └────────────────────────┘
    ```

    An episode begins busy with the share that is busy in the long run: all of its delays have one law.
    Source: Gilbert 1960, "Capacity of a Burst-Noise Channel".
    """

    calm: int
    busy: int
    become_busy: float
    become_calm: float

    def __post_init__(self) -> None:
        _check_order("calm", self.calm, "busy", self.busy)
        _check_chance("become_busy", self.become_busy)
        _check_chance("become_calm", self.become_calm)
        if self.become_busy == self.become_calm == 0:
            raise InvalidArgument("become_busy and become_calm are both 0; at least one must be above 0")

    def __str__(self) -> str:
        return f"bursty:{self.calm}:{self.busy}:{_short(self.become_busy)}:{_short(self.become_calm)}"

    @property
    def initial(self) -> int:
        """The calm delay."""
        return self.calm

    def draws(self, rng: np.random.Generator) -> Iterator[int]:
        """The chain, from its stationary law on."""
        busy = rng.random() < self.become_busy / (self.become_busy + self.become_calm)
        while True:
            yield self.busy if busy else self.calm
            busy ^= rng.random() < (self.become_calm if busy else self.become_busy)


@dataclass(frozen=True)
class DistributionDelay:
    """Delays drawn independently from a table; the largest is assumed. It has no text form.

    values: the possible delays in ticks. probabilities: one each, summing to 1; equal ones by default.
    """

    values: Sequence[int]
    probabilities: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if not self.values:
            raise InvalidArgument("a delay distribution needs at least one value")
        for value in self.values:
            check_ticks(value)
        weights, count = self._weights(), len(self.values)
        if weights.shape != (count,) or not (weights >= 0).all() or abs(weights.sum() - 1) > 1e-6:
            raise InvalidArgument(
                f"probabilities={self.probabilities} for {count} delays; give one each, none negative, sum 1"
            )
        object.__setattr__(self, "values", tuple(self.values))
        object.__setattr__(self, "probabilities", tuple(weights.tolist()))

    @property
    def initial(self) -> int:
        """The largest possible delay."""
        return max(self.values)

    def draws(self, rng: np.random.Generator) -> Iterator[int]:
        """Independent draws, by inversion of the cumulative distribution."""
        cumulative = np.cumsum(self._weights()) / self._weights().sum()
        while True:
            yield self.values[int(np.searchsorted(cumulative, rng.random(), side="right"))]

    def _weights(self) -> np.ndarray:
        count = len(self.values)
        return np.full(count, 1 / count) if self.probabilities is None else np.asarray(self.probabilities)


@dataclass(frozen=True)
class TraceDelay:
    """Recorded delays, at least one, replayed in order and from the beginning again when they run out.

    ticks: what was recorded. file: where it was read from, for the text; the trace is what was read.
    """

    ticks: Sequence[int]
    file: str | None = None

    def __post_init__(self) -> None:
        if not self.ticks:
            raise InvalidArgument("a delay trace needs at least one value")
        for value in self.ticks:
            check_ticks(value)
        object.__setattr__(self, "ticks", tuple(self.ticks))

    def __str__(self) -> str:
        return repr(self) if self.file is None else f"trace:{self.file}"

    @property
    def initial(self) -> int:
        """The first of the trace."""
        return self.ticks[0]

    def draws(self, rng: np.random.Generator) -> Iterator[int]:
        """The trace, again and again; draws nothing."""
        return cycle(self.ticks)


def check_ticks(value: int) -> None:
    """Raise InvalidArgument unless `value` is a delay: a whole number of ticks, 0 or more."""
    if value < 0 or value != int(value):
        raise InvalidArgument(f"a delay of {value} ticks; it must be a whole number, 0 or more")


def _check_order(smaller: str, first: int, larger: str, second: int) -> None:
    check_ticks(first)
    check_ticks(second)
    if first > second:
        raise InvalidArgument(f"{smaller}={first} is more than {larger}={second}; the smaller comes first")


def _check_chance(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InvalidArgument(f"{name}={value}; a chance is 0..1")


def _short(value: float) -> str:
    """A number as it was typed: `4`, not `4.0`; reading it gives it back to the bit."""
    return repr(float(value)).removesuffix(".0")
