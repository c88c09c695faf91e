"""`rtc train`: a policy from demonstrations."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch

from policies.training import STATE, Training, TrainingRecipe
from rtc.cli.environments import check_task
from rtc.cli.options import task_option
from rtc.cli.provenance import commit
from rtc.cli.train_log import TENSORBOARD, open_logs
from rtc.cli.train_loop import Judge, announce, begin, finish, fit, screen
from rtc.cli.train_options import (
    PolicyOptions,
    PolicyTraining,
    TrainOptions,
    policy_options,
    policy_training_options,
    training_options,
)
from rtc.cli.train_policy import Rows, rows_of, split, start
from rtc.cli.train_rollouts import check_relabelling, relabelled, success_without_delay
from rtc.distributed import rank

RELABELLED = "relabelled"  # the folder of DAgger's rounds, gone when the checkpoint is finished


@click.command(short_help="Train a policy on demonstrations.")
@task_option
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder that `rtc demos` wrote.")
@training_options(TrainingRecipe, "Chunks")
@policy_options()
@policy_training_options()
def train(task: str, data: Path, options: TrainOptions, shape: PolicyOptions, how: PolicyTraining) -> None:
    """Train a flow-matching policy; writes config.json, model.safetensors, recipe.json and loss.png.

    An interrupted training goes on from its last save, exactly as it would have, when the same command is
    given again without --force. Several devices: torchrun --nproc-per-node 2 -m rtc.cli train ...
    """
    recipe = options.recipe(TrainingRecipe, **asdict(how))
    device = options.start()
    policy, demonstrations, manifest = start(check_task(task), data, shape)
    if recipe.dagger:
        check_relabelling(policy)
    train_set, held_out = split(demonstrations, policy, recipe.validation, normalise=shape.origin is None)
    begin(options.out, options.force)
    training = Training(policy, recipe, device)
    if (options.out / STATE).exists():
        training.resume(options.out)
    elif rank() == 0:
        for left in (RELABELLED, TENSORBOARD):  # by a training that is replaced
            shutil.rmtree(options.out / left, ignore_errors=True)
    code = commit()  # the one that trains, whatever is committed meanwhile
    fit_in_rounds(training, train_set, held_out, options, manifest)
    origin = {} if shape.origin is None else {"from": str(shape.origin)}
    finish(training, options.out, {"data": manifest, "commit": code, **origin}, options.half)
    if rank() == 0:
        shutil.rmtree(options.out / RELABELLED, ignore_errors=True)
    announce(training, options.out)


def fit_in_rounds(
    training: Training, train_set: Rows, held_out: Rows, options: TrainOptions, manifest: dict[str, Any]
) -> None:
    """Fit to the end of the recipe, with its rounds of relabelling in between and its rollouts on the way."""
    recipe, out, judge = training.recipe, options.out, None
    assert isinstance(recipe, TrainingRecipe)
    if recipe.evaluate_every:
        judge = Judge(
            recipe.evaluate_every, lambda average: success_without_delay(average, recipe.evaluate_episodes)
        )
    with open_logs(out, training, tensorboard=options.tensorboard, wandb=options.wandb) as logs:
        for number in range(recipe.dagger + 1):
            if number:
                episodes = recipe.dagger_episodes
                more = relabelled(out / RELABELLED, number, episodes, training.average, manifest)
                rows = rows_of(more, training.policy)
                train_set = tuple(torch.cat(pair) for pair in zip(train_set, rows, strict=True))
            until = recipe.steps * (number + 1) // (recipe.dagger + 1)
            fit(training, train_set, held_out, out, screen(), until=until, judge=judge, logs=logs)
