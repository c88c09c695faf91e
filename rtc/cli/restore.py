"""`rtc restore`: one measurement of one image, restored by one method or by several."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import torch
from rich.console import Console
from torch import Generator, Tensor

from rtc.cli.image_file import as_array
from rtc.cli.options import NameList
from rtc.cli.progress import progress
from rtc.cli.provenance import commit
from rtc.cli.restore_output import Restored, print_lists, report, write_all
from rtc.cli.restore_plan import (
    check_extra,
    check_folder,
    chosen_methods,
    load_truth,
    measure,
    read_knobs,
)
from rtc.errors import RtcError
from rtc.inverse.counting import CountingPrior
from rtc.inverse.images.known import ImagePrior, image_prior
from rtc.inverse.methods.problem import Method, Problem
from rtc.inverse.quality import data_residual, psnr, ssim
from rtc.measurement import LinearMeasurement


@click.command(short_help="Restore an image from a blurred, masked or small one.")
@click.option("--image", default="builtin", show_default=True, help="An image file, or builtin.")
@click.option(
    "--operator",
    "operator_name",
    default="inpaint-box",
    show_default=True,
    help="What was measured; see --list.",
)
@click.option(
    "--noise",
    type=click.FloatRange(0.0),
    default=0.05,
    show_default=True,
    help="sigma_y, for pixels in [0, 1].",
)
@click.option("--method", default=None, help="One method.  [default: pigdm]")
@click.option(
    "--methods", type=NameList(), default=None, help="Several, on the same measurement and seed; or all."
)
@click.option(
    "--prior",
    "prior_name",
    default="digits",
    show_default=True,
    help="digits, ffdnet, or a checkpoint folder.",
)
@click.option("--label", type=click.IntRange(0), default=None, help="Condition the prior on this class.")
@click.option(
    "--guidance",
    type=float,
    default=1.0,
    show_default=True,
    help="Weight of classifier-free guidance, with --label.",
)
@click.option(
    "--steps", type=click.IntRange(1), default=100, show_default=True, help="Network calls of a method."
)
@click.option(
    "--knob", "knobs", multiple=True, metavar="NAME=VALUE", help="A method's own setting: dps.zeta=0.3."
)
@click.option(
    "--particles",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Particles of particle methods.",
)
@click.option(
    "--particle-batch",
    type=click.IntRange(1),
    default=None,
    help="Particles in one network call.  [default: all]",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the noise, and of every method."
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=None, help="Folder to write into.  [required]"
)
@click.option("--force", is_flag=True, help="Replace the restoration that is in --out.")
@click.option("--list", "listing", is_flag=True, help="Print methods, operators and priors, and stop.")
def restore(**options: Any) -> None:
    """Restore an image; writes a PNG for each method, sheet.png with all of them, and results.json.

    The image is measured by an operator and noise, and restored from that measurement. Every method gets the
    same measurement, the same seed and the same number of network calls.
    """
    if options["listing"]:
        print_lists(Console())
        return
    if options["out"] is None:
        raise click.UsageError("Missing option '--out'.")
    check_extra()
    check_folder(options["out"], options["force"])
    code = commit()
    known = image_prior(options["prior_name"], options["label"], options["guidance"])
    truth = load_truth(options["image"], known, options["seed"])
    measurement = measure(truth, known, options["operator_name"], options["noise"], options["seed"])
    methods = chosen_methods(options["method"], options["methods"], measurement)
    knobs = read_knobs(options["knobs"], methods)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    results = list(run_all(methods, knobs, known, truth, measurement, options, console))
    write_all(options, known, truth, measurement, results, code)
    report(results, console)


def run_all(
    methods: dict[str, Method],
    knobs: dict[str, dict[str, Any]],
    known: ImagePrior,
    truth: Tensor,
    measurement: LinearMeasurement,
    options: dict[str, Any],
    console: Console,
) -> Iterator[Restored]:
    """Each method on the same problem; one that fails while others go on says so in its place."""
    total = options["steps"] * len(methods)
    with progress(console, "restoring", total, "steps") as advance:
        for name, method in methods.items():
            done = [0]

            def on_step(step: int, tau: float, x: Tensor, x1_hat: Tensor, done: list[int] = done) -> None:
                if done[0] < options["steps"]:
                    done[0] += 1
                    advance(1)

            prior = CountingPrior(known.prior, 3)
            problem = Problem(
                prior=prior,
                measurement=measurement,
                shape=(1, *truth.shape),
                num_steps=options["steps"],
                data_std=known.data_std,
                data_mean=known.data_mean,
                num_particles=options["particles"],
                particle_batch=options["particle_batch"],
                generator=Generator().manual_seed(options["seed"]),
                callback=on_step,
            )
            yield run_one(name, method, knobs[name], problem, prior, known, truth, alone=len(methods) == 1)
            advance(options["steps"] - done[0])


def run_one(
    name: str,
    method: Method,
    knobs: dict[str, Any],
    problem: Problem,
    prior: CountingPrior,
    known: ImagePrior,
    truth: Tensor,
    alone: bool,
) -> Restored:
    """Run a method and judge it. Raises RtcError if it fails and is alone."""
    start = perf_counter()
    try:
        restored = method(problem, **knobs)
        if not torch.isfinite(restored).all():
            raise RtcError(f"{name} diverged; give it more steps, or smaller knobs (rtc restore --list).")
    except RtcError as error:
        if alone:
            raise
        return Restored(name, None, {"failed": " ".join(str(error).split())})
    seconds = perf_counter() - start
    image = known.pixels(restored[0])
    first, second = as_array(truth), as_array(image)
    document = {
        "psnr": psnr(first, second),
        "ssim": ssim(first, second),
        "residual": float(data_residual(problem.measurement, restored)[0]),
        "seconds": seconds,
        "network_calls": prior.forwards,
        "vjps": prior.vjps,
        "knobs": {**method.knobs, **knobs},
    }
    return Restored(name, image, document)
