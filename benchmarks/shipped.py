"""The shipped weights: demonstrations, plain policy, its head, and policy with prefixes of every task, again.

    python -m benchmarks.shipped [--task Catch-v0 ...] [--threads 2]

Works in out/demos and out/policies, where each command goes on from what is there, and copies finished
checkpoints to policies/weights.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import click

from policies.checkpoint import DYNAMICS, shipped_checkpoint
from policies.residual import residual_folder

OUT = Path("out")
PLOT = shutil.ignore_patterns("loss.png")  # of what is small: recipe.json has the curve


class Made(NamedTuple):
    """How one task's weights are made: the arguments of `rtc demos` and `rtc train` that differ.

    offset, white: disturbances of the committed prefixes, action units: smaller where actions are precise.
    prefix_steps: of the second training, on prefixes, which begins from the first; 0: none is shipped, and
    neither dynamics nor a residual head.
    paused: how often the robot has waited before a label: for what is judged by stopping and thinking.
    """

    episodes: int
    offset: float
    white: float
    steps: int
    prefix_steps: int = 0
    paused: float = 0.0


MADE = {
    "ReachPastPost-v0": Made(9000, 0.3, 0.2, 5000, 2500),
    "ReachPastPostPosition-v0": Made(6000, 0.1, 0.07, 3000),
    "Catch-v0": Made(4000, 0.1, 0.05, 3000, 2500),
    "CatchPosition-v0": Made(4000, 0.03, 0.02, 5000, paused=0.3),
    "Peg-v0": Made(4000, 0.1, 0.05, 4000, 2500),
    "PegPosition-v0": Made(4000, 0.02, 0.01, 4000, paused=0.3),
    "Conveyor-v0": Made(4000, 0.1, 0.05, 5000, 2500),
    "ConveyorPosition-v0": Made(4000, 0.03, 0.015, 4000, paused=0.3),
    "SwingingBar-v0": Made(4000, 0.3, 0.2, 5000, 2500),
    "SwingingBarPosition-v0": Made(2500, 0.1, 0.05, 2500),
    "Tray-v0": Made(4000, 0.1, 0.07, 3000, 2500),
    "TrayPosition-v0": Made(3000, 0.05, 0.03, 2500, paused=0.3),
}


def rtc(*arguments: object) -> None:
    """Run a command of ours; its progress is on the screen."""
    subprocess.run([sys.executable, "-m", "rtc.cli", *map(str, arguments)], check=True)


def train(task: str, out: Path, threads: int, *arguments: object) -> None:
    """Train unless the checkpoint is finished, and ship it."""
    if not (out / "recipe.json").exists():
        fast = ("--bfloat16", "--compile", "--threads", threads, "--half")
        judged = ("--evaluate-every", 1000, "--evaluate-episodes", 128)
        rtc("train", "--task", task, "--data", OUT / "demos" / task, "--out", out, *fast, *judged, *arguments)
    shipped = shipped_checkpoint(task, prefix=out.name.endswith("-prefix"))
    shutil.copytree(out, shipped, ignore=shutil.ignore_patterns("tensorboard"), dirs_exist_ok=True)


def train_dynamics(task: str, out: Path, threads: int) -> None:
    """Train the model of the task's world unless it is finished, and ship it beside the plain policy."""
    if not (out / "recipe.json").exists():
        settings = ("--steps", 4000, "--threads", threads, "--half")
        rtc("train-dynamics", "--data", OUT / "demos" / task, "--out", out, *settings)
    shutil.copytree(out, shipped_checkpoint(task) / out.name, ignore=PLOT, dirs_exist_ok=True)


def train_residual(task: str, policy: Path, threads: int) -> None:
    """Train a head for the plain policy unless it is finished, and ship it; both policies run with it."""
    out = OUT / "residuals" / task
    if not (out / "recipe.json").exists():
        given = ("--policy", policy, "--data", OUT / "demos" / task, "--out", out)
        rtc("train-residual", *given, "--threads", threads, "--half")
    shutil.copytree(out, residual_folder(shipped_checkpoint(task)), ignore=PLOT, dirs_exist_ok=True)


def make(task: str, threads: int) -> None:
    """Everything that is shipped for one task."""
    made, plain = MADE[task], OUT / "policies" / task
    disturbed = ("--offset", made.offset, "--white", made.white, "--paused", made.paused)
    where = ("--format", "plain", "--out", OUT / "demos" / task)
    rtc("demos", "--task", task, "--episodes", made.episodes, *disturbed, *where)
    train(task, plain, threads, "--steps", made.steps)
    if made.prefix_steps:
        given = ("--from", plain, "--max-delay", 8, "--learning-rate", 0.001, "--steps", made.prefix_steps)
        train(task, plain.with_name(f"{task}-prefix"), threads, *given)
        train_dynamics(task, plain / DYNAMICS, threads)
        train_residual(task, plain, threads)


@click.command()
@click.option("--task", "tasks", multiple=True, type=click.Choice(list(MADE)), help="[default: all]")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True, help="Threads of torch.")
def main(tasks: tuple[str, ...], threads: int) -> None:
    """Record and train what policies/weights holds."""
    for task in tasks or MADE:
        make(task, threads)


if __name__ == "__main__":
    main()
