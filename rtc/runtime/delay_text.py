"""Delay models as users write them, on a command line or in a file of settings; `str(model)` is the way back.

| text                    | delay of an inference, in ticks                                               |
|-------------------------|-------------------------------------------------------------------------------|
| `4`                     | 4                                                                             |
| `uniform:2:6`           | 2, 3, 4, 5 or 6, each as likely                                               |
| `lognormal:4:0.5`       | median 4, standard deviation of its logarithm 0.5, to the nearest tick        |
| `spiky:2:8:0.1`         | 2, but 8 with chance 0.1                                                      |
| `bursty:2:8:0.05:0.3`   | 2 when calm, 8 when busy; after each, becomes busy with 0.05, calm with 0.3   |
| `trace:FILE`            | what FILE holds, one whole number a line, from the beginning again at its end |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rtc.errors import InvalidArgument
from rtc.runtime.latency import (
    BurstyDelay,
    ConstantDelay,
    DelayModel,
    LogNormalDelay,
    SpikyDelay,
    TraceDelay,
    UniformDelay,
)

EXAMPLES = ("4", "uniform:2:6", "lognormal:4:0.5", "spiky:2:8:0.1", "bursty:2:8:0.05:0.3", "trace:FILE")
"""One text of every form."""

_Number = Callable[[str], float]
_FORMS: dict[str, tuple[Callable[..., DelayModel], Sequence[_Number]]] = {
    "uniform": (UniformDelay, (int, int)),
    "lognormal": (LogNormalDelay, (float, float)),
    "spiky": (SpikyDelay, (int, int, float)),
    "bursty": (BurstyDelay, (int, int, float, float)),
}


def parse_delay(text: str) -> DelayModel:
    """The model that `text` names; InvalidArgument for what is none, or for a trace that cannot be read."""
    word, _, rest = text.strip().partition(":")
    if word == "trace" and rest:
        return TraceDelay(_read(rest), rest)
    build, kinds = _FORMS.get(word, (ConstantDelay, (int,)))
    numbers = rest.split(":") if word in _FORMS else [text]
    try:
        return build(*(kind(number) for kind, number in zip(kinds, numbers, strict=True)))
    except InvalidArgument as error:
        raise InvalidArgument(f"delay {text!r}: {error}") from None
    except ValueError:
        raise InvalidArgument(f"{text!r} is no delay; write it like one of {', '.join(EXAMPLES)}") from None


def _read(file: str) -> list[int]:
    """The delays of a trace: one a line, blank lines left out."""
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise InvalidArgument(
            f"delay trace {file} cannot be read ({reason}); give a text file, one delay a line"
        ) from None
    delays = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if not line.strip().isdecimal() or len(line) > 1000:
            raise InvalidArgument(
                f"delay trace {file}, line {number}: {line.strip()[:40]!r} is no delay; "
                "write one whole number of ticks a line, 0 or more"
            )
        delays.append(int(line))
    if not delays:
        raise InvalidArgument(f"delay trace {file} is empty; write one whole number of ticks a line")
    return delays
