"""Held-out digits restored by every method, at the same number of network calls: docs/images.md.

    python -m benchmarks.digits [--workers 2] [--quick] [--only-report]

Each method has one knob, chosen from four values or fewer on digits that the table does not use, by PSNR;
particle methods, which cost several times as much, keep their defaults and get the first 10 digits.
Writes benchmarks/results/digits.json, the tables of docs/images.md and docs/images/digits.png. An interrupted
run goes on where it stopped. --quick: a few digits and methods in seconds, printed and not written.
"""

from __future__ import annotations

import base64
import io
import math
import shutil
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch import Generator, Tensor

from benchmarks.study import DOCS, RESULTS, write_between
from rtc.checkpoint import CONFIG, WEIGHTS
from rtc.cli.image_file import as_array
from rtc.cli.progress import progress
from rtc.cli.provenance import available_cores, commit, machine, versions
from rtc.inverse.catalogue import named_operator
from rtc.inverse.counting import CountingPrior
from rtc.inverse.images.digits import SHIPPED, held_out_digits
from rtc.inverse.images.known import image_prior
from rtc.inverse.methods.problem import Problem
from rtc.inverse.methods.table import METHODS
from rtc.inverse.quality import data_residual, psnr, ssim
from rtc.kernel import normal
from rtc.measurement import LinearMeasurement
from rtc.process_pool import in_workers
from rtc.report.statistics import paired_difference
from rtc.run_folder import fingerprint, open_folder
from rtc.serialise import read_json, write_json

OPERATORS = ("inpaint-box", "inpaint-random", "deblur", "superres")
NOISE = 0.05
CALLS, PARTICLES = 50, 4
IMAGES, TWICE, FEW, TUNING = range(100), range(20), range(10), range(100, 108)

FRACTIONS = (0.0, 0.5, 0.85, 1.0)
GRID: dict[str, tuple[str, tuple[Any, ...]]] = {
    "pigdm": ("eta", FRACTIONS),
    "tmpd": ("eta", FRACTIONS),
    "mmps": ("eta", FRACTIONS),
    "pokle-2": ("gamma", (0.5, 1.0, 2.0)),
    "pokle-3": ("gamma", (0.5, 1.0, 2.0)),
    "dps": ("zeta", (0.1, 0.3, 1.0, 3.0)),
    "lgd": ("zeta", (0.1, 0.3, 1.0, 3.0)),
    "mpgd": ("step", (0.5, 1.0, 3.0, 8.0)),
    "diffpir": ("lam", (0.5, 1.0, 3.0, 7.0)),
    "flower": ("gamma", (0.0, 1.0)),
    "score-ald": ("step", (0.03, 0.1, 0.2, 0.4)),
    "ddnm": ("eta", FRACTIONS),
    "ddnm-plus": ("eta", FRACTIONS),
    "ddrm": ("eta", FRACTIONS),
    "score-sde": ("solver", ("ddim", "ddpm")),
    "ilvr": ("stop", (0.5, 0.7, 0.8, 0.9)),
    "repaint": ("repeats", (2, 3, 5)),
    "ccdf": ("tau0", (0.1, 0.3, 0.5, 0.7)),
    "red-diff": ("prior_weight", (0.1, 0.25, 0.5, 1.0)),
    "d-flow": ("blend", (0.1,)),
    "flow-priors": ("learning_rate", (0.1,)),
    "pnp-flow": ("decay", (0.01, 0.25, 0.5, 1.0)),
    "daps": ("ode_steps", (1, 2, 5)),
    "importance": ("", (None,)),
    "bootstrap": ("twist", ("pigdm",)),
    "tds": ("twist", ("pigdm",)),
    "fps": ("freshness", (0.95,)),
    "mcgdiff": ("eta", (1.0,)),
}
"""Method -> its knob and the values tried. Each has the same right to be tuned, PiGDM included."""

COMPARED = ("pigdm", "mmps", "dps", "ddrm", "score-sde", "red-diff", "tds")
"""The columns of the picture."""


@dataclass(frozen=True)
class Cell:
    """One method on one operator. calls: network calls of each restoration."""

    operator: str
    method: str
    calls: int = CALLS
    images: range = IMAGES

    @property
    def name(self) -> str:
        """Unique, fit for a file name."""
        return f"{self.operator}-{self.method}-{self.calls}"


def measured(operator_name: str, images: range) -> tuple[Tensor, LinearMeasurement]:
    """Digits [n, 1, 28, 28] in [0, 1] and what is known of them, on the prior's scale.

    Every digit is measured once, whichever others are taken with it.
    """
    known, generator = image_prior("digits"), Generator().manual_seed(0)
    truth = known.pixels(held_out_digits().images)
    operator = named_operator(operator_name, tuple(truth.shape[1:]), generator)
    clean, sigma_y = operator.forward(known.scaled(truth)), NOISE * known.range
    y, part = clean + sigma_y * normal(clean, generator), slice(images.start, images.stop)
    return truth[part], LinearMeasurement(operator, y[part], sigma_y**2)


def restore(cell: Cell, knobs: dict[str, Any], seed: int) -> tuple[Tensor, CountingPrior, float]:
    """Restored digits in [0, 1], what the network was asked, and seconds."""
    known = image_prior("digits")
    truth, measurement = measured(cell.operator, cell.images)
    prior = CountingPrior(known.prior, 3)
    problem = Problem(
        prior=prior,
        measurement=measurement,
        shape=tuple(truth.shape),
        num_steps=cell.calls,
        data_std=known.data_std,
        data_mean=known.data_mean,
        num_particles=PARTICLES,
        generator=Generator().manual_seed(seed),
    )
    start = perf_counter()
    restored = METHODS[cell.method](problem, **knobs)
    return known.pixels(restored), prior, perf_counter() - start


def tuned(cell: Cell) -> tuple[dict[str, Any], dict[str, float]]:
    """The best knob on other digits, and the mean PSNR of each value that was tried."""
    knob, values = GRID[cell.method]
    if len(values) == 1:
        return {knob: values[0]} if knob else {}, {}
    tried = {}
    other = Cell(cell.operator, cell.method, cell.calls, TUNING)
    truth, _ = measured(other.operator, other.images)
    for value in values:
        restored, *_ = restore(other, {knob: value}, seed=1)
        tried[value] = mean_psnr(truth, restored)
    best = max(values, key=lambda value: tried[value])
    return {knob: best}, {str(value): round(score, 2) for value, score in tried.items()}


def mean_psnr(truth: Tensor, restored: Tensor) -> float:
    """Mean over images; minus infinity if a value is not finite."""
    if not torch.isfinite(restored).all():
        return -math.inf
    return float(np.mean([psnr(as_array(a), as_array(b)) for a, b in zip(truth, restored, strict=True)]))


def judge(cell: Cell) -> dict[str, Any]:
    """Every digit restored with the tuned knob, and some of them twice, as numbers."""
    knobs, tried = tuned(cell)
    truth, measurement = measured(cell.operator, cell.images)
    first, prior, seconds = restore(cell, knobs, seed=2)
    known, count = image_prior("digits"), len(truth)
    pairs = [(as_array(a), as_array(b)) for a, b in zip(truth, first, strict=True)]
    return {
        "operator": cell.operator,
        "method": cell.method,
        "knobs": knobs,
        "tried": tried,
        "psnr": [round(psnr(*pair), 4) for pair in pairs],
        "ssim": float(np.mean([ssim(*pair) for pair in pairs])),
        "residual": float(data_residual(measurement, known.scaled(first)).square().mean().sqrt()),
        "calibration": calibration(cell, knobs, truth, first),
        "calls": prior.forwards / count,
        "vjps": prior.vjps / count,
        "seconds": seconds / count,
        "picture": encoded(first[3]),
    }


def calibration(cell: Cell, knobs: dict[str, Any], truth: Tensor, first: Tensor) -> float:
    """Spread over error of two draws: 1 for draws from the posterior, 0 for a point estimate.

    Of two draws a, b from the posterior E (a - b)^2 / 2 = Var, and E (truth - (a + b) / 2)^2 = 1.5 Var.
    """
    again = Cell(cell.operator, cell.method, cell.calls, TWICE[: len(truth)])
    second, *_ = restore(again, knobs, seed=3)
    first, count = first[: len(second)], len(second)
    spread = float((first - second).square().mean()) / 2.0
    error = float((truth[:count] - 0.5 * (first + second)).square().mean()) / 1.5
    return math.sqrt(spread / error)


def encoded(image: Tensor) -> str:
    """A digit as a PNG file in text."""
    buffer = io.BytesIO()
    Image.fromarray((as_array(image) * 255).round().astype(np.uint8)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def decoded(text: str) -> np.ndarray:
    """The digit of `encoded`, in [0, 1]."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(text)))) / 255.0


def cells() -> list[Cell]:
    """Every method on every operator; and replacement with as many calls as PiGDM has forwards and VJPs."""
    few = {method for method in GRID if METHODS[method].family == "particles"}
    listed = [
        Cell(operator, method, images=FEW if method in few else IMAGES)
        for method in GRID
        for operator in OPERATORS
    ]
    return listed + [Cell(operator, "score-sde", 3 * CALLS) for operator in OPERATORS]


def run(workers: int) -> dict[str, Any]:
    """All cells, resumed; the document."""
    code = commit()
    decisive = {
        "prior_sha256": fingerprint(SHIPPED / CONFIG, SHIPPED / WEIGHTS),
        "noise": NOISE,
        "calls": CALLS,
        "particles": PARTICLES,
        "versions": versions(),
    }
    work = open_folder(RESULTS / "digits.work", decisive, force=False)
    work.cells.mkdir(exist_ok=True)
    left = [cell for cell in cells() if not (work.cells / f"{cell.name}.json").exists()]
    done = len(cells()) - len(left)
    with progress(Console(stderr=True), "restoring", len(cells()), "cells", done=done) as advance:
        for index, document in in_workers([partial(judge, cell) for cell in left], workers):
            write_json(work.cells / f"{left[index].name}.json", document)
            advance(1)
    rows = [read_json(work.cells / f"{cell.name}.json") for cell in cells()]
    truths = {}
    for operator in OPERATORS:
        truth, _ = measured(operator, IMAGES)
        truths[operator] = encoded(truth[3])
    shutil.rmtree(work.path)
    return decisive | {"commit": code, "machine": machine(), "truths": truths, "rows": rows}


def label(row: dict[str, Any]) -> str:
    """The method and its knob."""
    knobs = ", ".join(f"{name} {value}" for name, value in row["knobs"].items())
    few = f", {len(row['psnr'])} digits" if len(row["psnr"]) < len(IMAGES) else ""
    return f"{row['method']} ({knobs or '-'}{few})"


def table(document: dict[str, Any], operator: str) -> str:
    """The methods on one operator, best first."""
    rows = [row for row in document["rows"] if row["operator"] == operator]
    lines = [
        "| method (knob) | PSNR dB | SSIM | residual | spread / error | calls + VJPs | ms an image |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: -float(np.mean(row["psnr"]))):
        values = np.array(row["psnr"])
        half = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
        lines.append(
            f"| {label(row)} | {values.mean():.2f} ± {half:.2f} | {row['ssim']:.3f} | {row['residual']:.2f} "
            f"| {row['calibration']:.2f} | {row['calls']:.0f} + {row['vjps']:.0f} "
            f"| {1e3 * row['seconds']:.0f} |"
        )
    return "\n".join(lines)


def row_of(document: dict[str, Any], operator: str, method: str, which: int = 0) -> dict[str, Any]:
    """A method's row on an operator; which = -1 is replacement with three times the calls."""
    found = [row for row in document["rows"] if (row["operator"], row["method"]) == (operator, method)]
    return found[which]


def contrasts(document: dict[str, Any]) -> str:
    """The best guidance method against replacement and DPS, paired by image."""
    families = ("guidance", "proximal")  # the choices of C and S in the one formula
    guidance = [name for name in GRID if METHODS[name].family in families and name != "dps"]
    lines = [
        f"| measurement | best guidance | minus replacement, {CALLS} calls "
        f"| minus replacement, {3 * CALLS} calls | minus DPS |",
        "|---|---|---|---|---|",
    ]
    for operator in OPERATORS:
        best = max(guidance, key=lambda name: np.mean(row_of(document, operator, name)["psnr"]))
        ours = row_of(document, operator, best)["psnr"]
        others = [("score-sde", 0), ("score-sde", -1), ("dps", 0)]
        found = [paired_difference(ours, row_of(document, operator, *other)["psnr"]) for other in others]
        gaps = [f"{gap.value:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]" for gap in found]
        lines.append(f"| {operator} | {best} | {' | '.join(gaps)} |")
    return "\n".join(lines)


def draw(document: dict[str, Any]) -> None:
    """One digit under four measurements and some methods."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.15 * (len(COMPARED) + 2), 1.28 * len(OPERATORS) + 0.3), layout="constrained")
    axes = figure.subplots(len(OPERATORS), len(COMPARED) + 2, squeeze=False)
    for line, operator in zip(axes, OPERATORS, strict=True):
        _, measurement = measured(operator, IMAGES)
        pictures = [decoded(document["truths"][operator]), as_measurement(measurement)]
        pictures += [decoded(row_of(document, operator, method)["picture"]) for method in COMPARED]
        for place, picture in zip(line, pictures, strict=True):
            place.imshow(picture, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
            place.set(xticks=[], yticks=[])
        line[0].set_ylabel(operator, fontsize=8)
    for place, title in zip(axes[0], ("truth", "measured", *COMPARED), strict=True):
        place.set_title(title, fontsize=9)
    figure.savefig(DOCS / "images" / "digits.png", dpi=150)


def as_measurement(measurement: LinearMeasurement) -> np.ndarray:
    """What was measured of the digit that is drawn, in [0, 1]."""
    from rtc.cli.restore_output import shown

    known = image_prior("digits")
    one = LinearMeasurement(measurement.operator, measurement.y[3:4], measurement.noise_variance)
    return as_array(shown(one, known, torch.zeros(1, 28, 28)))


def report(document: dict[str, Any]) -> None:
    """Write the tables and the picture."""
    for operator in OPERATORS:
        write_between(DOCS / "images.md", f"digits {operator}", table(document, operator))
    write_between(DOCS / "images.md", "digits contrasts", contrasts(document))
    draw(document)


def quick() -> dict[str, Any]:
    """Three methods on four digits: what a test runs."""
    few = [Cell("inpaint-box", method, 8, range(4)) for method in ("pigdm", "score-sde", "dps")]
    return {"rows": [judge(cell) for cell in few]}


@click.command()
@click.option("--workers", type=click.IntRange(1), default=available_cores)
@click.option("--quick", "is_quick", is_flag=True, help="A subset in seconds, printed and not written.")
@click.option("--only-report", is_flag=True, help="Write the tables from the committed results.")
def main(workers: int, is_quick: bool, only_report: bool) -> None:
    """Run and report."""
    if is_quick:
        print(table(quick(), "inpaint-box"))
        return
    path = RESULTS / "digits.json"
    if not only_report:
        write_json(path, run(workers))
    report(read_json(path))


if __name__ == "__main__":
    main()
