"""The options of the training commands, and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial, wraps
from pathlib import Path
from typing import Any, TypeVar

import click
import torch

from policies.flow import NETWORKS
from policies.training import TrainingRecipe
from rtc.cli.options import NameList
from rtc.distributed import join
from rtc.errors import InvalidArgument
from rtc.losses import TIMES
from rtc.training import Recipe

Kind = TypeVar("Kind", bound=Recipe)
Decorator = Callable[[Callable], Callable]


@dataclass(frozen=True)
class TrainOptions:
    """What every training is told on the command line; see the help of each option."""

    out: Path
    steps: int
    batch_size: int
    learning_rate: float
    bfloat16: bool
    compile: bool
    device: str
    threads: int | None
    seed: int
    half: bool
    tensorboard: bool
    wandb: bool
    force: bool

    def recipe(self, kind: type[Kind], **more: Any) -> Kind:
        """The recipe of that kind; `more`: what is its own."""
        shared = {item.name for item in fields(Recipe)} & {item.name for item in fields(self)}
        return kind(**{name: getattr(self, name) for name in shared}, **more)

    def start(self) -> torch.device:
        """Set the threads and the seed, meet the other processes, and return this one's device.

        Raises InvalidArgument for a device that does not exist here.
        """
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        torch.manual_seed(self.seed)
        try:
            device = join(torch.device(self.device))
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise InvalidArgument(
                f"device {self.device!r} cannot be used ({reason}); give cpu or cuda"
            ) from None
        return device


def training_options(recipe: type[Recipe], rows: str) -> Decorator:
    """Give a command the shared options, with the defaults of `recipe`, as one argument `options`.

    rows: what a batch is made of, for the help.
    """
    number = partial(click.option, show_default=True)
    options = [
        click.option(
            "--out", type=click.Path(path_type=Path), required=True, help="Folder of the checkpoint."
        ),
        number("--steps", type=click.IntRange(1), default=recipe.steps, help="Optimiser steps."),
        number(
            "--batch-size",
            type=click.IntRange(1),
            default=recipe.batch_size,
            help=f"{rows} a step, of all processes together.",
        ),
        number("--learning-rate", type=float, default=recipe.learning_rate, help="Peak learning rate."),
        click.option(
            "--bfloat16",
            is_flag=True,
            help="Mixed precision: faster on processors that know bfloat16, slower elsewhere.",
        ),
        click.option(
            "--compile", is_flag=True, help="Compile the loss: faster steps, later; needs a C++ compiler."
        ),
        number("--device", default="cpu", help="Where to train, in torch's words: cpu, cuda."),
        click.option("--threads", type=click.IntRange(1), help="Threads of torch.  [default: torch's own]"),
        number("--seed", type=click.IntRange(0), default=0, help="Of weights, batches and noise."),
        click.option("--half", is_flag=True, help="Write the weights as float16: half the size."),
        click.option("--tensorboard", is_flag=True, help="Log to OUT/tensorboard (extra: training)."),
        click.option("--wandb", is_flag=True, help="Log to Weights & Biases, where it is installed."),
        click.option(
            "--force",
            is_flag=True,
            help="Train again into a folder that holds a finished or another training.",
        ),
    ]
    return _gathered("options", TrainOptions, options)


@dataclass(frozen=True)
class PolicyOptions:
    """What policy is trained; None: the default, or what the checkpoint says that training goes on from."""

    origin: Path | None
    network: str | None
    channels: int | None
    blocks: int | None
    horizon: int | None
    history: int | None
    cameras: list[str] | None
    max_delay: int | None
    obs_dropout: float | None

    def given(self, *names: str) -> dict[str, Any]:
        """Those of `names` that were given."""
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}


def policy_options() -> Decorator:
    """Give a command the options of a policy, as one argument `shape`."""
    count = click.IntRange
    options = [
        click.option(
            "--from",
            "origin",
            type=click.Path(path_type=Path),
            help="Checkpoint to go on from, with its network and normalisation.",
        ),
        click.option("--network", type=click.Choice(NETWORKS), help="[default: mixer]"),
        click.option("--channels", type=count(8), help="Width of the network.  [default: 96]"),
        click.option("--blocks", type=count(1), help="Depth of the network.  [default: 3]"),
        click.option("--horizon", type=count(2), help="Actions in a chunk.  [default: the data's]"),
        click.option("--history", type=count(1), help="Observations seen at once.  [default: 1, the newest]"),
        click.option("--cameras", type=NameList(), help="Cameras whose images are seen.  [default: none]"),
        click.option(
            "--max-delay",
            type=count(0),
            help="Train on committed prefixes of up to so many rows (training-time RTC).  [default: 0]",
        ),
        click.option(
            "--obs-dropout",
            type=click.FloatRange(0, 1, max_open=True),
            help="Part of the observations left out, for classifier-free guidance.  [default: 0]",
        ),
    ]
    return _gathered("shape", PolicyOptions, options)


@dataclass(frozen=True)
class PolicyTraining:
    """How a policy is trained, beyond what every training is told."""

    times: str
    evaluate_every: int
    evaluate_episodes: int
    dagger: int
    dagger_episodes: int


def policy_training_options() -> Decorator:
    """Give a command the options of a policy's recipe, as one argument `how`."""
    defaults, option = TrainingRecipe, partial(click.option, show_default=True)
    options = [
        option(
            "--times",
            type=click.Choice(list(TIMES)),
            default=defaults.times,
            help="How flow times are drawn; beta dwells on the noise.",
        ),
        option(
            "--evaluate-every",
            type=click.IntRange(0),
            default=defaults.evaluate_every,
            help="Optimiser steps between rollouts at d = 0, of which the best weights are kept. 0: never.",
        ),
        option(
            "--evaluate-episodes",
            type=click.IntRange(1),
            default=defaults.evaluate_episodes,
            help="Episodes each time.",
        ),
        option(
            "--dagger",
            type=click.IntRange(0),
            default=defaults.dagger,
            help="Rounds of labelling the policy's own states, spread evenly over the steps.",
        ),
        option(
            "--dagger-episodes",
            type=click.IntRange(1),
            default=defaults.dagger_episodes,
            help="Episodes a round.",
        ),
    ]
    return _gathered("how", PolicyTraining, options)


def _gathered(argument: str, kind: type, options: Sequence[Decorator]) -> Decorator:
    """Give a command `options`, and hand them over as one `kind`, called `argument`."""

    def decorate(command: Callable) -> Callable:
        @wraps(command)
        def gathered(**given: Any) -> Any:
            own = {item.name: given.pop(item.name) for item in fields(kind)}
            return command(**{argument: kind(**own)}, **given)

        decorated: Callable = gathered
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate
