"""A training on the command line: begins in a folder, fits with progress and logs, ends as a checkpoint."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from rich.console import Console
from torch import nn

from policies.checkpoint import halve
from rtc.checkpoint import CONFIG, WEIGHTS
from rtc.cli.progress import progress
from rtc.cli.provenance import machine, versions
from rtc.cli.train_log import Log
from rtc.distributed import rank, wait_for_all, world_size
from rtc.errors import OutputExists, RtcError
from rtc.serialise import whole_file, write_json
from rtc.training import STATE, Run

REPORT_EVERY = 100  # optimiser steps between two points of the loss curve
SAVE_EVERY = 500  # optimiser steps that an interrupted training loses at most; a multiple of REPORT_EVERY
RECIPE = "recipe.json"


@dataclass(frozen=True)
class Judge:
    """Scores the averaged network every so many steps, and at the end; more is better."""

    every: int
    score: Callable[[nn.Module], float]


def screen() -> Console:
    """Where a training talks: the terminal of the first process."""
    return Console(stderr=True, highlight=False, soft_wrap=True, quiet=rank() > 0)


def begin(folder: Path, force: bool) -> None:
    """Refuse a folder that is not ours to write into; with `force`, forget the training that it holds.

    A checkpoint is finished once its training's state is gone; until then an older one stays as it is.
    """
    if rank() == 0 and folder.exists():
        for broken in folder.glob(f".{Path(STATE).stem}.*"):  # a process was killed while it wrote this
            broken.unlink()
        finished, unfinished = (folder / CONFIG).exists(), (folder / STATE).exists()
        if any(folder.iterdir()) and not (finished or unfinished):
            raise OutputExists(f"{folder} holds something else; it is left alone: choose another --out")
        if finished and not unfinished and not force:
            raise OutputExists(
                f"{folder} holds a finished checkpoint; choose another --out, or replace it with --force"
            )
        if force:
            (folder / STATE).unlink(missing_ok=True)
    wait_for_all()


def fit(
    training: Run,
    data: Sequence[torch.Tensor],
    held_out: Sequence[torch.Tensor],
    folder: Path,
    console: Console,
    *,
    until: int | None = None,
    judge: Judge | None = None,
    logs: Sequence[Log] = (),
) -> None:
    """Train to step `until` (the recipe's last), the state in `folder`; a kill loses what came after a save.

    Raises RtcError as soon as the loss is not finite.
    """
    steps, running = training.recipe.steps if until is None else until, []
    data, held_out = ([values.to(training.device) for values in rows] for rows in (data, held_out))
    training.save(folder)  # from the start the folder says whose it is
    with progress(console, "training", steps, "steps", done=training.step) as advance:
        while training.step < steps:
            running.append(training.advance(*data))
            advance(1)
            if training.step % REPORT_EVERY == 0 or training.step == steps:
                _report(training, sum(running) / len(running), held_out, logs)
                running = []
            if judge is not None and (
                training.step % judge.every == 0 or training.step == training.recipe.steps
            ):
                _judge(training, judge, logs)
            if training.step % SAVE_EVERY == 0:
                training.save(folder)
    training.save(folder)


def _report(training: Run, loss: float, held_out: Sequence[torch.Tensor], logs: Sequence[Log]) -> None:
    if not isfinite(loss):
        raise RtcError(
            f"the loss is {loss} at step {training.step}: the training diverged; "
            "use a lower --learning-rate and another --out"
        )
    measured = {"loss": loss, "held_out": training.held_out_loss(*held_out)}
    training.curve.append({"step": training.step} | measured)
    for log in logs:
        log.write(training.step, measured | {"learning_rate": training.recipe.rate(training.step)})


def _judge(training: Run, judge: Judge, logs: Sequence[Log]) -> None:
    if rank() == 0:
        training.judge(judge.score(training.average))
        for log in logs:
            log.write(training.step, {"score": training.judged[-1]["score"]})
    wait_for_all()


def draw_curve(curve: list[dict[str, float]], path: Path) -> None:
    """The loss against the step; needs the `report` extra."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(
        [point["step"] for point in curve], [point["loss"] for point in curve], label="training", color="0.6"
    )
    axes.plot(
        [point["step"] for point in curve],
        [point["held_out"] for point in curve],
        label="held out (averaged weights)",
    )
    axes.set(xlabel="optimiser step", ylabel="loss", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=150)


def finish(training: Run, out: Path, origin: dict[str, Any], half: bool = False) -> None:
    """Write the checkpoint, how it was made, and its loss curve; drop the state that resuming needed."""
    if rank() > 0:
        return
    with suppress(ImportError):
        draw_curve(training.curve, out / "loss.png")
    judged = {"judged": training.judged, "best_step": training.best_step} if training.judged else {}
    document = {
        "training": asdict(training.recipe),
        "seconds": round(training.seconds),
        "threads": torch.get_num_threads(),
        "processes": world_size(),
        "device": training.device.type,
        "held_out_loss": training.curve[-1]["held_out"],
        "curve": training.curve,
        **judged,
        "versions": versions(),
        "machine": machine(),
        **origin,
    }
    write_json(out / RECIPE, document)
    network = training.kept()
    if half:
        halve(network)
    with tempfile.TemporaryDirectory(dir=out) as fresh:  # leaves behind the hub's README, which says nothing
        assert isinstance(network, PyTorchModelHubMixin)  # policies and image models are
        network.save_pretrained(fresh)
        for name in (WEIGHTS, CONFIG):
            os.replace(Path(fresh) / name, out / name)
    (out / STATE).unlink(missing_ok=True)


def announce(training: Run, out: Path) -> None:
    """Say how it ended, and where it is."""
    loss = training.curve[-1]["held_out"]
    screen().print(f"held-out loss {loss:.4f} after {training.step} steps; checkpoint in {out}")
