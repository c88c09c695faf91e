"""`rtc train-dynamics`: a learned model of the world, for strategies that look ahead, from demonstrations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import torch

from policies.dynamics import Dynamics
from policies.dynamics_training import DynamicsRecipe, DynamicsTraining, prediction_errors
from rtc.cli.environments import check_task
from rtc.cli.provenance import commit
from rtc.cli.train_log import open_logs
from rtc.cli.train_loop import announce, begin, finish, fit, screen
from rtc.cli.train_options import TrainOptions, training_options
from rtc.cli.train_policy import of_held_out
from rtc.dataset import read_frames
from rtc.demonstrations import Frames
from rtc.errors import InvalidArgument
from rtc.training import STATE

MEASURED = (1, 4, 8)  # ticks after which the recipe says how far off the predictions are


@click.command("train-dynamics", short_help="Train a model of the world on demonstrations.")
@click.option("--task", metavar="ID", help="What the data are of, where they do not say it themselves.")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder that `rtc demos` wrote.")
@click.option(
    "--ahead",
    type=click.IntRange(1),
    default=DynamicsRecipe.ahead,
    show_default=True,
    help="Ticks that the loss predicts through.",
)
@training_options(DynamicsRecipe, "Windows of ticks")
def train_dynamics(task: str | None, data: Path, ahead: int, options: TrainOptions) -> None:
    """Train dynamics for `rollforward:model=learned`; --out POLICY/dynamics is where they are looked for.

    Writes config.json, model.safetensors, recipe.json (with the errors of the predictions) and loss.png. An
    interrupted training goes on from its last save, exactly as it would have, when the same command is given
    again without --force.
    """
    recipe = options.recipe(DynamicsRecipe, ahead=ahead)
    frames, manifest = read_frames(data, None if task is None else check_task(task))
    if manifest["task"] is None:
        raise InvalidArgument(f"{data} does not say what it is of; give --task")
    device = options.start()
    train_set, held_out = _windows(frames, ahead + 1, recipe.validation)
    dynamics = new_dynamics(manifest["task"], frames, train_set)
    begin(options.out, options.force)
    states, actions = torch.from_numpy(frames.state), torch.from_numpy(frames.action)
    training = DynamicsTraining(dynamics, recipe, states, actions, device)
    if (options.out / STATE).exists():
        training.resume(options.out)
    code = commit()
    with open_logs(options.out, training, tensorboard=options.tensorboard, wandb=options.wandb) as logs:
        fit(training, [train_set], [held_out], options.out, screen(), logs=logs)
    errors = _errors(training, frames, recipe.validation)
    finish(training, options.out, {"data": manifest, "commit": code, "errors": errors}, options.half)
    announce(training, options.out)


def _windows(frames: Frames, length: int, validation: int) -> tuple[torch.Tensor, torch.Tensor]:
    """First frames of the windows to train on, and of those that are held out."""
    first = frames.windows(length)
    if not len(first):
        raise InvalidArgument(
            f"no episode of the data has {length} frames; train with a smaller --ahead than {length - 1}"
        )
    held_out = of_held_out(frames.episode[first], validation)
    return torch.from_numpy(first[~held_out]), torch.from_numpy(first[held_out])


def new_dynamics(task: str, frames: Frames, first: torch.Tensor) -> Dynamics:
    """Untrained dynamics in the sizes of the frames, normalised by those at `first`, each with a next one."""
    states, actions = torch.from_numpy(frames.state), torch.from_numpy(frames.action)
    dynamics = Dynamics(task, states.shape[1], actions.shape[1])
    dynamics.fit_normalisation(states[first], actions[first], states[first + 1])
    return dynamics


def _errors(training: DynamicsTraining, frames: Frames, validation: int) -> dict[str, Any]:
    """`prediction_errors` on held-out episodes, as far as those are long enough."""
    dynamics = training.kept()
    assert isinstance(dynamics, Dynamics)
    states, actions = torch.from_numpy(frames.state), torch.from_numpy(frames.action)
    found = {}
    for later in MEASURED:
        first = frames.windows(later + 2)
        now = torch.from_numpy(first[frames.episode[first] % validation == 0]) + 1
        if len(now):
            found[str(later)] = prediction_errors(dynamics, states, actions, now, later)
    return found
