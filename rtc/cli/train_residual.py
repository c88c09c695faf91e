"""`rtc train-residual`: a head that corrects a policy's actions tick by tick, from demonstrations."""

from __future__ import annotations

from pathlib import Path

import click
from torch import Tensor

from policies.checkpoint import load_policy
from policies.residual import ResidualHead, ResidualRecipe, residual_loss
from rtc.checkpoint import CONFIG, WEIGHTS
from rtc.cli.progress import progress
from rtc.cli.provenance import commit
from rtc.cli.residual_rows import errors_by_row, residual_rows
from rtc.cli.train_log import open_logs
from rtc.cli.train_loop import announce, begin, finish, fit, screen
from rtc.cli.train_options import TrainOptions, training_options
from rtc.dataset import read_recording
from rtc.run_folder import fingerprint
from rtc.training import STATE, Run


@click.command("train-residual", short_help="Train a head that corrects a policy's actions.")
@click.option(
    "--policy", "folder", type=click.Path(path_type=Path), required=True, help="Checkpoint of the policy."
)
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder that `rtc demos` wrote.")
@click.option(
    "--frames",
    type=click.IntRange(1),
    default=ResidualRecipe.frames,
    show_default=True,
    help="Frames of the demonstrations at which chunks are drawn.",
)
@click.option(
    "--draws",
    type=click.IntRange(1),
    default=ResidualRecipe.draws,
    show_default=True,
    help="Chunks a frame, of which the one nearest to the demonstration counts.",
)
@training_options(ResidualRecipe, "Rows of chunks")
def train_residual(folder: Path, data: Path, frames: int, draws: int, options: TrainOptions) -> None:
    """Train a head for the strategy `residual`; --out POLICY/residual is where it is looked for.

    Writes config.json, model.safetensors, recipe.json (with the errors of the rows of a chunk) and loss.png.
    An interrupted training draws its chunks again and goes on from its last save, exactly as it would have,
    when the same command is given again without --force.
    """
    recipe = options.recipe(ResidualRecipe, frames=frames, draws=draws)
    policy = load_policy(folder)
    recording, manifest = read_recording(data, policy.task)
    device = options.start()
    begin(options.out, options.force)
    with progress(screen(), "drawing chunks", min(frames, len(recording.state)), "frames") as advance:
        rows = residual_rows(policy, recording, recipe, advance)
    train_set, held_out = rows.split(recipe.validation)
    policy_sha256 = fingerprint(folder / CONFIG, folder / WEIGHTS)
    head = ResidualHead.of(policy, train_set[0])
    training = Run(head, recipe, residual_loss, f"policy ({policy_sha256[:12]}) or head", device)
    if (options.out / STATE).exists():
        training.resume(options.out)
    code = commit()
    with open_logs(options.out, training, tensorboard=options.tensorboard, wandb=options.wandb) as logs:
        fit(training, train_set, held_out, options.out, screen(), logs=logs)
    origin = {
        "policy": {"task": policy.task, "sha256": policy_sha256},
        "data": manifest,
        "commit": code,
        "errors": _errors(training, held_out),
    }
    finish(training, options.out, origin, options.half)
    announce(training, options.out)


def _errors(training: Run, held_out: tuple[Tensor, ...]) -> list[dict[str, float]]:
    head = training.kept()
    assert isinstance(head, ResidualHead)
    return errors_by_row(head, held_out, head.horizon)
