"""What `rtc restore` writes and prints."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from rtc.cli.image_file import as_array, write_image
from rtc.cli.provenance import machine, versions
from rtc.cli.restore_plan import RESULTS
from rtc.inverse.catalogue import CATALOGUE
from rtc.inverse.images.known import ImagePrior
from rtc.inverse.methods.table import METHODS
from rtc.measurement import LinearMeasurement
from rtc.operators.base import Operator
from rtc.operators.masks import Mask
from rtc.serialise import read_json, write_json


@dataclass(frozen=True)
class Restored:
    """What one method made; image: [channels, height, width] in [0, 1], or None if it failed."""

    name: str
    image: Tensor | None
    document: dict[str, Any]


def write_all(
    options: dict[str, Any],
    known: ImagePrior,
    truth: Tensor,
    measurement: LinearMeasurement,
    results: list[Restored],
    code: str | None,
) -> None:
    """The files, in place of those of an earlier restoration."""
    from rtc.report.contact_sheet import Panel, write_contact_sheet

    out: Path = options["out"]
    out.mkdir(parents=True, exist_ok=True)
    if (out / RESULTS).exists():
        for name in read_json(out / RESULTS).get("files", []):
            (out / Path(name).name).unlink(missing_ok=True)
    seen = shown(measurement, known, truth)
    write_image(out / "truth.png", truth)
    write_image(out / "measurement.png", seen)
    panels = []
    for result in results:
        if result.image is None:
            panels.append(Panel(result.name, as_array(torch.zeros_like(truth)), ["failed"]))
            continue
        write_image(out / f"{result.name}.png", result.image)
        panels.append(Panel(result.name, as_array(result.image), captions(result.document)))
    heading = (
        f"{options['operator_name']}, $\\sigma_y$ = {options['noise']:g}, prior {options['prior_name']}, "
        f"{options['steps']} network calls, seed {options['seed']}"
    )
    write_contact_sheet(out / "sheet.png", heading, as_array(truth), as_array(seen), panels)
    files = ["truth.png", "measurement.png", "sheet.png", RESULTS]
    files += [f"{result.name}.png" for result in results if result.image is not None]
    settings = {name: value for name, value in options.items() if name not in ("out", "force", "listing")}
    write_json(
        out / RESULTS,
        {
            "settings": settings,
            "methods": {result.name: result.document for result in results},
            "files": files,
            "commit": code,
            "versions": versions(),
            "machine": machine(),
        },
    )


def captions(document: dict[str, Any]) -> list[str]:
    """What stands under a restoration."""
    calls = f"{document['network_calls']} calls"
    calls += f" + {document['vjps']} VJP" if document["vjps"] else ""
    return [
        f"{document['psnr']:.2f} dB   SSIM {document['ssim']:.3f}",
        f"residual {document['residual']:.2f}   {document['seconds']:.1f} s",
        calls,
    ]


def shown(measurement: LinearMeasurement, known: ImagePrior, truth: Tensor) -> Tensor:
    """The measurement as a picture [channels, height, width] in [0, 1]: y, or A^T y if y is none."""
    operator, y = measurement.operator, measurement.y
    assert isinstance(operator, Operator)  # as all of the catalogue
    if isinstance(operator, Mask):  # what is not seen is drawn grey
        seen = operator.picture(torch.ones_like(y))[0]
        return torch.where(seen > 0, known.pixels(operator.picture(y)[0]), 0.5)
    picture = known.pixels(operator.picture(y)[0])
    if picture.shape[-2:] != truth.shape[-2:]:
        picture = torch.nn.functional.interpolate(picture[None], truth.shape[-2:], mode="nearest")[0]
    return picture.expand(truth.shape) if picture.shape[0] == 1 else picture


def report(results: list[Restored], console: Console) -> None:
    """A table of the results on the terminal."""
    table = Table(box=None, header_style="bold")
    for head in ("method", "PSNR dB", "SSIM", "residual", "seconds", "calls", "VJPs"):
        table.add_column(head, justify="left" if head == "method" else "right")
    for result in results:
        made = result.document
        if result.image is None:
            table.add_row(result.name, "-", "-", "-", "-", "-", "-")
            continue
        table.add_row(
            result.name,
            f"{made['psnr']:.2f}",
            f"{made['ssim']:.3f}",
            f"{made['residual']:.2f}",
            f"{made['seconds']:.1f}",
            str(made["network_calls"]),
            str(made["vjps"]),
        )
    Console(file=sys.stdout).print(table)
    for result in results:
        if result.image is None:
            console.print(f"rtc: {result.name}: {result.document['failed']}", markup=False)


def print_lists(console: Console) -> None:
    """Methods with what each needs and costs, operators, priors."""
    console.print(
        "[bold]methods[/bold]   what it needs | what it makes of the noise | network calls a step | source"
    )
    family = ""
    for name, method in METHODS.items():
        if method.family != family:
            family = method.family
            console.print(f" {family}")
        needs = ", ".join(["A", *method.needs.split()])
        console.print(
            f"  [bold]{name:12}[/bold] {needs:15} | {method.noise:7} | {method.calls} | {method.source}",
            highlight=False,
            soft_wrap=True,
        )
        if method.knobs:
            knobs = "  ".join(
                f"{knob}={value:g}" if isinstance(value, float) else f"{knob}={value}"
                for knob, value in method.knobs.items()
            )
            console.print(f"               [dim]--knob {knobs}[/dim]", highlight=False, soft_wrap=True)
    console.print("\n[bold]operators[/bold]")
    for name, (what, _) in CATALOGUE.items():
        console.print(f"  {name:18} {what}", highlight=False, soft_wrap=True)
    console.print(
        "\n[bold]priors[/bold]\n  digits             28 x 28 handwritten digits; classes 0 to 9 with --label"
        "\n  ffdnet             a denoiser of colour photographs: a weak prior, for where much is seen"
        "\n  FOLDER             a checkpoint of `rtc train-prior`",
        highlight=False,
        soft_wrap=True,
    )
