"""Where a training reports to besides the terminal: TensorBoard, Weights & Biases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rtc.distributed import rank
from rtc.errors import InvalidArgument
from rtc.training import Run

TENSORBOARD = "tensorboard"  # the folder of its events


@runtime_checkable
class Log(Protocol):
    """Numbers by name at an optimiser step."""

    def write(self, step: int, values: dict[str, float]) -> None:
        """Note them."""
        ...

    def close(self) -> None:
        """Nothing more will come."""
        ...


class TensorBoard:
    """Event files in `folder`; what an interrupted run wrote after `step` is forgotten."""

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError:
            raise InvalidArgument(
                "--tensorboard needs the tensorboard package: pip install 'rtc[training]'"
            ) from None
        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Note them."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush."""
        self._writer.close()


class WeightsAndBiases:
    """A run called like the folder; the environment says which project, and whether it is online."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise InvalidArgument("--wandb needs the wandb package: pip install wandb") from None
        self._run = wandb.init(name=folder.name, dir=str(folder), config=config)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Note them."""
        self._run.log(values, step=step)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


@contextmanager
def open_logs(folder: Path, training: Run, *, tensorboard: bool, wandb: bool) -> Iterator[list[Log]]:
    """The logs that were asked for, of a training in `folder`, from where it is; one process keeps them.

    Raises InvalidArgument for one whose package is missing.
    """
    logs: list[Log] = []
    if tensorboard and rank() == 0:
        logs.append(TensorBoard(folder / TENSORBOARD, training.step))
    if wandb and rank() == 0:
        logs.append(WeightsAndBiases(folder, asdict(training.recipe)))
    try:
        yield logs
    finally:
        for log in logs:
            log.close()
