"""`rtc train`: a policy from demonstrations."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

import click
import torch
from huggingface_hub import PyTorchModelHubMixin
from rich.console import Console

from policies.checkpoint import CONFIG, WEIGHTS
from policies.flow import FlowPolicy
from policies.training import STATE, Training, TrainingRecipe
from rtc.cli.build import check_task
from rtc.cli.options import task_option
from rtc.cli.progress import progress
from rtc.cli.provenance import commit, machine, versions
from rtc.dataset import Demonstrations, read_demonstrations
from rtc.errors import InvalidArgument, OutputExists, RtcError
from rtc.serialise import whole_file, write_json
from rtc.training import Run

REPORT_EVERY = 100  # optimiser steps between two points of the loss curve
SAVE_EVERY = 500  # optimiser steps that an interrupted training loses at most; a multiple of REPORT_EVERY
RECIPE = "recipe.json"

Rows = tuple[torch.Tensor, torch.Tensor]
"""Observations [n, obs_dim] and normalised chunks [n, horizon, action_dim]."""


def split(demonstrations: Demonstrations, policy: FlowPolicy, every: int) -> tuple[Rows, Rows]:
    """(obs, normalised chunks) to train on, and the same of every `every`th episode, held out."""
    obs, chunks = torch.from_numpy(demonstrations.obs), torch.from_numpy(demonstrations.chunks)
    held_out = torch.from_numpy(demonstrations.episode % every == 0)
    policy.fit_normalisation(obs[~held_out], chunks[~held_out])
    chunks = policy.normalize(chunks)
    return (obs[~held_out], chunks[~held_out]), (obs[held_out], chunks[held_out])


def begin(folder: Path, force: bool) -> None:
    """Refuse a folder that is not ours to write into; with `force`, forget the training that it holds.

    A checkpoint is finished once its training's state is gone; until then an older one stays as it is.
    """
    if folder.exists() and any(folder.iterdir()):
        finished, unfinished = (folder / CONFIG).exists(), (folder / STATE).exists()
        if not (finished or unfinished):
            raise OutputExists(f"{folder} holds something else; it is left alone: choose another --out")
        if finished and not unfinished and not force:
            raise OutputExists(
                f"{folder} holds a finished checkpoint; choose another --out, or replace it with --force"
            )
        if force:
            (folder / STATE).unlink(missing_ok=True)


def fit(training: Run, data: Rows, held_out: Rows, folder: Path, console: Console) -> None:
    """Train to the end of the recipe with the state in `folder`; Ctrl-C loses what came after the last save.

    Raises RtcError as soon as the loss is not finite.
    """
    recipe, running = training.recipe, []
    training.save(folder)  # from the start the folder says whose it is
    with progress(console, "training", recipe.steps, "steps", done=training.step) as advance:
        while training.step < recipe.steps:
            running.append(training.advance(*data))
            advance(1)
            if training.step % REPORT_EVERY == 0 or training.step == recipe.steps:
                point = {"step": training.step, "loss": sum(running) / len(running)}
                if not isfinite(point["loss"]):
                    raise RtcError(
                        f"the loss is {point['loss']} at step {training.step}: the training diverged; "
                        "use a lower --learning-rate and another --out"
                    )
                training.curve.append(point | {"held_out": training.held_out_loss(*held_out)})
                running = []
            if training.step % SAVE_EVERY == 0:
                training.save(folder)
    training.save(folder)


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


@click.command(short_help="Train a policy on demonstrations.")
@task_option
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder that `rtc demos` wrote.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the checkpoint.")
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=TrainingRecipe.steps,
    show_default=True,
    help="Optimiser steps.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=TrainingRecipe.batch_size,
    show_default=True,
    help="Chunks a step.",
)
@click.option(
    "--learning-rate",
    type=float,
    default=TrainingRecipe.learning_rate,
    show_default=True,
    help="Peak learning rate.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of weights, batches and noise."
)
@click.option(
    "--threads", type=click.IntRange(1), default=None, help="Threads of torch.  [default: torch's own]"
)
@click.option(
    "--force", is_flag=True, help="Train again into a folder that holds a finished or another training."
)
def train(
    task: str,
    data: Path,
    out: Path,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    threads: int | None,
    force: bool,
) -> None:
    """Train a flow-matching policy; writes config.json, model.safetensors, recipe.json and loss.png.

    An interrupted training goes on from its last save, exactly as it would have, when the same command is
    given again without --force.
    """
    name = check_task(task)
    demonstrations, manifest = read_demonstrations(data, name)
    recipe = TrainingRecipe(steps=steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed)
    if threads is not None:
        torch.set_num_threads(threads)
    torch.manual_seed(seed)
    obs_dim, (horizon, action_dim) = demonstrations.obs.shape[1], demonstrations.chunks.shape[1:]
    policy = FlowPolicy(name, obs_dim, action_dim, horizon)
    train_set, held_out = split(demonstrations, policy, recipe.validation)
    if min(len(train_set[0]), len(held_out[0])) == 0:
        raise InvalidArgument(
            f"{data} has too few episodes to hold out every {recipe.validation}th; record more"
        )
    begin(out, force)
    training = Training(policy, recipe)
    if (out / STATE).exists():
        training.resume(out)
    code, console = (
        commit(),
        Console(stderr=True, highlight=False, soft_wrap=True),
    )  # the commit that trains, whatever is committed meanwhile
    fit(training, train_set, held_out, out, console)
    finish(training, out, {"data": manifest, "commit": code})
    last = training.curve[-1]
    console.print(f"held-out loss {last['held_out']:.4f} after {training.step} steps; policy in {out}")


def finish(training: Run, out: Path, origin: dict[str, Any]) -> None:
    """Write the checkpoint, how it was made, and its loss curve; drop the state that resuming needed."""
    with suppress(ImportError):
        draw_curve(training.curve, out / "loss.png")
    document = {
        "training": asdict(training.recipe),
        "seconds": round(training.seconds),
        "threads": torch.get_num_threads(),
        "held_out_loss": training.curve[-1]["held_out"],
        "curve": training.curve,
        "versions": versions(),
        "machine": machine(),
        **origin,
    }
    write_json(out / RECIPE, document)
    with tempfile.TemporaryDirectory(dir=out) as fresh:  # leaves behind the hub's README, which says nothing
        assert isinstance(training.average, PyTorchModelHubMixin)  # policies and image models are
        training.average.save_pretrained(fresh)
        for name in (WEIGHTS, CONFIG):
            os.replace(Path(fresh) / name, out / name)
    (out / STATE).unlink(missing_ok=True)
