"""`rtc train-check`: record, train and evaluate in small, to see that it all works."""

from __future__ import annotations

import copy
import tempfile
from functools import partial
from pathlib import Path

import click
import torch

from envs.demos import Recipe, record
from policies.checkpoint import load_policy
from policies.flow import FlowPolicy
from policies.training import Training, TrainingRecipe
from rtc.cli.demos_source import expert_env
from rtc.cli.progress import progress
from rtc.cli.train_loop import finish, fit, screen
from rtc.cli.train_policy import split
from rtc.cli.train_rollouts import episodes_without_delay
from rtc.errors import RtcError


@click.command("train-check", short_help="Train and judge a tiny policy, as a check.")
@click.option(
    "--episodes", type=click.IntRange(25), default=200, show_default=True, help="Demonstrations to record."
)
@click.option("--steps", type=click.IntRange(50), default=500, show_default=True, help="Optimiser steps.")
def train_check(episodes: int, steps: int) -> None:
    """Record, train and evaluate a tiny policy; fails unless the loss falls and the policy beats random."""
    console = screen()
    recipe = TrainingRecipe(steps=steps, batch_size=128, warmup=50)
    torch.set_num_threads(1)  # more only wait for each other on a network this small
    torch.manual_seed(recipe.seed)
    with progress(console, "recording", episodes, "episodes") as advance:
        demonstrations = record(
            partial(expert_env, "ReachPastPost-v0"),
            list(range(1_000_000, 1_000_000 + episodes)),
            Recipe(),
            on_episode=lambda: advance(1),
        )
    policy = FlowPolicy("ReachPastPost-v0", 18, 3, channels=48, row_hidden=32, channel_hidden=96, blocks=2)
    untrained = copy.deepcopy(policy)
    train_set, held_out = split(demonstrations, policy, recipe.validation)
    training = Training(policy, recipe)
    before = training.held_out_loss(*held_out)
    with tempfile.TemporaryDirectory() as folder:
        fit(training, train_set, held_out, Path(folder), console)
        finish(training, Path(folder), {})
        trained = load_policy(Path(folder), "ReachPastPost-v0")
    after = training.curve[-1]["held_out"]
    returns = []
    for candidate in (untrained.eval(), trained):
        played = episodes_without_delay(candidate, range(32), execution_horizon=4)
        returns.append(sum(episode.total_reward for episode in played) / len(played))
    click.echo(
        f"held-out loss {before:.3f} -> {after:.3f}; "
        f"mean return untrained {returns[0]:.2f}, trained {returns[1]:.2f}"
    )
    if not (after < 0.8 * before and returns[1] > returns[0] + 0.3):
        raise RtcError("training does not work: the loss should fall by a fifth and the return rise by 0.3")
